"""Section `conv`: the convolutions of a U-Net one by one, forward and both gradients."""

from dataclasses import replace

from benchmarks.peers.problems import DIRECTIONS, OTHERS, USUAL, Convolution, is_usual_kind, made_small
from benchmarks.peers.records import Log, Record, agree, compare, heading, mean_record, row
from benchmarks.peers.settings import Settings
from benchmarks.peers.workers import OURS, Workers, peers


def measure(settings: Settings, log: Log) -> None:
    """Measure every shape in every direction, then the means over the usual seven and the lowest ratios."""
    usual, others = (
        tuple(made_small(shape) for shape in shapes) if settings.quick else shapes for shapes in (USUAL, OTHERS)
    )
    measured: dict[Convolution, Record] = {}
    with Workers((OURS, *peers(compiled=False)), settings.threads) as workers:
        heading(workers)
        for direction in DIRECTIONS:
            for shape in (*usual, *others):
                problem, what = replace(shape, direction=direction), f"conv/{direction}/{shape.name}"
                workers.make(problem)
                found = agree(what, workers.check())
                record = compare(what, workers.in_turn(settings.rounds, settings.least))
                record["difference"] = {peer: error for peer, (error, _) in found.items()}
                measured[problem] = log.add(record)
                row(record)
            row(log.add(mean_record(f"conv/{direction}", [measured[replace(s, direction=direction)] for s in usual])))
    print()
    for kind, name, title in ((True, "3x3", "3×3, stride 1, 16 channels or more"), (False, "others", "all others")):
        records = [record for problem, record in measured.items() if is_usual_kind(problem) == kind]
        lowest = min(records, key=lambda record: record["ratio_best_float32"])
        ratio = lowest["ratio_best_float32"]
        log.add({"what": f"conv/lowest/{name}", "of": lowest["what"], "ratio_best_float32": ratio})
        print(f"lowest float32 ratio of {title}: {ratio:.2f} at {lowest['what']}")
