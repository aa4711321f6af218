"""Random numbers from keys (Philox 4x32-10), and the two updates of diffusion that use them."""
