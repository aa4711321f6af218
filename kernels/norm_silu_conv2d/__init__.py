"""Group normalisation, SiLU and a convolution as one operation: what a residual block is made of."""
