"""minidiff beside PyTorch: the same network, the same step, the same sampler, in turn on the same machine.

    python -m benchmarks.peers [all|conv|step|sample|latent|growth|start|ddpm] --json FILE

Idea: a speed says little until it stands beside another's, measured in the same minutes on the same machine, and only
after both were seen to compute the same.
Reading order: problems (what is computed), ours, torch_unet and torch_jobs (who computes it), workers (each in a
process of its own), records (what the times say), then a file a section: conv, network, latent, growth, start, ddpm.
Leaves out the kernels' versions beside each other: that is `pytest benchmarks`.
"""
