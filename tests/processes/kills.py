"""Kill a random process at a random moment, again and again: `python -m tests.processes.kills 100`.

Trainings on 2, 4 and 8 processes are killed, by the signal that no process can catch, and resumed on another number of
processes, until they are complete. None may hang, none may lose a checkpoint, and each must end with the weights of a
training that was left alone.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minidiff import checkpoint as checkpoints
from tests.processes.test_mpi import TRAIN, start, train, weights

STEPS = 40
MOST_SECONDS = 30  # from the kill to the end of all processes
MODULE = "tests.processes.small_training"


def members(folder: Path) -> list[int]:
    """The processes that train into a folder, without their launcher."""
    pattern = f"^{re.escape(sys.executable)} -m {MODULE} .*{folder}"
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def last_step(folder: Path) -> int:
    """The step of the last checkpoint, which must be whole; 0 if there is none yet."""
    paths = checkpoints.paths_in(folder) if folder.exists() else []
    return checkpoints.find(folder).step if paths else 0


def life(folder: Path, n: int, rng: random.Random) -> float | None:
    """Train until a random process is killed; return the seconds in which all others ended, None if it was too late."""
    before = last_step(folder)
    options = f"--resume {folder}" if before else f"{TRAIN} --steps {STEPS} --out {folder}"
    process = start(n, MODULE, options)
    time.sleep(rng.uniform(0.2, 6))
    victims = members(folder)
    if victims:
        killed = time.monotonic()
        subprocess.run(["kill", "-KILL", str(rng.choice(victims))], check=False, capture_output=True)
    _, err = process.communicate(timeout=10 * MOST_SECONDS)
    seconds = time.monotonic() - killed if victims else None
    assert not members(folder), "a process is left"
    assert last_step(folder) >= before, "a checkpoint was lost"
    assert "Traceback" not in err, err  # the launcher has words of its own, above all while MPI starts
    return seconds if process.returncode else None


def kill(count: int, seed: int = 0) -> dict[str, float]:
    """Kill so many processes; return what happened."""
    rng, slowest, kills, runs = random.Random(seed), 0.0, 0, 0
    with tempfile.TemporaryDirectory() as work:
        alone = Path(work) / "alone"
        train(1, f"{TRAIN} --steps {STEPS} --out {alone}")
        folder = Path(work) / "0"
        while kills < count or last_step(folder) not in (0, STEPS):
            n = rng.choice((2, 4, 8))
            if kills < count:
                seconds = life(folder, n, rng)
                if seconds is not None:
                    kills, slowest = kills + 1, max(slowest, seconds)
                    assert seconds < MOST_SECONDS, f"it took {seconds:.0f} s until all had ended"
                    if not last_step(folder):  # not even begun: the next life takes a new folder
                        folder = folder.with_name(folder.name + "x")
            else:
                train(n, f"--resume {folder}")
            if last_step(folder) == STEPS:
                assert weights(folder) == weights(alone), "other weights than those of an uninterrupted training"
                runs += 1
                folder = Path(work) / str(runs)
    return {"kills": kills, "complete trainings": runs, "slowest end, seconds": round(slowest, 1)}


if __name__ == "__main__":
    print(kill(*map(int, sys.argv[1:])))
