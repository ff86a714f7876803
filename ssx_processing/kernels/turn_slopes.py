"""How excitation errors change when a crystal is turned."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def write_turn_slopes(
    offsets: NDArray[np.int64],
    hkl: NDArray[np.int16],
    a_matrices: NDArray[np.float64],
    wavelength: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Change of excitation errors with turns about x and y, 1/Å per radian; the beam s0 along -z.

    A turn w moves q by w x q, hence e by n.(w x q) = w.(q x n) = w.(n x s0), n the direction of s0 + q.
    About z, the beam, nothing changes.

    Parameters
    ----------
    offsets : (n_lattices + 1,) array
        Of which observations are a lattice's.
    hkl : (n, 3) array
    a_matrices : (n_lattices, 3, 3) array
        1/Å.
    wavelength : (n_lattices,) array
        Å.
    out : (n, 2) array
        Written.
    """
    for f in range(len(offsets) - 1):
        a, k = a_matrices[f], 1.0 / wavelength[f]
        for i in range(offsets[f], offsets[f + 1]):
            h, j, l = hkl[i, 0], hkl[i, 1], hkl[i, 2]  # noqa: E741
            x = a[0, 0] * h + a[0, 1] * j + a[0, 2] * l
            y = a[1, 0] * h + a[1, 1] * j + a[1, 2] * l
            z = a[2, 0] * h + a[2, 1] * j + a[2, 2] * l - k
            scale = k / math.sqrt(x * x + y * y + z * z)
            out[i, 0], out[i, 1] = -scale * y, scale * x
