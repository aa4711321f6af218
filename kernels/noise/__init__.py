"""Random numbers from keys (Philox 4x32-10), and the two functions that use them: `add_noise`, `sampler_update`."""
