"""The benchmark beside PyTorch: its arithmetic, its records, its lists, its one-line errors; PyTorch is not needed.

Where PyTorch is installed, its U-Net is held against minidiff's.
"""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.peers import __main__ as command
from benchmarks.peers import growth, latent, machine, problems, records, workers
from benchmarks.peers.settings import Settings
from minidiff import backend
from minidiff.checkpoint.config import ModelConfig
from minidiff.errors import MinidiffError
from minidiff.nn import UNet, UNetConfig
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig

TINY = problems.Network(
    ModelConfig(patch=1, model_channels=8, channel_mult=(1, 2), attention_at=(), time="add"), size=8, batch=2
)
TINY_PATCHED = problems.Network(
    ModelConfig(patch=2, model_channels=8, channel_mult=(1, 2), attention_at=(4,), heads=2), size=16, batch=3, classes=3
)
TINY_LATENT = problems.Network(
    ModelConfig(patch=1, model_channels=8, channel_mult=(1, 2), attention_at=(4,), heads=2), 8, 2, classes=3, channels=5
)
TINY_DECODING = problems.Decoding(
    2, AutoencoderConfig(24, 16, decoder_channels=(8, 12, 16), decoder_blocks=(1, 0, 2), latent_channels=3)
)

# ---- arithmetic -----------------------------------------------------------------------------------------------------


def test_ratios_are_taken_within_rounds():
    """A machine that halves its speed after the first round changes the medians' ratio, not the ratios' median."""
    assert records.paired_ratio([1.0, 2.0, 2.0], [3.0, 6.0, 7.0]) == 3.0


def test_geometric_mean_treats_twice_and_half_alike():
    assert records.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert records.geometric_mean([1.0, 10.0, 100.0]) == pytest.approx(10.0)


@pytest.mark.parametrize(("once", "least", "calls"), [(0.02, 0.05, 3), (0.05, 0.05, 1), (2.0, 0.05, 1), (1.0, 0.0, 1)])
def test_short_calls_are_repeated_until_a_clock_can_time_them(once, least, calls):
    assert workers.calls_for(once, least) == calls


def test_a_record_holds_medians_quartiles_and_the_best_peer_of_each_precision():
    times = {
        "ours": [1.0, 2.0, 3.0, 4.0, 5.0],
        "torch eager": [3.0, 6.0, 9.0, 12.0, 15.0],
        "torch channels_last": [2.0, 4.0, 6.0, 8.0, 10.0],
        "torch bfloat16": [0.5, 1.0, 1.5, 2.0, 2.5],
    }
    record = records.compare("step/plain", times)
    assert record["what"] == "step/plain" and record["rounds"] == 5
    assert record["ours_s"] == 3.0 and record["peers"]["torch eager"] == 9.0
    assert record["spread"]["ours"] == [2.0, 4.0]
    assert record["best_float32"] == "torch channels_last" and record["ratio_best_float32"] == 2.0
    assert record["best_bfloat16"] == "torch bfloat16" and record["ratio_bfloat16"] == 0.5
    assert json.loads(json.dumps(record)) == record


def test_a_record_without_peers_has_no_ratio():
    assert "ratio_best_float32" not in records.compare("start/help/train", {"ours": [1.0]})
    memory = records.compare("memory/plain", {"ours": [100.0], "torch eager": [150.0]}, unit="MiB")
    assert memory["ours_mib"] == 100.0 and memory["ratio_best_float32"] == 1.5 and "ratio_bfloat16" not in memory


def test_means_are_over_the_ratios_of_the_records():
    two = [
        records.compare("conv/forward/a", {"ours": [1.0], "torch eager": [4.0], "torch bfloat16": [1.0]}),
        records.compare("conv/forward/b", {"ours": [4.0], "torch eager": [4.0], "torch bfloat16": [1.0]}),
    ]
    mean = records.mean_record("conv/forward", two)
    assert mean["of"] == ["conv/forward/a", "conv/forward/b"]
    assert mean["ours_s"] == pytest.approx(2.0) and mean["peers"]["torch eager"] == pytest.approx(4.0)
    assert mean["ratio_best_float32"] == pytest.approx(2.0) and mean["ratio_bfloat16"] == pytest.approx(0.5)


def test_thread_speedups_are_medians_over_rounds():
    times = {
        f"{engine} × {threads}": [seconds, 2 * seconds, 3 * seconds]
        for engine, threads, seconds in [
            ("ours", 1, 4.0),
            ("ours", 2, 2.0),
            (growth.PEER, 1, 3.0),
            (growth.PEER, 2, 2.0),
        ]
    }
    record = growth.thread_record("growth/threads", times, 2)
    assert record["speedup"] == {"ours": 2.0, growth.PEER: 1.5} and record["threads"] == [1, 2]


