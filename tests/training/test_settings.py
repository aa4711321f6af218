"""Settings as TOML and JSON: nothing is lost on the way, nothing that is not understood is ignored."""

import json
import math
import os
import tomllib
from pathlib import Path

import pytest

from minidiff.checkpoint.config import (
    AutoencoderSettings,
    Config,
    DiffusionConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
)
from minidiff.checkpoint.settings import from_dict, read_toml, to_dict, write_toml
from minidiff.data.config import DataConfig
from minidiff.errors import MinidiffError

NOTHING_DEFAULT = Config(
    data=DataConfig("folder", None, (96, 160), True, "#102030", True, "names", False, True),
    model=ModelConfig("autoencoder", 2, 16, (1, 3), 2, (8, 4), 2, 4, "add", 64, 1, (8,), 96, 3),
    autoencoder=AutoencoderSettings(Path("ae"), 4, 1, (8, 16), (16, 8), (1, 0), (0, 1), 0.5, 1e-3),
    diffusion=DiffusionConfig("sigmoid", 100, "x0", "min_snr", 3.5, 0.25),
    optimizer=OptimizerConfig(1e-4, 7, 0.5, 0.75, 0.1, math.inf, 0.9),
    run=RunConfig(None, 2.5, 12, 3, 2**63 - 1, "numpy", 100, 1, 50),
)


@pytest.mark.parametrize("config", [Config(), NOTHING_DEFAULT], ids=["default", "nothing default"])
def test_round_trips(tmp_path, config):
    write_toml(tmp_path / "config.toml", config)
    assert read_toml(Config, tmp_path / "config.toml") == config
    assert from_dict(Config, json.loads(json.dumps(to_dict(config))), "json") == config


def test_the_old_name_of_a_backend_is_read(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text('[run]\nbackend = "numba-direct"\n')
    assert read_toml(Config, path).run.backend == "numba-gemm"
    assert from_dict(Config, {"run": {"backend": "numba-direct"}}, "json").run.backend == "numba-gemm"


def test_a_size_of_one_number_is_read(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text("[data]\nsize = 48\n")
    assert read_toml(Config, path).data.size == (48,)


def test_paths_survive(tmp_path, settings, toy):
    write_toml(tmp_path / "config.toml", settings())
    assert read_toml(Config, tmp_path / "config.toml").data.data_dir == toy


def test_a_few_lines_are_enough(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[optimizer]\nlr = 1\n")
    assert read_toml(Config, path) == Config(optimizer=OptimizerConfig(lr=1.0))


def test_the_file_says_how_to_use_it(tmp_path):
    write_toml(tmp_path / "config.toml", Config())
    text = (tmp_path / "config.toml").read_text()
    assert "python -m minidiff.train --config config.toml" in text
    assert list(tomllib.loads(text)) == ["data", "model", "autoencoder", "diffusion", "addition", "optimizer", "run"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[run]\nbacth_size = 3\n", "{}: [run]: unknown setting 'bacth_size'; did you mean 'batch_size'?"),
        (
            "[model]\nzzz = 3\n",
            "{}: [model]: unknown setting 'zzz'; known are network, patch, model_channels, channel_mult, ",
        ),
        (
            "batch = 3\n",
            "{}: unknown setting 'batch'; known are data, model, autoencoder, diffusion, addition, optimizer, run",
        ),
        ("run = 3\n", "{}: [run]: expected a table of settings, got 3"),
        ("[run]\nbatch_size = 'many'\n", "{}: [run]: batch_size must be a whole number, got 'many'"),
        ("[run]\nbatch_size = true\n", "{}: [run]: batch_size must be a whole number, got True"),
        ("[run]\nbatch_size = 1.0\n", "{}: [run]: batch_size must be a whole number, got 1.0"),
        ("[run]\nminutes = '3'\n", "{}: [run]: minutes must be a number, got '3'"),
        ("[data]\ngrey = 1\n", "{}: [data]: grey must be true or false, got 1"),
        ("[data]\ndata_dir = 1\n", "{}: [data]: data_dir must be a path, got 1"),
        ("[data]\nsize = '64'\n", "{}: [data]: size must be a list, got '64'"),
        ("[data]\nsize = true\n", "{}: [data]: size must be a list, got True"),
        ("[data]\nsize = 0\n", "{}: [data]: size must be from 1 to 4096, got 0"),
        ("[model]\nmultipliers = 3\n", "{}: [model]: channel_mult must be a list, got 3"),
        ("[model]\nmultipliers = ['a']\n", "{}: [model]: channel_mult must be a whole number, got 'a'"),
        ("[diffusion]\ntarget = 'z'\n", "{}: [diffusion]: target must be one of eps, x0, v, flow, edm, got 'z'"),
        ("[diffusion]\ntarget = [1]\n", "{}: [diffusion]: target must be one of eps, x0, v, flow, edm, got [1]"),
        ("[run\n", "{} is not TOML: "),
        ("\xff", "{} is not UTF-8 text: "),
        ("a = " + "[" * 10**5, "{} is not TOML that can be read: it is nested too deeply"),
        ("[run]\nseed = " + "9" * 5000, "{} is not TOML: "),
        ("[run]\nseed = 0x" + "f" * 5000, "{}: [run]: seed must be from 0 to 2^64 - 1, got a whole number of more"),
        ("[optimizer]\nlr = 0x1" + "0" * 400, "{}: [optimizer]: lr must be a number that a float can hold, got "),
        ("[run]\nminutes = [0x" + "f" * 5000 + "]", "{}: [run]: minutes must be a number, got a list"),
        ("[optimizer]\nlr = nan\n", "{}: [optimizer]: lr must be above 0, at most 1e+12, got nan"),
        ("[model]\nblocks = 1000000000\n", "{}: [model]: num_res_blocks must be from 1 to 256, got 1000000000"),
        ("[data]\ndata_dir = ''\n", "{}: [data]: data_dir must be a path, got an empty text"),
        (
            '[data]\ndata_dir = "a\\u0000b"\n',
            "{}: [data]: data_dir must be text in valid UTF-8, without NUL, got a",
        ),
        ("[" + "x" * 10**5 + "]\n", "{}: unknown setting 'xxx"),
    ],
)
def test_what_is_not_understood_is_one_line(tmp_path, text, line):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(MinidiffError) as caught:
        read_toml(Config, path)
    assert str(caught.value).startswith(line.format(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_texts_of_other_files_are_checked_as_well():
    """JSON, unlike TOML, can hold half a character and a float too large."""
    for values, line in (
        (
            {"data": {"background": "\ud800"}},
            r"here: [data]: background must be text in valid UTF-8, without NUL",
        ),
        ({"optimizer": {"lr": 10**400}}, "here: [optimizer]: lr must be a number that a float can hold, got 1000"),
        ({"optimizer": {"clip": -math.inf}}, "here: [optimizer]: clip must be above 0, got -inf"),
    ):
        with pytest.raises(MinidiffError) as caught:
            from_dict(Config, values, "here")
        assert str(caught.value).startswith(line)


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf[run]\nbatch = 3\n")
    assert read_toml(Config, path).run.batch_size == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_settings_are_read_from_regular_files_of_a_bounded_size(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 20 | 1))
    for name, line in (("pipe", "is a pipe"), ("large.toml", "holds 1048577 bytes"), (".", "is a folder")):
        with pytest.raises(MinidiffError, match=line):
            read_toml(Config, tmp_path / name)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(MinidiffError, match=r"cannot read settings: no such file or folder: .*none\.toml"):
        read_toml(Config, tmp_path / "none.toml")
