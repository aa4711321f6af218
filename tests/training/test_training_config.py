"""Settings: every name once, every value checked, with one line that says what was expected and what came."""

import dataclasses
import math
import typing
from pathlib import Path

import pytest

from minidiff.checkpoint.build import network_config
from minidiff.checkpoint.config import Config, ModelConfig, check
from minidiff.errors import MinidiffError
from minidiff.evaluate import EvaluateConfig
from minidiff.export import ExportConfig
from minidiff.limits import LIMITS
from minidiff.nn import DiTConfig, UNetConfig
from minidiff.sample import SampleConfig


def test_defaults_make_sense():
    check(Config())


def test_names_are_unique_over_all_concerns():
    """The command line and a reader's memory have one list of names."""
    parts = [concern.default_factory() for concern in dataclasses.fields(Config)]
    names = [field.name for part in parts for field in dataclasses.fields(part)]
    assert len(names) == len(set(names))


def numbers(kind):
    """The names of all fields of a settings class that hold numbers, those of the classes inside it too."""

    def kinds(hint):
        return [inner for each in typing.get_args(hint) for inner in kinds(each)] or [hint]

    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from numbers(hint)
        elif {int, float} & set(kinds(hint)):
            yield name


@pytest.mark.parametrize("kind", [Config, UNetConfig, DiTConfig, SampleConfig, EvaluateConfig, ExportConfig])
def test_every_number_has_its_limits(kind):
    assert set(numbers(kind)) <= LIMITS.keys()
    assert {"size", "attention_at", "lr", "steps"} <= set(numbers(Config)), "optional ones, lists and nested ones count"


@pytest.mark.parametrize("name", sorted({*numbers(Config)} - {"threads"}))  # which the backend counts
def test_no_number_of_a_training_is_below_its_limit(settings, name):
    with pytest.raises(MinidiffError, match=f"^--{name.replace('_', '-')} must be .*, got "):
        check(
            settings(
                **{
                    name: (-(10**400),)
                    if name in ("size", "channel_mult", "attention_at", "cross_attention_at")
                    else -math.inf
                }
            )
        )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"batch_size": 0}, "--batch-size must be from 1 to 1048576, got 0"),
        ({"accumulate": 0}, "--accumulate must be from 1 to 1048576, got 0"),
        ({"accumulate": 3}, "--accumulate must divide the batch of 8, got 3"),
        ({"steps": 0}, "--steps must be from 1 to 2^32 - 1, got 0"),
        ({"steps": 1 << 32}, "--steps must be from 1 to 2^32 - 1, got 4294967296"),
        ({"steps": None, "minutes": 0.0}, "--minutes must be above 0, at most 1e+06, got 0.0"),
        ({"minutes": 2.0}, "give --steps or --minutes, not both; got 6 steps and 2 minutes"),
        ({"lr": math.nan}, "--lr must be above 0, at most 1e+12, got nan"),
        ({"beta1": 1.0}, "--beta1 must be from 0 to below 1, got 1.0"),
        ({"save_every": 0}, "--save-every must be from 1 to 2^32 - 1, got 0"),
        ({"data": "mnist", "flip": True}, "--flip: a mirrored digit is none, so mnist is not mirrored; leave it out"),
        ({"size": (64, 0)}, "--size must be from 1 to 4096, got 0"),
        ({"size": ()}, "--size must be one number for a square, or a height and a width, got nothing"),
        ({"channel_mult": ()}, "--channel-mult must be one number a level, got nothing"),
        ({"channel_mult": (1, 0)}, "--channel-mult must be from 1 to 256, got 0"),
        ({"num_timesteps": 10**30}, f"--num-timesteps must be from 2 to 1048576, got {10**30}"),
        (
            {"num_timesteps": 10**5000},
            "--num-timesteps must be from 2 to 1048576, got a whole number of more than 4,300 digits",
        ),
        ({"background": "\udcff"}, r"--background must be text in valid UTF-8, without NUL, got \udcff"),
        ({"data_dir": Path("a\0b")}, r"--data-dir must be text in valid UTF-8, without NUL, got a\x00b"),
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
    assert network_config(ModelConfig(patch=2, channel_mult=(1, 2)), 28, 28, 1, 0).attention_at == (7,)
    for size, smallest in ((28, 7), (32, 8)):
        assert network_config(ModelConfig(patch=1, channel_mult=(1, 2, 2)), size, size, 1, 0).attention_at == (
            smallest,
        )
    assert (
        network_config(ModelConfig(patch=1, channel_mult=(1, 2, 2), attention_at=()), 32, 32, 1, 0).attention_at == ()
    )
    assert network_config(
        ModelConfig(patch=1, channel_mult=(1, 2, 2), attention_at=(16,)), 32, 32, 1, 0
    ).attention_at == (16,)


def test_a_network_that_does_not_suit_the_images_is_one_line():
    with pytest.raises(MinidiffError, match=r"attention_at: no level has height 9; the heights are \[32, 16, 8\]"):
        network_config(ModelConfig(patch=1, channel_mult=(1, 2, 2), attention_at=(9,)), 32, 32, 3, 0)
    with pytest.raises(MinidiffError, match=r"3 levels need a height and a width that 4 divides .*, got 30×30"):
        network_config(ModelConfig(patch=1, channel_mult=(1, 2, 2)), 30, 30, 3, 0)
