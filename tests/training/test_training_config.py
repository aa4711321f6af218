"""Settings: every name once, every value checked, with one line that says what was expected and what came."""

import dataclasses
import math

import pytest

from minidiff.errors import MinidiffError
from minidiff.training.build import network_config
from minidiff.training.config import Config, ModelConfig, check


def test_defaults_make_sense():
    check(Config())


def test_names_are_unique_over_all_concerns():
    """The command line and a reader's memory have one list of names."""
    parts = [concern.default_factory() for concern in dataclasses.fields(Config)]
    names = [field.name for part in parts for field in dataclasses.fields(part)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"batch": 0}, "--batch must be 1 or more, got 0"),
        ({"accumulate": 0}, "--accumulate must be a number from 1 that divides the batch of 8, got 0"),
        ({"accumulate": 3}, "--accumulate must be a number from 1 that divides the batch of 8, got 3"),
        ({"steps": 0}, "--steps must be from 1 to 2^32 - 1, got 0"),
        ({"steps": 1 << 32}, "--steps must be from 1 to 2^32 - 1, got 4294967296"),
        ({"steps": None, "minutes": 0.0}, "--minutes must be above 0, got 0.0"),
        ({"steps": None, "minutes": math.nan}, "--minutes must be above 0, got nan"),
        ({"steps": None, "minutes": math.inf}, "--minutes must be above 0, got inf"),
        ({"minutes": 2.0}, "give --steps or --minutes, not both; got 6 steps and 2 minutes"),
        ({"lr": -1e-3}, "--lr must be above 0, got -0.001"),
        ({"lr": math.nan}, "--lr must be above 0, got nan"),
        ({"lr": math.inf}, "--lr must be above 0, got inf"),
        ({"warmup": -1}, "--warmup must be 0 or more, got -1"),
        ({"beta1": 1.0}, "--beta1 must be from 0 to below 1, got 1.0"),
        ({"beta2": -0.1}, "--beta2 must be from 0 to below 1, got -0.1"),
        ({"ema": 1.0}, "--ema must be from 0 to below 1, got 1.0"),
        ({"weight_decay": math.nan}, "--weight-decay must be 0 or more, got nan"),
        ({"clip": 0.0}, "--clip must be above 0, got 0.0"),
        ({"seed": -1}, "--seed must be from 0 to 2^64 - 1, got -1"),
        ({"seed": 1 << 64}, "--seed must be from 0 to 2^64 - 1, got 18446744073709551616"),
        ({"keep": 0}, "--keep must be 1 or more, got 0"),
        ({"save_every": 0}, "--save-every must be 1 or more, got 0"),
        ({"preview_every": 0}, "--preview-every must be 1 or more, got 0"),
        ({"patch": 0}, "--patch must be 1 or more, got 0"),
        ({"base": 0}, "--base must be 1 or more, got 0"),
        ({"blocks": 0}, "--blocks must be 1 or more, got 0"),
        ({"heads": 0}, "--heads must be 1 or more, got 0"),
        ({"groups": 0}, "--groups must be 1 or more, got 0"),
        ({"multipliers": ()}, "--multipliers must be 1 or more, got nothing"),
        ({"multipliers": (1, 0)}, "--multipliers must be 1 or more, got 1 0"),
        ({"attention": (0,)}, "--attention must be 1 or more, got 0"),
        ({"data": "mnist", "flip": True}, "--flip: a mirrored digit is none, so mnist is not mirrored; leave it out"),
        ({"times": 1}, "--times must be 2 or more, got 1"),
        ({"gamma": 0.0}, "--gamma must be above 0, got 0.0"),
        ({"label_drop": 1.5}, "--label-drop must be from 0 to 1, got 1.5"),
        (
            {"steps": None, "minutes": 1.0, "warmup": 9},
            "--warmup must be 10 or more while --minutes measures the speed, because only then the learning rate "
            "does not depend on the end, got 9",
        ),
    ],
)
def test_each_bad_value_has_its_line(settings, changes, line):
    with pytest.raises(MinidiffError) as caught:
        check(settings(**changes))
    assert str(caught.value) == line


def test_attention_stands_at_the_smallest_level_unless_said():
    """28 halves to 14 and 7, 32 to 16 and 8: the default must suit both; with patches of 2 a level starts at half."""
    assert network_config(ModelConfig(patch=2, multipliers=(1, 2)), 28, 28, 1, 0).attention == (7,)
    for size, smallest in ((28, 7), (32, 8)):
        assert network_config(ModelConfig(patch=1, multipliers=(1, 2, 2)), size, size, 1, 0).attention == (smallest,)
    assert network_config(ModelConfig(patch=1, multipliers=(1, 2, 2), attention=()), 32, 32, 1, 0).attention == ()
    assert network_config(ModelConfig(patch=1, multipliers=(1, 2, 2), attention=(16,)), 32, 32, 1, 0).attention == (16,)


def test_a_network_that_does_not_suit_the_pictures_is_one_line():
    with pytest.raises(MinidiffError, match=r"attention at height 9 does not occur; the levels are \[32, 16, 8\]"):
        network_config(ModelConfig(patch=1, multipliers=(1, 2, 2), attention=(9,)), 32, 32, 3, 0)
    with pytest.raises(MinidiffError, match=r"3 levels need a height and a width that 4 divides .*, got 30×30"):
        network_config(ModelConfig(patch=1, multipliers=(1, 2, 2)), 30, 30, 3, 0)
