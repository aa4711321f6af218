"""What the kernels know of the core that they run on: how many sums its registers hold, and how large its cache is.

    instructions   registers for vectors   numbers in each   sums of a product
    AVX-512        32                      16                8 rows of 2 vectors: 16 registers of 32
    AVX2           16                      8                 4 rows of 1 vector, two registers each: 8 of 16
    NEON (ARM)     32                      4                 4 rows of 1 vector, four registers each: 16 of 32

A vector is sixteen numbers on every core (`numba_vector.py`). The other registers hold what is multiplied. On x86
without AVX2 a vector is four registers as on ARM, but there are sixteen in all: it computes the same numbers, slowly.

Second-level caches have 256 KiB to 2 MiB. A block of tiles may fill half of one; the rest is for the filter that it is
multiplied with. Blocks change where a number lies, not how it is added up: all cores compute the same bits.

Nothing else of the kernels asks what a core can do.
"""

import re
from pathlib import Path
from typing import NamedTuple

from llvmlite.binding import get_host_cpu_features
from numba.core import config

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # where Linux describes them
USUAL_CACHE = 1 << 20  # bytes, where nobody says
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


class Block(NamedTuple):
    """The part of a product whose sums are in registers at the same time: rows, and vectors of columns."""

    rows: int
    vectors: int


BLOCKS = {"avx512f": Block(8, 2), "avx2": Block(4, 1), "neon": Block(4, 1)}  # the first that a core has counts


def features() -> list[str]:
    """Return the instructions that kernels are compiled for: this machine's, unless NUMBA_CPU_FEATURES names others."""
    named = get_host_cpu_features().flatten() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return [each[1:] for each in named.split(",") if each.startswith("+")]


def block_of(instructions: list[str]) -> Block:
    """Return the block of sums for a core with these instructions."""
    return next((block for name, block in BLOCKS.items() if name in instructions), BLOCKS["avx2"])


def second_level_cache(caches: Path = CACHES) -> int:
    """Return the bytes of a core's second-level cache as the system describes it, USUAL_CACHE if it does not."""
    for folder in sorted(caches.glob("index*")):
        try:
            level, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "size"))
        except (OSError, ValueError):
            continue
        found = re.fullmatch(r"(\d+)([KM]?)", size)
        if level == "2" and found:
            return int(found[1]) * UNITS[found[2]]
    return USUAL_CACHE


BLOCK = block_of(features())
TILES = min(max(second_level_cache(), 1 << 18), 1 << 21) // 8  # numbers of float32 in half the cache
