"""How precise is a number that was measured on a few hundred images?

Idea: 95% of 100 samples and 95% of 10,000 samples are different statements; a confidence interval tells them apart.
Leaves out the error of the Fréchet distance, which is not a mean: frechet.py.
"""

import math

import numpy as np

Z = 1.959963984540054  # a normal variable lies within ± Z standard deviations with probability 95%


def wilson(successes: int, n: int, z: float = Z) -> tuple[float, float]:
    """Return the ends of the confidence interval of a share, given `successes` of `n` trials; 95% by default.

        (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n),     p = successes / n

    Unlike p ± z sqrt(p (1 - p) / n) it stays inside [0, 1], and its width is not 0 for 100 successes of 100.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference",
    doi:10.1080/01621459.1927.10502953.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"wilson: expected 0 <= successes <= n and n of 1 or more, got {successes} and {n}")
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # For 0 and n successes one end is 0 or 1 exactly; the formula gives it only up to rounding.
    return (0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of numbers (n,) and its standard error sqrt(variance / n), which is nan for n = 1."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"mean_and_error: expected (n,) numbers, got {values.shape}")
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), error
