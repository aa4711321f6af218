"""The benchmark of quality: the commands that it builds, what it does not repeat, its table; no training is run.

Where PyTorch is installed, its training step is held against minidiff's.
"""

import importlib.util
import json
import sys

import numpy as np
import pytest
import tiny_model
import toy_images

from benchmarks.peers import problems, records, workers
from benchmarks.quality import __main__ as command
from benchmarks.quality import runs
from benchmarks.quality.verdict import differences, table, verdict
from minidiff import backend
from minidiff.checkpoint.config import Config, ModelConfig, OptimizerConfig, RunConfig
from minidiff.errors import MinidiffError
from minidiff.training.cli import parse
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer

TORCH = "torch bfloat16"

# ---- the commands ---------------------------------------------------------------------------------------------------


def test_both_trainings_of_a_seed_get_the_same_words(tmp_path):
    options = command.SameMinutes(data_dir=tmp_path, out=tmp_path / "out", minutes=5, threads=2)
    ours, theirs = (command.same_minutes_run(options, engine, 1, ["--batch-size", "64"]) for engine in ("ours", TORCH))
    assert ours.words == theirs.words
    assert ours.command[:2] == ["-m", "minidiff.train"]
    assert theirs.command[:3] == ["-m", "benchmarks.quality.torch_train", TORCH]
    assert ours.folder == tmp_path / "out" / "same-minutes-mnist-5" / "seed1-ours"
    assert theirs.folder.name == "seed1-torch-bfloat16"
    config = parse(ours.command[2:]).config
    assert (config.run.minutes, config.run.seed, config.run.batch_size, config.run.threads) == (5, 1, 64, 2)
    assert (config.data.data, config.data.data_dir, config.model) == ("mnist", tmp_path, ModelConfig())


def test_the_backends_are_trained_for_the_same_steps(tmp_path):
    options = command.Winograd(data_dir=tmp_path, out=tmp_path / "out", steps=7)
    configs = [parse(command.winograd_run(options, name, 2, []).command[2:]).config for name in command.BACKENDS]
    assert [config.run.backend for config in configs] == ["numba", "numba-gemm"]
    assert {(c.run.steps, c.run.seed, c.run.batch_size, c.model.model_channels) for c in configs} == {(7, 2, 16, 16)}


@pytest.mark.parametrize("steps", [None, 7])
def test_the_networks_are_trained_with_their_defaults(tmp_path, steps):
    options = command.Networks(data="scenes", out=tmp_path / "out", minutes=3, steps=steps)
    several = [command.networks_run(options, network, 1, ["--batch-size", "4"]) for network in command.NETWORKS]
    configs = [parse(run.command[2:]).config for run in several]
    assert [config.model for config in configs] == [ModelConfig(network="dit"), ModelConfig()]
    length = (None, 3.0) if steps is None else (7, None)
    assert {(c.run.steps, c.run.minutes, c.run.seed, c.run.batch_size) for c in configs} == {(*length, 1, 4)}
    assert {(c.data.data, c.data.captions) for c in configs} == {("scenes", "none")}
    last = "3" if steps is None else "7-steps"
    assert several[0].folder == tmp_path / "out" / f"networks-scenes-{last}" / "seed1-dit"


def test_the_judging_is_minidiff_evaluates(tmp_path):
    words = runs.Judging(50, 1.0, threads=2).words(tmp_path)
    expected = ["--checkpoint", str(tmp_path), "--count", "50", "--guidance-scale", "1", "--threads", "2"]
    assert words == ["-m", "minidiff.evaluate", *expected]


# ---- what is finished -----------------------------------------------------------------------------------------------


def finished(tmp_path, trained=True, judged=True, **settings):
    """A run whose folder is as its training and judging leave it."""
    run = runs.Run(tmp_path / "run", "ours", 0, runs.OURS, ("--steps", "10", "--seed", "0"))
    tiny_model.write(run.folder)
    if trained:
        about = {"words": [*run.program, *run.words], "seconds": 12.5, "kernels": runs.kernels(), "machine": {}}
        (run.folder / "training.json").write_text(json.dumps(about))
        lines = [{"step": step, "loss": 0.5, "seconds": 2.0 + step} for step in range(1, 11)]
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if judged:
        result = {
            "checkpoint": {"step": 10},
            "settings": {"count": 50, "guidance_scale": 1.0, **settings},
            "held_out_loss": {"mean": 0.1, "standard_error": 0.001},
            "frechet": {
                "samples_to_real": {"distance": 0.8, "deviation": 0.1},
                "real_to_real": {"distance": 0.3, "deviation": 0.1},
            },
            "read_as_asked": {"share": 0.98},
            "classifier": {"file": "/home/me/mnist-0123.safetensors"},
            "versions": {},
            "seconds": {"samples": 1.0},
        }
        (run.folder / "evaluation.json").write_text(json.dumps(result))
    return run


