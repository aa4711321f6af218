"""What diffusers has beside its samplers, live: curves, noise put on, v, EDM's coefficients, Min-SNR's weights."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import Process, make_schedule
from tests.diffusion.cases import KINDS, SHAPE

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from diffusers.training_utils import compute_snr  # noqa: E402

from tests.diffusion.diffusers_runs import in_double  # noqa: E402

TIMES = np.array([0, 1, 250, 500, 998, 999])


def pair(seed=0):
    return np.random.default_rng(seed).standard_normal((2, len(TIMES), *SHAPE[1:]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_the_whole_curve(kind, zero_snr):
    with in_double("DDPM") as ddpm:
        theirs = ddpm(beta_schedule=kind, rescale_betas_zero_snr=zero_snr).alphas_cumprod.numpy()
    schedule = make_schedule(KINDS[kind], zero_snr=zero_snr)
    assert schedule.a**2 == pytest.approx(theirs, rel=1e-9, abs=1e-20)  # betas and back: 1000 roundings of 1e-16


@pytest.mark.parametrize("shift", [1.0, 0.5, 3.0])
def test_the_flows_curve(shift):
    with in_double("FlowMatchEulerDiscrete") as flow:
        theirs = flow(shift=shift).sigmas.numpy()
    assert make_schedule("flow", shift=shift).s[::-1] == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("kind", ["karras", "exponential"])
def test_edms_coefficients(kind):
    """c_skip and c_out read off what is made of an output of 0 and of 1, c_in off what the network sees."""
    process = Process(make_schedule(kind), "edm")
    with in_double("EDMEuler") as edm:
        scheduler = edm(sigma_schedule=kind)
        for sigma in (0.002, 0.1, 0.5, 7.0, 80.0):
            level, one = process.schedule.at_sigma(sigma), np.ones((1, 1))
            with backend.using("numpy"):
                c_skip, _ = process.to_x0_eps(0 * one, level.a * one, level)
                sum_of_both, _ = process.to_x0_eps(one, level.a * one, level)
                c_in, c_noise = process.predict(lambda x, t: (x, t), level.a * one, level)
            theirs = [scheduler.precondition_outputs(1.0, output, sigma) for output in (0.0, 1.0)]
            assert (c_skip.item(), sum_of_both.item()) == pytest.approx(theirs, rel=1e-10)
            assert c_in.item() == pytest.approx(
                scheduler.precondition_inputs(1.0, torch.tensor(sigma)).item(), rel=1e-10
            )
            assert c_noise == pytest.approx(1000 * scheduler.precondition_noise(sigma).item(), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_put_on_and_what_v_is(kind):
    x0, eps = pair()
    with in_double("DDPM") as ddpm:
        scheduler, given = ddpm(beta_schedule=kind), [torch.from_numpy(array) for array in (x0, eps)]
        x_t = scheduler.add_noise(*given, torch.from_numpy(TIMES)).numpy()
        v = scheduler.get_velocity(*given, torch.from_numpy(TIMES)).numpy()
    process = Process(make_schedule(KINDS[kind]), "v")
    level = process.schedule.level(TIMES)
    a, s = (part.reshape(-1, 1, 1, 1) for part in (level.a, level.s))
    assert a * x0 + s * eps == pytest.approx(x_t, rel=1e-9)
    with backend.using("numpy"):
        assert process.target_of(x0, eps, level) == pytest.approx(v, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_min_snrs_weights(kind):
    """As diffusers' training scripts write them, with its `compute_snr`, which is float32."""
    with in_double("DDPM") as ddpm:
        snr = compute_snr(ddpm(beta_schedule=kind), torch.from_numpy(TIMES)).numpy()
    capped = np.minimum(snr, 5.0)
    for target, theirs in (("eps", capped / snr), ("v", capped / (snr + 1)), ("x0", capped)):
        process = Process(make_schedule(KINDS[kind]), target, "min_snr", gamma=5.0)
        # float32's s = sqrt(1 - alpha_bar) and a, squared and divided
        assert process.loss_weight(process.schedule.level(TIMES)) == pytest.approx(theirs, rel=1e-6)
