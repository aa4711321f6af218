"""diffusers' side of the runs that `cases.py` describes.

Its schedulers compute in float32, whatever they are given.  Here the modules that they stand in see a torch and a
numpy whose float32 is float64, so that nothing but rounding to 1e-16 is left between both sides; and they take the
fresh noise that the case has.  Written for diffusers 0.42.
"""

import importlib
from contextlib import contextmanager

import diffusers
import numpy as np
import torch

from tests.diffusion.cases import SHAPE, Case, Record, network

MODULES = {
    "DDPM": "ddpm",
    "DDIM": "ddim",
    "EulerDiscrete": "euler_discrete",
    "EulerAncestralDiscrete": "euler_ancestral_discrete",
    "HeunDiscrete": "heun_discrete",
    "DPMSolverMultistep": "dpmsolver_multistep",
    "UniPCMultistep": "unipc_multistep",
    "FlowMatchEulerDiscrete": "flow_match_euler_discrete",
    "EDMEuler": "edm_euler",
    "EDMDPMSolverMultistep": "edm_dpmsolver_multistep",
}


class InDouble:
    """A module whose float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, "float64" if name == "float32" else name)


@contextmanager
def in_double(name, randn=None):
    """Let that scheduler's module compute in float64, and draw its noise by the function `randn`."""
    module = importlib.import_module(f"diffusers.schedulers.scheduling_{MODULES[name]}")
    before = {key: vars(module)[key] for key in ("torch", "np", "randn_tensor") if key in vars(module)}
    module.torch, module.np = InDouble(torch), InDouble(np)
    module.randn_tensor = randn
    torch.set_default_dtype(torch.float64)
    try:
        yield getattr(diffusers, f"{name}Scheduler")
    finally:
        torch.set_default_dtype(torch.float32)
        vars(module).update(before)


def made(cls, case: Case):
    """The scheduler of a case."""
    config = dict(case.config)
    if case.scheduler == "FlowMatchEulerDiscrete":
        return cls(**config)
    if case.prediction == "edm":
        config["sigma_schedule"] = case.kind
    else:
        config["prediction_type"] = case.prediction
        config["num_train_timesteps"] = case.T
    if case.kind not in ("flow", "karras", "exponential"):
        start, stop = (beta * 1000 / case.T for beta in case.betas)
        config |= dict(beta_start=start, beta_end=stop, beta_schedule=case.kind)
        if case.kind == "sigmoid" and case.scheduler != "DDPM":  # the only one that knows it
            del config["beta_schedule"]
            with in_double("DDPM") as ddpm:
                like = ddpm(num_train_timesteps=case.T, beta_schedule="sigmoid", beta_start=start, beta_end=stop)
            config["trained_betas"] = like.betas.tolist()
    if case.spacing in ("leading", "trailing", "linspace"):
        config["timestep_spacing"] = case.spacing
    if case.spacing == "karras":
        config["use_karras_sigmas"] = True
    if case.zero_snr:
        config["rescale_betas_zero_snr"] = True
    if case.scheduler in ("DDPM", "DDIM", "HeunDiscrete"):
        config["clip_sample"] = case.clip == "clip"
    if case.clip == "dynamic":
        config |= dict(thresholding=True, dynamic_thresholding_ratio=0.995, sample_max_value=1e9)
    return cls(**config)


def levels_of(scheduler, case: Case) -> np.ndarray:
    """The levels that the scheduler visits, and where its last step ends: (steps + 1, 3) of t, a, s."""
    if case.scheduler in ("DDPM", "DDIM"):
        t = scheduler.timesteps.numpy()
        alpha_bar = scheduler.alphas_cumprod.numpy()[t]
        last = scheduler.final_alpha_cumprod.item() if case.scheduler == "DDIM" else 1.0
        a, s = np.sqrt([*alpha_bar, last]), np.sqrt(1 - np.array([*alpha_bar, last]))
        return np.stack([[*t, -1], a, s], 1).astype(float)
    t, sigma = scheduler.timesteps.numpy(), scheduler.sigmas.numpy()
    if case.scheduler == "HeunDiscrete":  # all but the first are listed twice
        t, sigma = t[::2], np.concatenate([sigma[:1], sigma[1::2]])
    if case.prediction == "edm":
        t = 1000 * t
    if case.kind == "flow":
        a, s = 1 - sigma, sigma
    else:
        a = 1 / np.sqrt(1 + sigma**2)
        s = sigma * a
    return np.stack([[*t, -1], a, s], 1)


def theirs(case: Case) -> Record:
    """Run diffusers' scheduler; x_t, x0_hat and x_prev in our scale, x_t = a x0 + s eps."""
    z, index = torch.from_numpy(case.z), 0
    with in_double(case.scheduler, lambda *_, **__: z[index]) as cls:
        scheduler = made(cls, case)
        scheduler.set_timesteps(case.steps)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)  # else it looks for the first t, and takes the second where two are equal
        levels = levels_of(scheduler, case)
        scales = [1 / a if case.beside else 1.0 for a in levels[:, 1]]
        x = torch.from_numpy(case.x * scales[0])
        seen = []
        times = iter(scheduler.timesteps)
        for index in range(case.steps):
            t = next(times)
            output, x_t = _asked(scheduler, case, x, t, levels[index], z[index])
            after = scheduler.step(output, t, x, **case.step)
            x0_hat = getattr(after, "pred_original_sample", None)
            if hasattr(scheduler, "model_outputs"):  # where the multistep solvers keep it
                x0_hat = scheduler.model_outputs[-1]
            if case.scheduler == "UniPCMultistep":
                x_t = scheduler.last_sample.numpy()  # corrected
            x = after.prev_sample
            if case.scheduler == "HeunDiscrete" and index < case.steps - 1:
                t = next(times)
                x = scheduler.step(torch.from_numpy(network(_shown(scheduler, x, t), t.item())), t, x).prev_sample
            seen.append((x_t, x0_hat, x.numpy() / scales[index + 1]))
    x_t, x0_hat, x_prev = zip(*seen)
    left_out = np.zeros((0, *SHAPE))
    return Record(
        levels,
        np.stack(x_t) if case.changes_x_t else left_out,
        torch.stack(x0_hat).numpy() if x0_hat[0] is not None else left_out,
        np.stack(x_prev),
    )


def _shown(scheduler, x, t):
    return scheduler.scale_model_input(x, t).numpy() if hasattr(scheduler, "scale_model_input") else x.numpy()


def _asked(scheduler, case, x, t, level, z):
    """Return the network's answer about x, churned if the case says so, and what x_t is in our scale."""
    shown = _shown(scheduler, x, t)
    t, a, _ = level
    x_t = a * x.numpy() if case.beside else x.numpy()
    if case.step.get("s_churn"):
        sigma = scheduler.sigmas[scheduler.step_index].item()
        sigma_hat = sigma * (1 + min(case.step["s_churn"] / case.steps, 2**0.5 - 1))
        x_hat = x.numpy() + np.sqrt(sigma_hat**2 - sigma**2) * z.numpy()
        x_t = x_hat / np.sqrt(1 + sigma_hat**2)
        if case.prediction == "edm":
            shown = scheduler.precondition_inputs(torch.from_numpy(x_hat), sigma_hat).numpy()
            t = 1000 * scheduler.precondition_noise(sigma_hat).item()
        else:
            alpha_bar = scheduler.alphas_cumprod.numpy()
            t = scheduler._sigma_to_t(np.array(sigma_hat), np.log(((1 - alpha_bar) / alpha_bar) ** 0.5)).item()
            shown = x_t
    return torch.from_numpy(network(shown, t)), x_t