# ---- agreement ------------------------------------------------------------------------------------------------------


def answers(**changes):
    ours = {"output": np.array([1.0, -2.0]), "gradient of a": np.array([0.5, 4.0]), "gradient of b": np.array([1e-9])}
    theirs = {name: array + changes.get(name.removeprefix("gradient of "), 0.0) for name, array in ours.items()}
    return {"ours": ours, "torch eager": theirs}


def test_a_difference_is_relative_to_the_largest_number():
    assert records.agree("step", answers(output=2e-4))["torch eager"] == (pytest.approx(1e-4), "output")


def test_a_gradient_that_is_zero_but_for_rounding_may_differ_by_rounding():
    error, where = records.agree("step", answers(b=1e-9))["torch eager"]
    assert error == pytest.approx(1e-9 / 4e-3) and where == "gradient of b"  # of a thousandth of the largest gradient


@pytest.mark.parametrize(("name", "by"), [("output", 0.01), ("a", 0.01), ("b", 0.01), ("output", np.nan)])
def test_engines_that_disagree_end_the_run_in_one_line(name, by):
    with pytest.raises(MinidiffError, match=rf"^step: torch eager and ours disagree: .*{name} differs by [\w.+-]+ of"):
        records.agree("step", answers(**{name: by}))


def test_bfloat16_may_differ_more():
    both = answers(output=0.01)
    both["torch bfloat16"] = both.pop("torch eager")
    assert records.agree("step", both)["torch bfloat16"][0] == pytest.approx(0.005)


# ---- what is measured -----------------------------------------------------------------------------------------------


def test_the_means_are_over_seven_usual_shapes():
    assert len(problems.USUAL) == 7 and all(problems.is_usual_kind(shape) for shape in problems.USUAL)
    assert {(s.batch, s.kernel, s.stride) for s in problems.USUAL} == {(32, 3, 1)}
    names = [shape.name for shape in (*problems.USUAL, *problems.OTHERS)]
    assert names[:2] == ["32x32x32x32-32", "32x32x32x96-32"] and len(set(names)) == len(names)
    assert {"32x32x32x96-32-1x1", "32x16x16x128-128-stride2"} < set(names)
    assert not any(problems.is_usual_kind(problems.Convolution(32, 32, *ends)) for ends in [(3, 64), (64, 3)])


def test_the_networks_are_those_that_are_named():
    plain = UNetConfig(model_channels=64, channel_mult=(1, 2, 2), attention_at=(), time="add")
    assert problems.PLAIN.config == plain and problems.PLAIN.batch == 32
    default = problems.DEFAULT.config
    assert (default.patch, default.model_channels) != (1, 64) and default.classes > 1 and problems.DEFAULT.batch >= 1


def test_latents_are_those_of_images_of_128_pixels():
    decoding, config = problems.Decoding(), problems.LATENT.config
    assert decoding.config == AutoencoderConfig(128, 128) and decoding.batch == 16
    assert (config.height, config.width, config.channels) == decoding.config.latent_shape == (16, 16, 8)
    assert config.patch == 1 and replace(config, height=32, width=32, channels=3, patch=2) == problems.DEFAULT.config
    assert problems.LATENT.x0().shape == problems.LATENT.noised()[0].shape == problems.LATENT.shape
    own = Autoencoder(decoding.config).decoder.named_parameters()
    assert own.keys() == decoding.decoder().named_parameters().keys()


def test_latents_are_standard_normal_and_images_in_their_range():
    x0 = replace(TINY_LATENT, batch=64).x0()
    assert abs(x0.mean()) < 0.05 and abs(x0.std() - 1) < 0.05 and abs(x0).max() > 2  # of 20,480 numbers
    assert abs(TINY.x0()).max() <= 1 and TINY.x0().dtype == x0.dtype == np.float32


def test_the_section_of_latents_measures_four_things(monkeypatch):
    asked = []
    note = lambda what, problem, *rest: asked.append((what, problem))
    monkeypatch.setattr(latent, "measure", lambda what, problem, rounds, settings, log: note(what, problem))
    monkeypatch.setattr(latent, "measure_memory", note)
    latent.measure_latents(Settings(9, 1), records.Log())
    assert [what for what, _ in asked] == ["step/latent", "memory/latent", "sample/latent", "decode/latent"]
    assert asked[0][1] == asked[1][1] == problems.LATENT and asked[3][1] == problems.Decoding()
    assert asked[2][1].network == replace(problems.LATENT, classes=0) and asked[2][1].steps == 50


