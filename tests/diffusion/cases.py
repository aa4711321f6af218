"""What our samplers and those of diffusers are both run with: settings drawn at random, and our side of the runs.

A run starts from the same x, visits the same levels, asks the same network, and takes the same fresh noise; so every
step must agree.  diffusers' side stands in `diffusers_runs.py`; what it gives, and golden.npz keeps, is a `Record`.
"""

from dataclasses import dataclass, field

import numpy as np

from minidiff import backend
from minidiff.diffusion import CLEAN, SAMPLERS, Process, Run, Schedule, make_schedule
from minidiff.diffusion.schedule import Level

SHAPE = (2, 2, 2, 2)  # small, so that the golden file is; NHWC
DRAWS = 12  # of the settings of each scheduler
OFFSET = 3000  # the first thousand with which the draws cover every option: see test_diffusers.py

KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
TARGETS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "flow", "edm": "edm"}


@dataclass(frozen=True)
class Case:
    """One run.

    scheduler: diffusers' class without "Scheduler".  sampler: ours, with its settings in `ours`.
    kind: diffusers' name of the schedule, or "flow", "karras", "exponential".  prediction: its name of the target.
    spacing: its timestep_spacing, or "karras".  config, step: more settings for the class and for each of its steps.
    """

    scheduler: str
    sampler: str
    seed: int
    kind: str
    prediction: str
    steps: int
    spacing: str
    T: int = 1000
    betas: tuple[float, float] = (1e-4, 0.02)  # at T = 1000
    zero_snr: bool = False
    clip: str = "none"
    ours: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    step: dict = field(default_factory=dict)

    def __str__(self):
        return f"{self.scheduler} {self.seed}"

    @property
    def beside(self) -> bool:
        """Whether the scheduler's x is x0 + sigma n, the noise beside an image of scale one, and not our x_t."""
        return self.scheduler in ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete") or self.prediction == "edm"

    @property
    def changes_x_t(self) -> bool:
        """Whether a step starts by changing its x_t: by churning or correcting it."""
        return self.sampler == "unipc" or bool(self.ours.get("churn"))

    @property
    def schedule(self) -> Schedule:
        """Our schedule by that name; it is what `process` needs, and what churn looks up its levels in."""
        if self.kind in KINDS:
            return make_schedule(KINDS[self.kind], self.T, zero_snr=self.zero_snr, betas=self.betas)
        return make_schedule("flow" if self.kind == "flow" else "cosine")

    @property
    def x(self) -> np.ndarray:
        """What the sampler starts from: SHAPE float64."""
        return np.random.RandomState(self.seed).standard_normal(SHAPE)

    @property
    def z(self) -> np.ndarray:
        """The fresh noise of each step: (steps, *SHAPE) float64.

        None in the last of DDPM's: diffusers adds some to the image if the last t is above 0, we never do.
        """
        z = np.random.RandomState(1000 + self.seed).standard_normal((self.steps, *SHAPE))
        if self.scheduler == "DDPM":
            z[-1] = 0
        return z


@dataclass(frozen=True)
class Record:
    """What happened in a run, float64: levels (steps + 1, 3) of t, a, s; x_t, x0_hat, x_prev (steps, *SHAPE).

    Left out, (0, *SHAPE): x_t where it is the x_prev before; x0_hat where the scheduler does not tell it.
    """

    levels: np.ndarray
    x_t: np.ndarray
    x0_hat: np.ndarray
    x_prev: np.ndarray


def network(x, t):
    """Smooth in x and t, and different at every t: x (…) to the same."""
    return np.tanh(1.3 * x) * (0.6 + 0.4 * np.cos(t / 300)) + 0.2 * np.sin(x + t / 200)


class Recorded:
    """In place of samplers.Noise: the fresh noise of step `index` is z[index]."""

    def __init__(self, z):
        self.z = z

    def mix(self, x, x0_hat, x0_hat_last, c, index):
        y = c[0] * x + c[1] * x0_hat + c[3] * self.z[index]
        return y if x0_hat_last is None else y + c[2] * x0_hat_last


