"""Every schedule with every spacing, sampler and target: it draws the distribution, or is refused in words."""

from itertools import product

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import Process, levels, make_schedule
from minidiff.diffusion.process import TARGETS
from minidiff.diffusion.schedule import KINDS
from minidiff.diffusion.timesteps import SPACINGS
from minidiff.errors import MinidiffError
from tests.covering import every_pair
from tests.diffusion.known import WAYS, end, normal


def is_refused(kind, zero_snr, target, spacing):
    return (zero_snr or kind == "flow") and (target in ("eps", "edm") or spacing == "karras")


ALL = list(product(KINDS, [False, True], TARGETS, SPACINGS))
PAIRS = every_pair([each for each in ALL if not is_refused(*each)])  # 33 of 192, each with all ways of sampling
ALL_IN_TURN = [
    pytest.param(*each, marks=[] if is_refused(*each) or each in PAIRS else pytest.mark.release) for each in ALL
]


@pytest.mark.parametrize(("kind", "zero_snr", "target", "spacing"), ALL_IN_TURN)
def test_all_ways_of_sampling(kind, zero_snr, target, spacing):
    schedule = make_schedule(kind, zero_snr=zero_snr)
    pure_noise = zero_snr or kind == "flow"
    if pure_noise and target in ("eps", "edm"):
        with pytest.raises(MinidiffError, match=rf"^target {target} needs a schedule that leaves a trace of the image"):
            Process(schedule, target)
        return
    process = Process(schedule, target)
    if pure_noise and spacing == "karras":
        with pytest.raises(MinidiffError, match=r"^spacing karras needs a largest sigma"):
            levels(schedule, 30, spacing)
        return
    visited, known = levels(schedule, 30, spacing), normal(0.3, 0.5)
    for way in WAYS:
        with backend.using("numpy"):
            x0 = end(way, process, known, visited, 8)
        # 128 values: five times 0.5 / sqrt(128) = 0.044, and 0.031 for the spread. 30 steps are few: with 6400 values
        # the mean is off by 0.02 at most, and the spread by 0.18, where the first step is long: "cosine" begins at a
        # sigma of 2e4, and Karras' spacing spends ten steps above 100; there DDPM is too narrow, Heun too wide
        assert np.isfinite(x0).all()
        assert abs(x0.mean() - 0.3) < 5 * 0.044 + 0.02, way
        assert abs(x0.std() - 0.5) < 5 * 0.031 + 0.19, way