@pytest.mark.parametrize("problem", [TINY_LATENT, problems.Sampling(TINY_LATENT), TINY_DECODING])
def test_a_quick_problem_has_two_images_or_fewer(problem):
    small = problems.made_small(problem)
    assert type(small) is type(problem) and getattr(small, "network", small).batch == 2


def test_the_network_of_ddpm_has_as_many_weights():
    network = problems.Forward().network()
    assert (network.count_parameters(), len(network.named_parameters())) == (35_746_307, 328)  # google/ddpm-cifar10-32


def test_weights_are_of_the_network_and_none_of_them_zero():
    made = problems.weights(TINY_PATCHED.config)
    expected = UNet(TINY_PATCHED.config).named_parameters()
    assert {name: w.shape for name, w in made.items()} == {name: p.planned_shape for name, p in expected.items()}
    assert all(w.dtype == np.float32 and w.all() for w in made.values())


def test_a_step_without_chance_has_a_hidden_label():
    x_t, v, t, labels = TINY_PATCHED.noised()
    assert x_t.shape == v.shape == (3, 16, 16, 3) and x_t.dtype == v.dtype == np.float32
    assert t.shape == (3,) and 3 in labels and labels.min() >= 0
    assert TINY.noised()[3] is None


def test_minidiff_computes_every_kind_of_problem():
    from benchmarks.peers import ours

    with backend.using("numpy"):
        for direction in problems.DIRECTIONS:
            found = ours.make(problems.Convolution(1, 5, 3, 4, stride=2, direction=direction)).check()["result"]
            assert found.shape == {"forward": (1, 3, 3, 4), "grad_x": (1, 5, 5, 3), "grad_w": (3, 3, 3, 4)}[direction]
        step = ours.make(TINY_PATCHED)
        checked = step.check()
        assert checked["output"].shape == (3, 16, 16, 3) and checked["gradient of conv_in.w"].any()
        assert np.isfinite(step.run())
        assert ours.make(problems.Sampling(TINY, steps=2)).check()["images"].shape == (2, 8, 8, 3)
        latents = ours.make(TINY_LATENT)
        assert latents.check()["output"].shape == (2, 8, 8, 5) and np.isfinite(latents.run())
        assert ours.make(TINY_DECODING).check()["images"].shape == (2, 24, 16, 3)


def test_minidiffs_step_is_made_with_the_given_latents():
    from benchmarks.peers import ours

    with backend.using("numpy"):
        trainer = ours.make(TINY_LATENT).trainer
        (batch,) = trainer.batches()
    assert np.array_equal(batch.x0, TINY_LATENT.x0()) and np.array_equal(batch.labels, TINY_LATENT.labels())
    assert trainer.network == TINY_LATENT.config


def test_minidiff_does_not_cut_latents_to_the_range_of_images():
    from benchmarks.peers import ours

    with backend.using("numpy"):
        of_images, of_latents = (
            ours.make(problems.Sampling(network)).check()["images"]
            for network in (TINY, replace(TINY_LATENT, classes=0))
        )
    assert abs(of_images).max() <= 1 < abs(of_latents).max()


# ---- the command ----------------------------------------------------------------------------------------------------


