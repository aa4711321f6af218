"""Every sampler against diffusers' scheduler of the same name, step by step, with settings drawn at random.

Once with what a golden file has kept, and once live, where torch and diffusers are installed; see cases.py.
What is not compared: order 1 in DPM-Solver++'s and UniPC's last step to a sigma above 0, where we keep order 2; DDIM
with times that it does not step to; what Euler asks the network under churn.  Each has its reason in cases.py.
"""

from itertools import pairwise

import numpy as np
import pytest

from minidiff.diffusion import levels, make_schedule
from tests.diffusion import golden
from tests.diffusion.cases import CASES, ours

# Both sides compute in float64. Where the network predicts eps at a sigma of 2e4 ("squaredcos_cap_v2"), x0_hat is a
# difference of numbers that much larger, and the next step enlarges it again: 1e-16 becomes at most 3e-9 in these runs.
TOLERANCE = 1e-7


@pytest.fixture(scope="module")
def kept():
    settings, records = golden.read()
    assert settings == golden.settings(), "golden.npz is of other cases: run make_golden.py"
    return records


@pytest.fixture(scope="module")
def live():
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from tests.diffusion import diffusers_runs

    return diffusers_runs


def difference(one, other):
    """The largest of all steps' differences, each relative to the largest number of its step."""
    each = tuple(range(1, other.ndim))
    return (np.abs(one - other).max(each) / np.abs(other).max(each)).max()


def check(record, reference, case):
    for name in ("x_t", "x0_hat", "x_prev"):
        theirs = getattr(reference, name)
        if len(theirs):
            assert difference(getattr(record, name), theirs) < TOLERANCE, (name, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_step_is_as_the_golden_file_has_it(kept, case):
    check(ours(case, kept[str(case)].levels), kept[str(case)], case)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of torch tensors, since NumPy 2
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_step_is_diffusers(live, kept, case):
    reference = live.theirs(case)
    check(ours(case, reference.levels), reference, case)
    assert reference.levels == pytest.approx(kept[str(case)].levels, rel=1e-9)  # the file is of this diffusers
    check(kept[str(case)], reference, case)


def spaced_alike(case):
    """Whether diffusers visits the levels that we would: not unrounded times, nor "linspace" of one time more."""
    alike = {
        "DDPM": ("leading", "trailing", "linspace"),
        "DDIM": ("leading", "trailing"),
        "DPMSolverMultistep": ("trailing", "karras"),
        "UniPCMultistep": ("trailing", "karras"),
    }
    return case.spacing in alike.get(case.scheduler, ("leading", "trailing", "karras"))


@pytest.mark.parametrize("case", [case for case in CASES if spaced_alike(case)], ids=str)
def test_the_golden_levels_are_ours(kept, case):
    """And with them the schedule: every kind, T and pair of betas, with and without zero terminal SNR."""
    their_levels = kept[str(case)].levels[:-1]
    if case.zero_snr and case.spacing == "trailing" and case.scheduler not in ("DDPM", "DDIM"):
        their_levels = their_levels[1:]  # the first alpha_bar is 2^-24 there, and not 0
    *visited, _ = levels(case.schedule, case.steps, case.spacing)
    mine = np.array([(level.t, level.a, level.s) for level in visited])[-len(their_levels) :]
    assert mine[:, 1:] == pytest.approx(their_levels[:, 1:], rel=1e-9, abs=1e-15)
    rounded = case.spacing == "karras" and case.sampler in ("dpm-solver", "dpm-solver-sde", "unipc")
    assert mine[:, 0] == pytest.approx(their_levels[:, 0], abs=1.0 if rounded else 1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.prediction == "edm"], ids=str)
def test_the_golden_sigmas_of_edm_are_ours(kept, case):
    """The schedule with as many times as there are steps, backwards."""
    t, a, s = kept[str(case)].levels[:-1].T
    sigma = make_schedule(case.kind, case.steps).all.sigma[::-1]
    assert sigma == pytest.approx(s / a, rel=1e-9)
    assert 250 * np.log(sigma) == pytest.approx(t, rel=1e-9)


def test_the_draws_cover_what_they_can():
    """A seed that never drew Karras' spacing would prove nothing about it."""
    for sampler, options in {
        "ddpm": {"kind": 4, "prediction": 3, "spacing": 3, "clip": 3, "zero_snr": 2, "T": 2, "ours": 2},
        "ddim": {"kind": 4, "prediction": 3, "spacing": 2, "clip": 3, "zero_snr": 2, "ours": 5, "config": 2},
        "euler": {"kind": 7, "prediction": 5, "spacing": 6, "zero_snr": 2, "ours": 4},
        "euler-ancestral": {"kind": 4, "prediction": 2, "spacing": 3, "zero_snr": 2},
        "heun": {"kind": 4, "prediction": 3, "spacing": 4, "clip": 2},
        "dpm-solver": {"kind": 6, "prediction": 5, "spacing": 6, "clip": 2, "zero_snr": 2},
        "dpm-solver-sde": {"kind": 6, "prediction": 5, "spacing": 6, "clip": 2, "zero_snr": 2},
        "unipc": {"kind": 5, "prediction": 4, "spacing": 5, "clip": 2, "zero_snr": 2},
    }.items():
        cases = [case for case in CASES if case.sampler == sampler]
        drawn = {name: len({str(getattr(case, name)) for case in cases}) for name in options}
        assert all(drawn[name] >= least for name, least in options.items()), (sampler, drawn)


def test_all_levels_fall(kept):
    """Nothing of the golden file is a run that stands still."""
    for record in kept.values():
        for (_, a, s), (_, a_prev, s_prev) in pairwise(record.levels):
            assert s / max(a, 1e-300) > s_prev / a_prev
