"""The command: `python -m benchmarks.quality --help`."""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.peers.records import Log
from benchmarks.peers.workers import OURS, PEERS, require_torch
from benchmarks.quality import runs
from benchmarks.quality.runs import Judging, Record, Run
from benchmarks.quality.verdict import differences, table, verdict
from minidiff.data.config import DataName
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.training.cli import parse
from minidiff.training.run_dir import read_metrics

DESCRIPTION = """\
Is faster training as good a training? Train in two ways from the same seeds, and judge both by minidiff.evaluate.

same-minutes: minidiff.train, and the same network from the same weights, images and noise in PyTorch, for the same \
minutes. winograd: with Winograd's way of convolving and without, for the same steps. networks: a transformer and a \
U-Net of about as many weights, for the same minutes, or for the same steps.

What is finished is not repeated: after Ctrl-C the same command goes on. What comes after -- goes to every training. \
Leave the machine alone meanwhile.

  python -m benchmarks.quality same-minutes --data mnist --data-dir data/mnist --json quality.json
  python -m benchmarks.quality winograd --data mnist --data-dir data/mnist --json quality.json
  python -m benchmarks.quality networks --data mnist --data-dir data/mnist --minutes 5 --json quality.json
  python -m benchmarks.quality same-minutes --data mnist --data-dir data/mnist --minutes 2 -- --batch-size 64"""

BACKENDS = ("numba", "numba-gemm")
NETWORKS = ("dit", "unet")
PROBE_STEPS = 20


@dataclass(frozen=True)
class Options:
    """What all comparisons ask."""

    data: DataName = "mnist"
    """The images; they must have labels."""
    data_dir: Path | None = None
    """Where the images lie."""
    download: bool = False
    """Fetch what is missing in --data-dir (mnist, fashion-mnist, cifar10)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings; each names the first weights, the images' order and all noise."""
    count: int = 1000
    """Samples that are judged."""
    guidance_scale: float = 1.0
    """How hard the label pulls at the samples; 1 is as learnt, which is what their distance to real images tells."""
    threads: int | None = None
    """Threads of every training and judging; None: all that this process may use."""
    out: Path = Path("runs/quality")
    """Folder for the runs, a sub-folder a comparison."""
    json: Path | None = None
    """File for the records: those of other comparisons in it stay, those of the same runs are replaced."""


@dataclass(frozen=True)
class SameMinutes(Options):
    """Train with minidiff and with PyTorch for the same minutes."""

    minutes: float = 5.0
    """Minutes of each training."""
    peers: tuple[str, ...] = ("torch bfloat16",)
    """Ways in which PyTorch may train; of several, the one that promises most steps in the minutes, measured before,
    does. ("torch bfloat16 compile" makes a few percent more, but its gradients are less exact, and teach less.)"""

    @property
    def name(self) -> str:
        return f"same-minutes/{self.data}/{self.minutes:g}"


@dataclass(frozen=True)
class Winograd(Options):
    """Train with the backends numba and numba-gemm for the same steps."""

    steps: int = 2000
    """Steps of each training."""
    base: int = 16
    """Channels at full resolution; half of the usual, so that a training takes minutes."""
    batch_size: int = 16
    """Images a step; half of the usual, too."""

    @property
    def name(self) -> str:
        return f"winograd/{self.data}/{self.steps}"


@dataclass(frozen=True)
class Networks(Options):
    """Train a transformer and a U-Net, for the same minutes or the same steps; scenes are learnt with labels."""

    minutes: float = 8.5
    """Minutes of each training."""
    steps: int | None = None
    """Steps of each training, in the place of minutes; a transformer's take longer."""

    @property
    def name(self) -> str:
        length = f"{self.minutes:g}" if self.steps is None else f"{self.steps}-steps"
        return f"networks/{self.data}/{length}"


# ---- the commands of the trainings ----------------------------------------------------------------------------------


def data_words(options: Options) -> list[str]:
    """Return the words that both trainings get about data and threads."""
    words = ["--data", options.data]
    words += [] if options.data_dir is None else ["--data-dir", str(options.data_dir)]
    words += ["--download"] if options.download else []
    return words + ([] if options.threads is None else ["--threads", str(options.threads)])


def folder(options: SameMinutes | Winograd | Networks) -> Path:
    """Return the folder of a comparison's runs."""
    return options.out / options.name.replace("/", "-")


def same_minutes_run(options: SameMinutes, engine: str, seed: int, extra: Sequence[str]) -> Run:
    """Return the run of one engine, ours or one of `PEERS`, from one seed."""
    words = [*data_words(options), *extra, "--minutes", f"{options.minutes:g}", "--seed", str(seed)]
    return Run(folder(options) / f"seed{seed}-{_dashed(engine)}", engine, seed, _program(engine), tuple(words))


