"""Group normalisation, optionally followed by SiLU: the output and its gradients."""