def ours(case: Case, levels: np.ndarray) -> Record:
    """Run our sampler over these levels."""
    schedule = case.schedule
    target = TARGETS[case.prediction]
    if target == "eps" and case.zero_snr:  # refused, see Process; diffusers puts 2^-24 in place of alpha_bar = 0
        schedule = make_schedule("linear")
    visited = [CLEAN if s == 0 else Level(t, a, s) for t, a, s in levels.tolist()]
    with backend.using("numpy"):
        settings = dict(case.ours)
        keep_eps = settings.pop("keep_eps", False)
        run = Run(network, Process(schedule, target), visited, Recorded(case.z), case.clip, keep_eps)
        path = SAMPLERS[case.sampler](run, case.x, **settings)
        steps = list(path)
    x_t, x0_hat, x_prev = (np.stack([getattr(step, name) for step in steps]) for name in ("x_t", "x0_hat", "x_prev"))
    return Record(levels, x_t, x0_hat, x_prev)


# -- the settings -------------------------------------------------------------------------------------------------


def draw_cases() -> list[Case]:
    """Return all cases: `DRAWS` of each scheduler."""
    return [case for index, draw in enumerate(SCHEDULERS) for case in _drawn(index, draw)]


def _drawn(index, draw):
    for number in range(DRAWS):
        seed = 100 * index + number
        yield draw(np.random.RandomState(OFFSET + seed), seed)


def _any(rng, options):
    return options[rng.randint(len(options))]


