"""How excitation errors change when a crystal is turned."""

import numpy as np
from numpy.typing import NDArray


def turn_slopes(q: NDArray[np.float64], wavenumber: float) -> NDArray[np.float32]:
    """Change of e = \\|s0 + q\\| - \\|s0\\| with turns about x and y, 1/Å per radian; s0 along -z.

    A turn w moves q by w x q, hence e by n.(w x q) = w.(q x n), n the direction of s0 + q. About z,
    the beam, nothing changes.

    Parameters
    ----------
    q : (n, 3) array
        1/Å.
    wavenumber
        1 / wavelength, 1/Å.

    Returns
    -------
    (n, 2) array

    Examples
    --------
    >>> turn_slopes(np.array([[0.0, 0.3, 0.1]]), 1.0).round(4).tolist()
    [[-0.3162, 0.0]]
    """
    ray = q - [0.0, 0.0, wavenumber]
    length = np.linalg.norm(ray, axis=1)
    # q x n = (s0 + q - s0) x n = -s0 x n
    return (wavenumber * np.column_stack([-ray[:, 1], ray[:, 0]]) / length[:, None]).astype(np.float32)
