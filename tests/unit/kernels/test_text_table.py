"""Tables of text become the numbers that Python itself reads."""

import numpy as np
import pytest

from ssx_processing.kernels.text_table import read_rows


def rows(text: str, n_numbers: int):
    data = np.frombuffer(text.encode(), np.uint8)
    return read_rows(data, 0, len(data), n_numbers)


def test_random_numbers_are_the_doubles_nearest_to_their_text(rng: np.random.Generator):
    values = rng.normal(size=3000) * 10.0 ** rng.integers(-9, 9, 3000)
    words = [f"{value:{rng.choice(['.2f', '.7f', '.3e', '+.5f', '.8g'])}}" for value in values]
    text = "\n".join(" ".join(words[i : i + 3]) for i in range(0, 3000, 3)) + "\n"
    numbers, names, _, bad = rows(text, 3)
    assert bad == -1
    assert numbers.ravel().tolist() == [float(word) for word in words]
    assert not names.any()


@pytest.mark.parametrize(
    "word", ["nan", "-nan", "inf", "-inf", ".5", "5.", "+3", "1E-3", "1e400", "-0", "1e-330"]
)
def test_odd_numbers_are_read_as_python_reads_them(word: str):
    numbers, _, _, bad = rows(f"  {word}\r\n", 1)
    assert bad == -1
    np.testing.assert_equal(numbers[0, 0], float(word))


def test_long_numbers_are_right_to_two_units_in_the_last_place():
    words = [
        "3.14159265358979323846264",
        "123456789012345678901234",
        "0.000000000000000000000000012345678901",
    ]
    numbers, _, _, _ = rows("\n".join(words), 1)
    np.testing.assert_array_max_ulp(numbers[:, 0], np.array([float(word) for word in words]), 2)


def test_words_behind_the_numbers_are_told_apart_by_their_hash():
    text = "1 2 q0a1\n3 4   q0a2\n5 6 q0a1"
    numbers, names, starts, bad = rows(text, 2)
    assert bad == -1
    assert numbers.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert names[0] == names[2] != names[1]
    assert [text[start : start + 4] for start in starts] == ["q0a1", "q0a2", "q0a1"]


@pytest.mark.parametrize("line", ["1 x", "1", "", "1 2 q0 more", "1 1..2", "1 1e", "1 --2", "1 2a"])
def test_a_line_that_is_no_row_is_where_reading_stops(line: str):
    numbers, _, _, bad = rows(f"1 2\n3 4\n{line}\n5 6\n", 2)
    assert bad == 8
    assert numbers.tolist() == [[1, 2], [3, 4]]