def _common(rng, seed, *, predictions=("epsilon", "sample", "v_prediction"), spacings=("leading", "trailing"), most=7):
    betas = _any(rng, ((1e-4, 0.02), (0.00085, 0.012)))
    return dict(
        seed=seed,
        kind=tuple(KINDS)[seed % 4],  # twelve draws have each kind with each prediction
        prediction=predictions[seed % 100 // 4 % len(predictions)],
        spacing=_any(rng, spacings),
        steps=int(rng.randint(2, most + 1)),
        T=_any(rng, (1000, 400)),
        betas=betas,
    )


def _zero_snr(rng, common):
    """Zero terminal SNR, in two thirds of the cases that can have it."""
    return bool(rng.randint(3)) and common["prediction"] != "epsilon" and common["spacing"] != "karras"


ALL = ("leading", "trailing", "linspace")


def _ddpm(rng, seed):
    common = _common(rng, seed, spacings=ALL)
    variance = _any(rng, ("small", "large"))
    return Case(
        "DDPM", "ddpm", **common, clip=_any(rng, ("none", "clip", "dynamic")), zero_snr=_zero_snr(rng, common),
        ours={"variance": variance}, config={"variance_type": f"fixed_{variance}"},
    )  # fmt: skip


def _ddim(rng, seed):
    """Each step goes to t - T // steps, which is the next listed t if steps divide T, and never in "linspace".

    use_clipped_model_output: eps_hat is recomputed from the clipped x0_hat, as ours does unless told to keep it.
    """
    common = _common(rng, seed)
    common["steps"] = _any(rng, (2, 4, 5, 8))
    eta = _any(rng, (0.0, 0.5, 1.0))
    final = {"set_alpha_to_one": bool(rng.randint(2)) or common["spacing"] == "leading"}  # else the last step stands
    clip, zero_snr, keep = _any(rng, ("none", "clip", "dynamic")), _zero_snr(rng, common), bool(rng.randint(2))
    return Case(
        "DDIM", "ddim", **common, clip=clip, zero_snr=zero_snr, config=final,
        ours={"eta": eta, "keep_eps": keep}, step={"eta": eta, "use_clipped_model_output": not keep},
    )  # fmt: skip


def _final(rng, common, spacings):
    """Where the last step goes: to the image, or to the smallest sigma if that is not visited already."""
    return _any(rng, ("zero", "sigma_min")) if common["spacing"] in spacings else "zero"


def _euler(rng, seed):
    """With churn diffusers asks the network about x_t at sigma and takes the answer for one about x_hat at sigma_hat.

    EDM's algorithm 2, and we, ask about x_hat; so does `diffusers_runs`, and only the step is diffusers'.  Its
    v_prediction keeps sigma there where sigma_hat belongs, and "leading" leaves room for sigma_hat.
    """
    churn = _any(rng, (0.0, 1.0))
    spacings, predictions = (*ALL, "karras"), ("epsilon", "sample", "v_prediction")
    if churn:
        spacings, predictions = ("leading",), ("epsilon", "sample")
    common = _common(rng, seed, predictions=predictions, spacings=spacings)
    final = _final(rng, common, ("trailing",))
    return Case(
        "EulerDiscrete", "euler", **common, zero_snr=not churn and _zero_snr(rng, common),
        ours={"churn": churn}, config={"final_sigmas_type": final}, step={"s_churn": churn},
    )  # fmt: skip


def _ancestral(rng, seed):
    common = _common(rng, seed, predictions=("epsilon", "v_prediction"), spacings=ALL)
    return Case("EulerAncestralDiscrete", "euler-ancestral", **common, zero_snr=_zero_snr(rng, common))


def _heun(rng, seed):
    common = _common(rng, seed, spacings=(*ALL, "karras"))
    return Case("HeunDiscrete", "heun", **common, clip=_any(rng, ("none", "clip")))


def _multistep(rng, seed, scheduler, sampler, config):
    """lower_order_final would take the last step to a sigma above 0 with order 1; we take it with order 2."""
    common = _common(rng, seed, spacings=(*ALL, "karras", "flow"), most=9)
    if common["spacing"] == "flow":
        common |= dict(kind="flow", prediction="flow_prediction", T=1000, betas=(1e-4, 0.02))
        config = {**config, "use_flow_sigmas": True, "flow_shift": _any(rng, (1.0, 3.0))}
    final = _final(rng, common, ("leading", "trailing", "linspace"))
    zero_snr = common["spacing"] != "flow" and _zero_snr(rng, common)
    config = {**config, "final_sigmas_type": final, "lower_order_final": final == "zero"}
    return Case(scheduler, sampler, **common, clip=_any(rng, ("none", "dynamic")), zero_snr=zero_snr, config=config)


def _dpm(rng, seed):
    return _multistep(rng, seed, "DPMSolverMultistep", "dpm-solver", {"algorithm_type": "dpmsolver++"})


def _dpm_sde(rng, seed):
    return _multistep(rng, seed, "DPMSolverMultistep", "dpm-solver-sde", {"algorithm_type": "sde-dpmsolver++"})


def _unipc(rng, seed):
    return _multistep(rng, seed, "UniPCMultistep", "unipc", {})


def _flow(rng, seed):
    return Case(
        "FlowMatchEulerDiscrete", "euler", seed=seed, kind="flow", prediction="flow_prediction", spacing="flow",
        steps=int(rng.randint(2, 9)), config={"shift": _any(rng, (1.0, 0.5, 3.0))},
    )  # fmt: skip


def _edm(rng, seed):
    churn = _any(rng, (0.0, 2.0))  # as in `_euler`
    return Case(
        "EDMEuler", "euler", seed=seed, kind=_any(rng, ("karras", "exponential")), prediction="edm", spacing="edm",
        steps=int(rng.randint(2, 9)), ours={"churn": churn}, step={"s_churn": churn},
    )  # fmt: skip


def _edm_dpm(rng, seed):
    stochastic = bool(rng.randint(2))
    return Case(
        "EDMDPMSolverMultistep", "dpm-solver-sde" if stochastic else "dpm-solver", seed=seed,
        kind=_any(rng, ("karras", "exponential")), prediction="edm", spacing="edm", steps=int(rng.randint(2, 9)),
        clip=_any(rng, ("none", "dynamic")),
        config={"algorithm_type": "sde-dpmsolver++" if stochastic else "dpmsolver++"},
    )  # fmt: skip


SCHEDULERS = (_ddpm, _ddim, _euler, _ancestral, _heun, _dpm, _dpm_sde, _unipc, _flow, _edm, _edm_dpm)
CASES = draw_cases()