JUDGING = runs.Judging(50, 1.0)


def test_what_is_finished_is_not_repeated(tmp_path):
    assert command.todo(finished(tmp_path), JUDGING) == []


def test_what_is_trained_is_judged(tmp_path):
    assert command.todo(finished(tmp_path, judged=False), JUDGING) == ["judge"]


@pytest.mark.parametrize("settings", [{"count": 51}, {"guidance_scale": 3.0}])
def test_what_was_judged_otherwise_is_judged_again(tmp_path, settings):
    assert command.todo(finished(tmp_path, **settings), JUDGING) == ["judge"]


def test_an_unfinished_training_is_repeated_and_nothing_of_it_deleted(tmp_path, monkeypatch):
    run = finished(tmp_path, trained=False)
    assert command.todo(run, JUDGING) == ["train ours", "judge"]
    monkeypatch.setattr(runs, "call", lambda words, what: tiny_model.write(run.folder) and b"said")
    run.train()
    assert (tmp_path / "run.unfinished-1" / "evaluation.json").exists()
    assert (run.folder / "train.log").read_bytes() == b"said"
    assert command.todo(run, JUDGING) == ["judge"]


def test_a_folder_of_other_options_is_not_taken_for_this_run(tmp_path):
    run = finished(tmp_path)
    other = runs.Run(run.folder, "ours", 0, runs.OURS, ("--steps", "11", "--seed", "0"))
    with pytest.raises(MinidiffError, match=r"run holds a training with other options \(10\); take another --out$"):
        other.training()


def test_a_process_that_fails_is_one_line():
    assert runs.call(["-c", "print('well')"], "it") == b"well\n"
    with pytest.raises(MinidiffError, match=r"^it ended with 3$"):
        runs.call(["-c", "raise SystemExit(3)"], "it")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM does not exist there")
def test_a_process_is_asked_to_end_and_waited_for(tmp_path, monkeypatch):
    saved = tmp_path / "saved"
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(saved)!r}).touch(), sys.exit(143)))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.05)"  # not once and long: a signal just before it would be heard only after it
    )

    def interrupted(process):
        assert process.stdout.readline() == b"ready\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.call(["-c", code], "it")
    assert saved.exists()


# ---- times ----------------------------------------------------------------------------------------------------------


def test_a_speed_leaves_the_first_steps_out():
    metrics = [{"step": i + 1, "seconds": s} for i, s in enumerate([30.0, 31.0, 32.0, 32.5, 33.0, 33.5])]
    assert runs.step_seconds(metrics) == 0.5
    assert runs.promised(metrics, minutes=1) == 3 + (60 - 32) / 0.5
    assert runs.step_seconds(metrics[:2]) == 15.5  # too few for that
    assert runs.promised(metrics, minutes=0.1) == 3


def test_the_time_left_is_the_mean_of_what_was_spent_or_the_plan():
    assert runs.time_left(["train", "judge", "train"], {"judge": [10.0, 20.0]}, {"train": 300.0}) == (615.0, True)
    assert runs.time_left(["train", "train"], {"train": [310.0]}, {"train": 300.0}) == (620.0, True)
    assert runs.time_left(["train", "judge"], {}, {"train": 300.0}) == (300.0, False)
    assert runs.time_left([], {}, {}) == (0.0, True)


# ---- the table ------------------------------------------------------------------------------------------------------


def record(seed, engine, steps=100, loss=0.1, frechet=0.5, right=0.9):
    values = {"training_seconds": 60.0, "step_seconds": 0.6, "frechet": frechet, "read_as_asked": right}
    return {"what": f"c/seed{seed}/{engine}", "seed": seed, "engine": engine, "steps": steps, "held_out_loss": loss} | (
        values
    )


PAIRS = [
    record(0, "ours", 150, 0.10, 0.5, 0.95),
    record(0, TORCH, 100, 0.11, 0.6, 0.94),
    record(1, "ours", 160, 0.12, 0.7, 0.93),
    record(1, TORCH, 100, 0.11, 0.6, 0.95),
    record(2, "ours", 140, 0.10, 0.4, 0.99),
    record(2, TORCH, 100, 0.13, 0.6, 0.95),
]