def probe(options: SameMinutes, engine: str, extra: Sequence[str], steps: int, name: str = "probe") -> Run:
    """Return a few steps of an engine, to fill caches of compiled code and to see how fast it is."""
    words = [*data_words(options), *extra, "--steps", str(steps)]
    return Run(folder(options) / f"{name}-{_dashed(engine)}", engine, 0, _program(engine), tuple(words))


def winograd_run(options: Winograd, backend: str, seed: int, extra: Sequence[str]) -> Run:
    """Return the run of one backend from one seed."""
    shape = ["--model-channels", str(options.base), "--batch-size", str(options.batch_size)]
    words = [*data_words(options), *shape, *extra, "--backend", backend]
    words += ["--steps", str(options.steps), "--seed", str(seed)]
    return Run(folder(options) / f"seed{seed}-{backend}", backend, seed, runs.OURS, tuple(words))


def networks_run(options: Networks, network: str, seed: int, extra: Sequence[str]) -> Run:
    """Return the run of one network from one seed."""
    length = ["--minutes", f"{options.minutes:g}"] if options.steps is None else ["--steps", str(options.steps)]
    words = network_words(options, network, extra, [*length, "--seed", str(seed)])
    return Run(folder(options) / f"seed{seed}-{network}", network, seed, runs.OURS, words)


