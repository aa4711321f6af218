"""Multi-head attention: the output and its gradients."""
