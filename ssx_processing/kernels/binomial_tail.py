"""How likely so many matches are by chance."""

import math

from numba import njit


@njit(cache=True, nogil=True)
def log10_binomial_tail(n: int, k: int, p: float) -> float:
    """log10 of the probability of at least ``k`` successes in ``n`` trials of probability ``p``."""
    if k <= 0:
        return 0.0
    log_term = (
        math.lgamma(n + 1.0)
        - math.lgamma(k + 1.0)
        - math.lgamma(n - k + 1.0)
        + k * math.log(p)
        + (n - k) * math.log1p(-p)
    )
    ratio, total = 1.0, 1.0
    for i in range(k, n):  # following terms relative to the first
        ratio *= (n - i) * p / ((i + 1) * (1.0 - p))
        total += ratio
        if ratio < 1e-12 * total:
            break
    return min(0.0, (log_term + math.log(total)) / math.log(10.0))