def network_words(options: Networks, network: str, extra: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Return the words of the training of a network, up to its length and seed, which are in `more`."""
    labels = ["--captions", "none"] if options.data == "scenes" else []
    return (*data_words(options), *labels, *extra, "--network", network, *more)


def _program(engine: str) -> tuple[str, ...]:
    return runs.OURS if engine == OURS else (*runs.TORCH, engine)


def _dashed(engine: str) -> str:
    return engine.replace(" ", "-")


# ---- the comparisons ------------------------------------------------------------------------------------------------


def same_minutes(options: SameMinutes, extra: Sequence[str]) -> None:
    """Compare minidiff with PyTorch after the same minutes."""
    require_torch()
    if unknown := [peer for peer in options.peers if peer not in PEERS]:
        raise MinidiffError(f"--peers: {unknown[0]!r} is not known; expected some of {', '.join(PEERS)}")
    check(options, same_minutes_run(options, OURS, options.seeds[0], extra))
    engines = (OURS, choose(options, extra))
    chosen = [same_minutes_run(options, engine, seed, extra) for seed in options.seeds for engine in engines]
    compare(options, engines, chosen, {f"train {engine}": 60 * options.minutes for engine in engines})


def choose(options: SameMinutes, extra: Sequence[str]) -> str:
    """Let each peer make a few steps and return the one that promises most in the minutes.

    All of this is outside the minutes, and both sides find their caches of compiled code filled: ours made three steps
    here as well, and what compiles a network is measured in its second process.
    """
    compiled = probe(options, OURS, extra, runs.FIRST_STEPS, f"first-{runs.kernels()}")  # again for other kernels
    finish_training(compiled)
    promises: dict[str, float] = {}
    for peer in options.peers:
        if PEERS[peer][1] and len(options.peers) > 1:
            finish_training(probe(options, peer, extra, runs.FIRST_STEPS, "first"))
        tried = probe(options, peer, extra, PROBE_STEPS)
        finish_training(tried)
        metrics = read_metrics(tried.folder / "metrics.jsonl")
        promises[peer] = runs.promised(metrics, options.minutes)
        start, step = metrics[runs.FIRST_STEPS - 1]["seconds"], runs.step_seconds(metrics)
        print(f"{peer}: {runs.FIRST_STEPS} steps after {start:.1f} s, then {1e3 * step:.1f} ms a step: ", end="")
        print(f"{promises[peer]:.0f} steps in {options.minutes:g} minutes", flush=True)
    return max(promises, key=promises.__getitem__)


def winograd(options: Winograd, extra: Sequence[str]) -> None:
    """Compare the two ways of convolving after the same steps."""
    chosen = [winograd_run(options, backend, seed, extra) for seed in options.seeds for backend in BACKENDS]
    check(options, chosen[0])
    compare(options, BACKENDS, chosen, {})


def networks(options: Networks, extra: Sequence[str]) -> None:
    """Compare a transformer with a U-Net."""
    chosen = [networks_run(options, network, seed, extra) for seed in options.seeds for network in NETWORKS]
    check(options, chosen[0])
    planned: dict[str, float] = {}
    if options.steps is None:
        planned = {f"train {network}": 60 * options.minutes for network in NETWORKS}
        for network in NETWORKS:  # compiled code is cached before the first minute
            words = network_words(options, network, extra, ["--steps", str(runs.FIRST_STEPS)])
            finish_training(Run(folder(options) / f"first-{runs.kernels()}-{network}", network, 0, runs.OURS, words))
    compare(options, NETWORKS, chosen, planned)


def check(options: Options, first: Run) -> None:
    """Raise MinidiffError, or leave with the training's own message, for what would end the runs, before they begin."""
    if not options.seeds or len(set(options.seeds)) < len(options.seeds):
        raise MinidiffError(f"--seeds must be one or more, all different, got {' '.join(map(str, options.seeds))}")
    if options.count < 2:
        raise MinidiffError(f"--count must be 2 or more, got {options.count}")
    config = parse(first.words).config
    if not open_data(config.data, "test").classes:
        raise MinidiffError(f"--data {options.data}: these images have no labels, and the judging asks for them")


def compare(
    options: SameMinutes | Winograd | Networks,
    engines: tuple[str, str],
    chosen: Sequence[Run],
    planned: dict[str, float],
) -> None:
    """Make all runs that are not finished, write each one's record, and print the table and the differences."""
    judging = Judging(options.count, options.guidance_scale, options.threads)
    log, records = open_log(options.json), []
    spent: dict[str, list[float]] = {}
    for number, run in enumerate(chosen):
        later = [kind for each in chosen[number + 1 :] for kind in todo(each, judging)]
        for kind in todo(run, judging):
            left, sure = runs.time_left([kind, *later], spent, planned)
            shown = f"; {'about' if sure else 'more than'} {left / 60:.0f} min left" if left else ""
            what = "train" if kind != "judge" else "judge"
            print(f"run {number + 1} of {len(chosen)}: {what} {run.engine}, seed {run.seed}{shown}", flush=True)
            if kind == "judge":
                spent.setdefault(kind, []).append(sum(run.judge(judging)["seconds"].values()))
            else:
                run.train()
        about = run.training()
        assert about is not None
        spent.setdefault(f"train {run.engine}", []).append(about["seconds"])
        if run.program == runs.OURS and about["kernels"] != runs.kernels():
            print(f"note: {run.folder} was trained with kernels {about['kernels']}; these are {runs.kernels()}")
        records.append(add(log, run.record(options.name, judging)))
    found = add(log, verdict(options.name, engines, records))
    print(f"\n{options.name}: {options.count} samples at guidance {options.guidance_scale:g}\n")
    print(table(records, found))
    print()
    print(differences(found))


def todo(run: Run, judging: Judging) -> list[str]:
    """Return the kinds of work that a run still needs."""
    if run.training() is None:
        return [f"train {run.engine}", "judge"]
    return [] if run.evaluation(judging) else ["judge"]


def finish_training(run: Run) -> None:
    """Train unless that is done."""
    if run.training() is None:
        print(f"trying {run.engine}", flush=True)
        run.train()


# ---- the file -------------------------------------------------------------------------------------------------------


def open_log(path: Path | None) -> Log:
    """Return a log that goes on with the records of the file, if there is one.

    Raises MinidiffError in one line if it holds something else; it is not replaced then.
    """
    log = Log(path)
    if path is not None and path.exists():
        try:
            log.records = json.loads(path.read_text("utf-8"))
            well = all(isinstance(record, dict) and "what" in record for record in log.records)
        except (ValueError, TypeError):
            well = False
        if not well or not isinstance(log.records, list):
            raise MinidiffError(f"--json {path}: expected a list of records, as this command writes it")
    return log


def add(log: Log, record: Record) -> Record:
    """Write a record; an earlier one of the same name goes."""
    log.records[:] = [each for each in log.records if each["what"] != record["what"]]
    return log.add(record)


Command = (
    Annotated[SameMinutes, tyro.conf.subcommand("same-minutes")]
    | Annotated[Winograd, tyro.conf.subcommand("winograd")]
    | Annotated[Networks, tyro.conf.subcommand("networks")]
)
COMPARISONS: dict[type, Callable[..., None]] = {SameMinutes: same_minutes, Winograd: winograd, Networks: networks}


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Parse and compare; exits with 2 for a mistake or a missing PyTorch, 130 or 143 after Ctrl-C or SIGTERM."""
    given = list(sys.argv[1:] if words is None else words)
    cut = given.index("--") if "--" in given else len(given)
    options: Any = tyro.cli(
        Command,  # type: ignore[arg-type]  # a union of types, which tyro takes
        prog="python -m benchmarks.quality",
        description=DESCRIPTION,
        args=given[:cut],
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        COMPARISONS[type(options)](options, given[cut + 1 :])
    except (KeyboardInterrupt, SystemExit):
        print("stopped: finished runs stay, and the same command goes on", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
