"""Element-wise addition, and concatenation and splitting of channels."""