def test_without_torch_there_is_one_line_and_exit_code_2(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(SystemExit) as left:
        command.main(["conv"])
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == [f"error: {workers.MISSING}"]


@pytest.mark.parametrize(
    ("words", "line"),
    [(["--rounds", "0"], "--rounds must be 1 or more, got 0"), (["--threads", "9999"], "--threads must be from 1 to")],
)
def test_mistakes_are_one_line(words, line, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(words)
    assert left.value.code == 2 and capsys.readouterr().err.startswith(f"error: {line}")


def test_help_lists_the_sections(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["--help"])
    assert left.value.code == 0
    assert "{all,conv,step,sample,latency,latent,growth,start,ddpm}" in capsys.readouterr().out


def test_every_record_is_on_the_disk_as_soon_as_it_is_there(tmp_path):
    log = records.Log(tmp_path / "peers.json")
    for count, what in enumerate(["machine", "conv/forward"], start=1):
        log.add({"what": what})
        assert [record["what"] for record in json.loads(log.path.read_text("utf-8"))][-1] == what
        assert len(json.loads(log.path.read_text("utf-8"))) == count


def test_only_variables_that_matter_are_told():
    given = {"OPENBLAS_CORETYPE": "Haswell", "HOME": "/home/me", "OMP_NUM_THREADS": "2", "SECRET_TOKEN": "x"}
    assert machine.environment(given) == {"OMP_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell"}


def test_curves_are_drawn():
    record = {"ours_s": 1.0, "peers": {growth.PEER: 2.0}, "batch": 32, "size": 32, "width": 64}
    curves = {
        (kind, axis): [record, record | {axis: 2 * record[axis]}] for kind in ("step", "conv") for axis in growth.AXES
    }
    image = growth.chart(curves)
    assert image.ndim == 3 and image.dtype == np.uint8 and image.std() > 5


def test_a_worker_that_fails_says_so_in_one_line():
    with workers.Workers(["nobody"], threads=1) as asked, pytest.raises(MinidiffError, match=r"^nobody: \w+: "):
        asked["nobody"].ask("make", TINY)


def test_settings():
    assert Settings(9, 2).least == 0.05 and Settings(1, 2, quick=True).least == 0.0


# ---- beside PyTorch and JAX, where they are --------------------------------------------------------------------------


NETWORKS = pytest.mark.parametrize(
    "network",
    [TINY, TINY_PATCHED, TINY_LATENT],
    ids=["add", "scale_shift, patch, attention, classes", "latents"],
)
NO_STEPS = pytest.mark.parametrize(
    "problem",
    [problems.Sampling(TINY), problems.Sampling(replace(TINY_LATENT, classes=0)), TINY_DECODING],
    ids=["sampling", "sampling latents", "decoding"],
)


@NETWORKS
def test_pytorchs_unet_is_ours(network):
    pytest.importorskip("torch", reason="PyTorch is a peer, not a dependency")
    from benchmarks.peers import ours, torch_jobs

    with backend.using("numpy"):
        expected = ours.make(network).check()
        for peer in workers.EAGER:
            found = torch_jobs.make(network, torch_jobs.Variant(*workers.PEERS[peer])).check()
            assert found.keys() == expected.keys()
            error, where = records.difference(expected, found, records.bound_of(peer))
            assert error < (1e-4 if "bfloat16" not in peer else records.BOUND_BFLOAT16), where  # no Winograd here


@NO_STEPS
def test_pytorch_draws_and_decodes_what_we_do(problem):
    pytest.importorskip("torch", reason="PyTorch is a peer, not a dependency")
    from benchmarks.peers import ours, torch_jobs

    with backend.using("numpy"):
        expected = ours.make(problem).check()
        for peer in workers.EAGER:
            found = torch_jobs.make(problem, torch_jobs.Variant(*workers.PEERS[peer])).check()
            assert found.keys() == expected.keys()
            error, where = records.difference(expected, found, records.bound_of(peer))
            assert error < (1e-4 if "bfloat16" not in peer else records.BOUND_BFLOAT16), where


def test_diffusers_network_is_ours():
    pytest.importorskip("torch", reason="PyTorch is a peer, not a dependency")
    pytest.importorskip("diffusers", reason="diffusers is a peer, not a dependency")
    from benchmarks.peers import ours, torch_jobs

    problem = problems.Forward(batch=2, base=32)
    with backend.using("numpy"):
        expected = ours.make(problem).check()
        found = torch_jobs.make(problem, torch_jobs.Variant(*workers.PEERS["torch channels_last"])).check()
    error, where = records.difference(expected, found, records.BOUND_FLOAT32)
    assert error < 1e-4, where


@NETWORKS
def test_jaxs_unet_is_ours(network):
    pytest.importorskip("jax", reason="JAX is a peer, not a dependency")
    from benchmarks.peers import jax_jobs, ours

    with backend.using("numpy"):
        expected, found = ours.make(network).check(), jax_jobs.make(network).check()
    assert found.keys() == expected.keys()
    error, where = records.difference(expected, found, records.BOUND_FLOAT32)
    assert error < 1e-4, where


@NO_STEPS
def test_jax_draws_and_decodes_what_we_do(problem):
    pytest.importorskip("jax", reason="JAX is a peer, not a dependency")
    from benchmarks.peers import jax_jobs, ours

    with backend.using("numpy"):
        expected, found = ours.make(problem).check(), jax_jobs.make(problem).check()
    error, where = records.difference(expected, found, records.BOUND_FLOAT32)
    assert found.keys() == expected.keys() and error < 1e-4, where
