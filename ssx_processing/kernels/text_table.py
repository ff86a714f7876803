"""Numbers from tables of text, at the speed of memory: a stream of CrystFEL is nearly all such tables."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

NEWLINE, RETURN, SPACE, TAB = 10, 13, 32, 9
_MOST_DIGITS = 18  # of a mantissa that an int64 holds
_EXACT_POWERS = 10.0 ** np.arange(23)  # powers of ten that a float64 holds exactly
_FNV_OFFSET, _FNV_PRIME = np.uint64(14695981039346656037), np.uint64(1099511628211)


@njit(cache=True, nogil=True)
def read_rows(
    text: NDArray[np.uint8], start: int, stop: int, n_numbers: int
) -> tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.int64], int]:
    """Numbers and the word after them, of each line between two bytes.

    A number of up to 15 digits that needs no larger power of ten than 22 becomes the nearest double, as with
    ``float``; longer ones are right to two units in the last place.

    Parameters
    ----------
    text : (n,) array
        Bytes.
    start, stop
        First byte of the table's first line, and the byte behind its last.
    n_numbers
        Numbers in front of each line; nan and inf are such.

    Returns
    -------
    numbers : (n_rows, n_numbers) array
    words : (n_rows,) array
        Hash (FNV-1a, 64 bits) of the word behind the numbers; 0 where there is none.
    word_starts : (n_rows,) array
        Its first byte.
    bad
        First byte of the first line that is not so, where reading stopped; -1 if all are.
    """
    n_rows = 0
    for i in range(start, stop):
        n_rows += text[i] == NEWLINE
    if stop > start and text[stop - 1] != NEWLINE:
        n_rows += 1
    numbers = np.empty((n_rows, n_numbers))
    words = np.zeros(n_rows, np.uint64)
    word_starts = np.zeros(n_rows, np.int64)
    at, row = start, 0
    while at < stop:
        line = at
        for column in range(n_numbers):
            value, after = _number(text, _skip_blanks(text, at, stop), stop)
            if after < 0:
                return numbers[:row], words[:row], word_starts[:row], line
            numbers[row, column], at = value, after
        at = _skip_blanks(text, at, stop)
        word_starts[row] = at
        if at < stop and text[at] != NEWLINE and text[at] != RETURN:
            hashed = _FNV_OFFSET
            while at < stop and text[at] > SPACE:
                hashed = (hashed ^ np.uint64(text[at])) * _FNV_PRIME
                at += 1
            words[row] = hashed
            at = _skip_blanks(text, at, stop)
        if at < stop and text[at] == RETURN:
            at += 1
        if at < stop and text[at] != NEWLINE:
            return numbers[:row], words[:row], word_starts[:row], line
        at += 1
        row += 1
    return numbers, words, word_starts, -1


@njit(cache=True, nogil=True, inline="always")
def _skip_blanks(text: NDArray[np.uint8], at: int, stop: int) -> int:
    """First byte from ``at`` on that is neither a space nor a tabulator."""
    while at < stop and (text[at] == SPACE or text[at] == TAB):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _number(text: NDArray[np.uint8], at: int, stop: int) -> tuple[float, int]:
    """The number that begins at a byte, and the byte behind it; -1 for that if there is none."""
    sign = 1.0
    if at < stop and (text[at] == 45 or text[at] == 43):  # - +
        sign = -1.0 if text[at] == 45 else 1.0
        at += 1
    if at + 2 < stop and text[at] > 57:  # a letter
        first, last = text[at] | 32, text[at + 2] | 32
        after = at + 3
        if first == 110 and last == 110:
            return math.nan, after
        if first == 105 and last == 102:
            return sign * math.inf, after
        return 0.0, -1
    mantissa, n_digits, power, seen, fraction = np.int64(0), 0, 0, False, False
    while at < stop:
        byte = text[at]
        if 48 <= byte <= 57:
            seen = True
            if n_digits < _MOST_DIGITS:
                mantissa = mantissa * 10 + np.int64(byte - 48)
                n_digits += mantissa > 0
                power -= fraction
            else:
                power += not fraction
        elif byte == 46 and not fraction:
            fraction = True
        else:
            break
        at += 1
    if not seen:
        return 0.0, -1
    if at < stop and (text[at] | 32) == 101:  # e
        exponent, after = _exponent(text, at + 1, stop)
        if after < 0:
            return 0.0, -1
        power, at = power + exponent, after
    if at < stop and text[at] > SPACE:
        return 0.0, -1
    return sign * _scaled(float(mantissa), power), at


@njit(cache=True, nogil=True)
def _exponent(text: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Exponent behind an e, and the byte behind it; -1 for that if there is none."""
    negative = at < stop and text[at] == 45
    if at < stop and (text[at] == 45 or text[at] == 43):
        at += 1
    exponent, begin = 0, at
    while at < stop and 48 <= text[at] <= 57:
        exponent = min(exponent * 10 + int(text[at] - 48), 9999)
        at += 1
    return (-exponent if negative else exponent), (at if at > begin else -1)


@njit(cache=True, nogil=True, inline="always")
def _scaled(value: float, power: int) -> float:
    """The value times ten to a power; one rounding where the power is exact."""
    if power == 0 or value == 0.0:
        return value
    if 0 < power < 23:
        return value * _EXACT_POWERS[power]
    if -23 < power < 0:
        return value / _EXACT_POWERS[-power]
    return value * 10.0**power