def test_differences_are_taken_within_seeds():
    found = verdict("c", ("ours", TORCH), PAIRS)
    assert found["seeds"] == [0, 1, 2] and found["steps_ratio"] == {"by_seed": [1.5, 1.6, 1.4], "median": 1.5}
    loss = found["differences"]["held_out_loss"]
    assert loss["by_seed"] == pytest.approx([-0.01, 0.01, -0.03]) and loss["median"] == pytest.approx(-0.01)
    assert loss["better"] == 2 and found["differences"]["read_as_asked"]["better"] == 2
    assert found["medians"]["ours"]["held_out_loss"] == 0.10
    assert found["deviations"][TORCH]["held_out_loss"] == pytest.approx(np.std([0.11, 0.11, 0.13], ddof=1))
    assert json.loads(json.dumps(found)) == found


def test_a_seed_without_its_other_engine_does_not_count():
    found = verdict("c", ("ours", TORCH), PAIRS[:3])
    assert found["seeds"] == [0] and found["deviations"] == {"ours": {}, TORCH: {}}
    assert "standard deviation" not in differences(found)
    assert differences(verdict("c", ("ours", TORCH), PAIRS[:1])) == f"no seed has both ours and {TORCH} yet"


def test_the_table_has_a_line_a_run_and_the_medians():
    found = verdict("c", ("ours", TORCH), PAIRS)
    lines = table(PAIRS, found).splitlines()
    assert len(lines) == 1 + 6 + 2 and "held-out loss" in lines[0] and "Fréchet" in lines[0]
    assert lines[1].split() == ["0", "ours", "150", "60.0", "600.0", "0.10000", "0.500", "95.0%"]
    assert lines[-2].split() == ["median", "ours", "150", "60.0", "600.0", "0.10000", "0.500", "95.0%"]
    said = differences(found)
    assert "1.500 times as many (1.400 … 1.600)" in said
    assert "-0.01000 (-0.03000 … +0.01000), lower at 2 of 3" in said
    assert "+1.0 points (-2.0 … +4.0), higher at 2 of 3" in said
    assert f"standard deviation over seeds: ours 0.01155, {TORCH} 0.01155" in said


def test_a_distance_that_was_not_taken_is_a_dash():
    without = [record(0, engine, frechet=None) for engine in ("ours", TORCH)]
    found = verdict("c", ("ours", TORCH), without)
    assert "–" in table(without, found) and "Fréchet" not in differences(found)


# ---- the command ----------------------------------------------------------------------------------------------------


def test_all_runs_finished_there_is_the_table_and_the_file(tmp_path, capsys):
    options = command.Winograd(data_dir=tmp_path, out=tmp_path, seeds=(0,), count=50, json=tmp_path / "quality.json")
    chosen = [command.winograd_run(options, backend_name, 0, []) for backend_name in command.BACKENDS]
    for number, run in enumerate(chosen):
        like = finished(tmp_path / str(number))
        run.folder.parent.mkdir(exist_ok=True)
        like.folder.rename(run.folder)
        about = json.loads((run.folder / "training.json").read_text())
        (run.folder / "training.json").write_text(json.dumps(about | {"words": [*run.program, *run.words]}))
    (tmp_path / "quality.json").write_text('[{"what": "other"}]')
    for _ in range(2):  # the second time replaces its own records
        command.compare(options, command.BACKENDS, chosen, {})
        names = [each["what"] for each in json.loads((tmp_path / "quality.json").read_text())]
        assert names == [
            "other",
            *(f"winograd/mnist/2000/{n}" for n in ("seed0/numba", "seed0/numba-gemm", "verdict")),
        ]
    out = capsys.readouterr().out
    assert "numba-gemm" in out and "0.10000" in out and "run 1 of" not in out


def test_without_torch_there_is_one_line_and_exit_code_2(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(SystemExit) as left:
        command.main(["same-minutes"])
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[0] == f"error: {workers.MISSING}"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--seeds", "1", "1"], "--seeds must be one or more, all different, got 1 1"),
        (["--count", "1"], "--count must be 2 or more, got 1"),
        ([], "--data mnist needs --data-dir DIR"),
    ],
)
def test_mistakes_are_one_line(words, line, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["winograd", *words])
    assert left.value.code == 2 and f"error: {line}" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", "[1]", "no"])
def test_a_file_of_something_else_is_not_replaced(tmp_path, content):
    path = tmp_path / "quality.json"
    path.write_text(content)
    with pytest.raises(MinidiffError, match=r"expected a list of records"):
        command.open_log(path)


