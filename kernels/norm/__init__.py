"""Group normalisation, with SiLU behind it if asked: the output and its gradients."""
