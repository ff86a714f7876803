"""How much equal reflections scatter, learnt from the observations themselves."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.merging import (
    FASTMATH,
    OUTLIER_SIGMA,
    ErrorModel,
    Observations,
    Reference,
    Scales,
)

_NOISE_FACTOR_RANGE = (0.5, 20.0)
_SPREAD_RANGE = (0.1, 3.0)
_N_ITERATIONS = 3
_ENOUGH = 200_000  # observations that determine two numbers well


def estimate_error_model(
    observations: Observations,
    scales: Scales,
    reference: Reference,
    *,
    s_squared: NDArray[np.float64],
    start: ErrorModel,
) -> ErrorModel:
    """Error model whose variances equal the observed squared residuals on average.

    Residuals r from the mean without the observation itself; weighted least squares of
    r² - var(mean) on the two terms of `ErrorModel`, weights 1 / variance². The form is MM24's
    (cctbx, error_modifier_mm24.py) with one spread for all lattices, fitted by moments. Of more than
    200,000 observations, evenly spaced lattices are used.
    """
    model, step = start, max(len(observations.uid) // _ENOUGH, 1)
    for _ in range(_N_ITERATIONS):
        nn, ns, ss, nr, sr = _moments(
            observations.offsets, observations.uid, observations.noise_variance, s_squared,
            scales.log_g, scales.b_factor, reference.table, reference.scaled, reference.weight,
            model.noise_factor, model.spread**2, step,
        )  # fmt: skip
        determinant = nn * ss - ns * ns
        if not determinant > 1e-12 * nn * ss:
            return model  # too few repeats, or all of one intensity: nothing to learn from
        noise_factor = np.clip((ss * nr - ns * sr) / determinant, *_NOISE_FACTOR_RANGE)
        spread_squared = max((sr - ns * noise_factor) / ss, 0.0)
        model = ErrorModel(float(noise_factor), float(np.clip(np.sqrt(spread_squared), *_SPREAD_RANGE)))
    return model


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _moments(
    offsets, uid, noise_variance, s_squared, log_g, b_factor, table, scaled, weight,
    noise_factor, spread_squared, step,
):  # fmt: skip
    nn, ns, ss, nr, sr = 0.0, 0.0, 0.0, 0.0, 0.0
    for f in range(0, len(offsets) - 1, step):
        inverse_g = np.exp(-log_g[f])
        for i in range(offsets[f], offsets[f + 1]):
            u = uid[i]
            rest = table[u, 0] - weight[i]
            if weight[i] == 0.0 or rest <= 1e-9 * table[u, 0]:
                continue
            m = (table[u, 1] - weight[i] * scaled[i]) / rest
            to_scale = inverse_g * np.exp(2.0 * b_factor[f] * s_squared[u])
            noise = noise_variance[i] * to_scale * to_scale + max(m, 0.0) * to_scale
            square = m * m
            variance = noise_factor * noise + spread_squared * square + 1.0 / rest
            r = scaled[i] - m
            excess = min(r * r, OUTLIER_SIGMA * OUTLIER_SIGMA * variance) - 1.0 / rest
            w = 1.0 / (variance * variance)
            nn += w * noise * noise
            ns += w * noise * square
            ss += w * square * square
            nr += w * noise * excess
            sr += w * square * excess
    return nn, ns, ss, nr, sr
