"""To which subset a frame belongs: laser state, delay, dose, chip, or what a table of the user's says."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ssx_processing.errors import SettingsError
from ssx_processing.pipeline.event_table import ALL_COLUMNS
from ssx_processing.settings import MergingSettings

MOST_SUBSETS = 60
"""More are a mistake: a column with another value on every frame."""
_KEYS = ("data_set", "file", "frame")
_HARMLESS = re.compile(r"[\w\s%/*+\-<>=!&|().]+")
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORDS = {"and", "or", "not", "in", "True", "False"}


def columns_needed(settings: MergingSettings) -> list[str]:
    """Names in the expression, which may be columns of the chunks' tables of frames."""
    names = _NAME.findall(settings.subset_by or "")
    return sorted({name for name in names if name not in _WORDS})


def table_digest(settings: MergingSettings) -> str:
    """Of the content of the user's table, for the key of a merge; empty without one."""
    if settings.subset_table is None:
        return ""
    try:
        return hashlib.sha256(settings.subset_table.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(
            f"merging.subset_table {settings.subset_table}: cannot be read ({error})"
        ) from error


def subset_labels(frames: pd.DataFrame, settings: MergingSettings) -> pd.Series:
    """Label of each frame, empty where it is in no subset.

    Parameters
    ----------
    frames
        Tables of frames of all chunks below each other, with `data_set`.

    Raises
    ------
    SettingsError
        The expression or the table cannot be used.
    """
    by = settings.subset_by or ""
    if not _HARMLESS.fullmatch(by):
        raise SettingsError(
            f"merging.subset_by {by!r}: expected a column or an expression of columns such as 'frame % 10'"
        )
    table = frames if settings.subset_table is None else _joined(frames, settings.subset_table)
    try:
        values = table.eval(by, engine="python")
    except Exception as error:  # pandas raises whatever the expression leads to
        known = ", ".join(sorted(table.columns))
        raise SettingsError(f"merging.subset_by {by!r}: {error}; columns there are: {known}") from error
    if not isinstance(values, pd.Series):
        raise SettingsError(f"merging.subset_by {by!r} is {values!r} for all frames: name a column")
    labels = _as_text(values)
    n = labels[labels != ""].nunique()
    if n > MOST_SUBSETS:
        raise SettingsError(
            f"merging.subset_by {by!r} makes {n} subsets, at most {MOST_SUBSETS} are merged; "
            "group its values, such as 'frame % 10' or 'dose // 2'"
        )
    if n == 0:
        raise SettingsError(f"merging.subset_by {by!r} has no value on any frame")
    return labels


def _as_text(values: pd.Series) -> pd.Series:
    """Values as labels: whole numbers without a point, missing ones empty."""
    numbers = pd.to_numeric(values, errors="coerce") if values.dtype.kind not in "biuf" else values
    if numbers.notna().equals(values.notna()) and values.dtype.kind != "b":
        text = numbers.map(lambda x: f"{x:g}")
    else:
        text = values.astype(str)
    return text.where(values.notna(), "")


def _joined(frames: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Frames with the columns of the user's table."""
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"merging.subset_table {path}: cannot be read ({error})") from error
    on = [name for name in _KEYS if name in table.columns]
    if "frame" not in on:
        raise SettingsError(
            f"merging.subset_table {path}: no column `frame` (from 0 in each data set); it has "
            f"{', '.join(map(str, table.columns))}"
        )
    twice = table.duplicated(on)
    if twice.any():
        raise SettingsError(
            f"merging.subset_table {path}: frame {table.loc[twice, 'frame'].iloc[0]} is there twice"
        )
    _check_data_sets(frames, on, path)
    own = [name for name in table.columns if name in ALL_COLUMNS and name in frames.columns]
    frames = frames.drop(columns=own)  # the user knows better than ISPyB
    more = [name for name in table.columns if name in on or name not in frames.columns]
    return frames.merge(table[more], how="left", on=on)


def _check_data_sets(frames: pd.DataFrame, on: Sequence[str], path: Path) -> None:
    n = frames["data_set"].nunique()
    if n > 1 and on == ["frame"]:
        raise SettingsError(
            f"merging.subset_table {path}: frames count from 0 in each of {n} data sets; "
            "say which in a column `data_set` (from 0) or `file`"
        )