def test_help_lists_the_comparisons(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["--help"])
    assert left.value.code == 0 and "{same-minutes,winograd,networks}" in capsys.readouterr().out


# ---- beside PyTorch, where it is ------------------------------------------------------------------------------------

STEPS = 3


def two_trainers(variant):
    """Ours and PyTorch's, from the same weights, none of them zero, on images of which half are mirrored."""
    from benchmarks.quality.torch_train import TorchTrainer

    config = Config(
        model=ModelConfig(patch=2, model_channels=8, channel_mult=(1, 2), attention_at=(2,), heads=2),
        optimizer=OptimizerConfig(lr=1e-2, warmup=1, weight_decay=0.5, clip=0.3, ema=0.5),  # so that each of them shows
        run=RunConfig(steps=STEPS, batch_size=6, seed=3),
    )
    dataset = toy_images.make(20)
    pair = Trainer(config, dataset), TorchTrainer(config, dataset, variant)
    made = problems.weights(pair[0].network)
    for trainer in pair:
        for name, view in trainer.parameters.split(trainer.parameters.w).items():
            view[...] = made[name]
        trainer.parameters.ema[:] = trainer.parameters.w
    pair[1].fetch()
    return pair


@pytest.fixture
def torch_variant():
    pytest.importorskip("torch", reason="PyTorch is a peer, not a dependency")
    from benchmarks.peers.torch_jobs import Variant

    with backend.using("numpy"):
        yield Variant(channels_last=True, compiled=False, bfloat16=False)


def test_pytorchs_loss_and_gradients_are_ours(torch_variant):
    from benchmarks.peers.torch_unet import gradients

    ours, theirs = two_trainers(torch_variant)
    (batch,) = ours.batches()
    loss = ours.loss(batch)
    ours.parameters.g[:] = 0
    loss.backward()
    expected = {f"gradient of {name}": view.copy() for name, view in ours.parameters.split(ours.parameters.g).items()}
    assert theirs.backward() == pytest.approx(loss.item(), rel=1e-5)  # a mean of squares in float32
    found = {f"gradient of {name}": g for name, g in gradients(theirs.net, theirs.parameters.parameters).items()}
    error, where = records.difference(expected, found, records.BOUND_FLOAT32)
    assert error < 1e-4, where  # float32's rounding through twenty layers is a few 1e-6


def test_pytorchs_steps_are_ours(torch_variant):
    """Clipping, AdamW with its decay, the learning rate and the average of the weights: all that a checkpoint holds."""
    ours, theirs = two_trainers(torch_variant)
    start = ours.parameters.w.copy()
    for _ in range(STEPS):
        mine, other = train_step(ours), theirs.advance()
        assert (other.step, other.lr) == (mine.step, mine.lr)
        assert other.loss == pytest.approx(mine.loss, rel=1e-4) and mine.grad_norm > 0.3
        assert other.grad_norm == pytest.approx(mine.grad_norm, rel=1e-4)
    theirs.write_back()
    moved = np.abs(ours.parameters.w - start).max()
    for name in ("w", "ema", "m", "v"):
        mine, other = getattr(ours.parameters, name), getattr(theirs.parameters, name)
        # Adam divides by the gradient's size: where a gradient is zero but for rounding, a step is rounding's too.
        scale = moved if name in ("w", "ema") else np.abs(mine).max()
        assert np.quantile(np.abs(mine - other), 0.99) < 1e-3 * scale, name


def test_a_training_by_pytorch_leaves_minidiffs_checkpoint(torch_variant, tmp_path, capsys):
    from benchmarks.quality.torch_train import TorchRun
    from minidiff import checkpoint as checkpoints
    from minidiff.training import run_dir as folders

    _, theirs = two_trainers(torch_variant)
    with folders.created(tmp_path / "run") as run:
        assert TorchRun(theirs, run, 0.0).train() == 0
    found = checkpoints.find(tmp_path / "run")
    assert found.step == STEPS and found.classes == theirs.dataset.classes
    weights = found.tensors["model"]["conv_in.w"]
    assert np.array_equal(weights, theirs.net.conv_in.weight.detach().permute(2, 3, 1, 0).numpy())
    assert np.any(found.tensors["adam_v"]["conv_in.w"]) and not np.array_equal(
        weights, found.tensors["ema"]["conv_in.w"]
    )
    assert not list((tmp_path / "run" / "previews").iterdir())
