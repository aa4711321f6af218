"""Section `ddpm`: the network of DDPM for CIFAR-10, 35.7 M weights, beside the diffusers library that it comes from."""

import importlib.util

from benchmarks.peers.problems import Forward
from benchmarks.peers.records import Log, agree, compare, heading, row
from benchmarks.peers.settings import Settings
from benchmarks.peers.workers import EAGER, OURS, PEERS, Workers

BATCHES = (1, 4, 16)


def measure(settings: Settings, log: Log) -> None:
    """Measure one forward pass for a few batch sizes; a pass takes up to seconds, so half the rounds do."""
    if importlib.util.find_spec("diffusers") is None:
        print("left out, because diffusers is not installed: pip install -e '.[peers]'")
        return
    with Workers((OURS, *(EAGER if settings.quick else PEERS)), settings.threads) as workers:
        heading(workers)
        for batch in BATCHES[:1] if settings.quick else BATCHES:
            what = f"ddpm/forward/batch/{batch}"
            workers.make(Forward(batch, base=32) if settings.quick else Forward(batch))
            found = agree(what, workers.check())
            record = compare(what, workers.in_turn((settings.rounds + 1) // 2, settings.least))
            record["difference"] = {peer: error for peer, (error, _) in found.items()}
            row(log.add(record))
