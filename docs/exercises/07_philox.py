"""Exercise 7: one round of Philox.

Mix four words c0 ... c3 of a counter with two words k0, k1 of a key:

    c0' = high(0xCD9E8D57 c2) ^ c1 ^ k0        c1' = low(0xCD9E8D57 c2)
    c2' = high(0xD2511F53 c0) ^ c3 ^ k1        c3' = low(0xD2511F53 c0)

A product of two 32-bit words has 64 bits: high is its upper half, low its lower half. Python's ints have no
fixed length. The check runs ten of your rounds and compares with the numbers that the authors of Philox published.
"""

import sys

from checking import expect, report


def philox_round(c0: int, c1: int, c2: int, c3: int, k0: int, k1: int) -> tuple[int, int, int, int]:
    """All are ints in [0, 2**32). Returns the new c0, c1, c2, c3."""
    raise NotImplementedError


# counter, key, result. Source: known-answer tests of Random123 (Salmon et al. 2011), philox4x32 with 10 rounds
PUBLISHED = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def check() -> None:
    """Raise an error that says what is missing, unless `philox_round` is right."""
    once = philox_round(0, 0, 0, 0, 5, 7)
    expect(tuple(once) == (5, 0, 7, 0), f"a counter of zeros leaves the key alone: expected (5, 0, 7, 0), got {once}")
    once = philox_round(1, 0, 0, 0, 0, 0)
    expect(tuple(once) == (0, 0, 0, 0xD2511F53), f"c0 = 1 becomes the multiplier in c3, got {once}")
    for counter, key, result in PUBLISHED:
        words, (k0, k1) = [int(word, 16) for word in counter.split()], (int(word, 16) for word in key.split())
        for _ in range(10):
            words = list(philox_round(*words, k0, k1))
            expect(all(0 <= word < 1 << 32 for word in words), "a word left [0, 2**32): keep 32 bits of each half")
            k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
        found = " ".join(f"{word:08x}" for word in words)
        expect(found == result, f"counter {counter}: ten rounds should give {result}, got {found}")


if __name__ == "__main__":
    sys.exit(report(check))
