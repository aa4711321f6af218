"""AdamW with an exponential moving average of the weights, over flat arrays."""
