"""What steers the denoiser: a prompt, a drawing, another picture; read words, text, control, reference."""
