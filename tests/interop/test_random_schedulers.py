"""All options of scheduler files at random at once: the images are diffusers', or an option is refused by its name.

A few draws are compared here; `python -m tests.interop.random_schedulers 1000 1300`, from the root, compares as many as
one likes, where diffusers is installed.
"""

import json

import numpy as np
import pytest

from minidiff import backend
from tests.interop.random_schedulers import KEPT, LEVELS, OPTIONS, SCHEDULED, compare, draw, ours


@pytest.fixture(scope="module")
def kept():
    with np.load(SCHEDULED) as file:
        assert json.loads(str(file["drawn"])) == {str(number): draw(number) for number in KEPT}
        return dict(file)


@pytest.mark.parametrize("number", KEPT)
def test_images_are_as_diffusers_drew_them(number, kept, tmp_path):
    with backend.using("numpy"):
        found = ours(tmp_path, draw(number))
    assert found.shape == kept[str(number)].shape
    assert np.abs(found.astype(int) - kept[str(number)]).max() <= LEVELS


@pytest.mark.parametrize("number", range(200, 224))
def test_images_are_diffusers_or_an_option_is_refused_by_its_name(number, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    with backend.using("numpy"):
        how = compare(tmp_path, number)
    assert how == "equal" or how == "diffusers fails" or how.startswith("refused: ")


def test_the_kept_draws_have_every_option_in_use():
    """In both classes, with both samplers; and something other than its default."""
    drawn = [draw(number) for number in KEPT]
    assert {how["sampler"] for how in drawn} == {"ddpm", "ddim"}
    for name in OPTIONS:
        if name != "trained_betas":
            values = [how["scheduler"][name] for how in drawn if name in how["scheduler"]]
            assert len({str(value) for value in values}) > 1, name
