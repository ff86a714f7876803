"""What ``ssx events`` prints: a timeline, what is assumed, the first frames, counts."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from flows.console import print_lines
from flows.event_chains import chains_of
from flows.event_preview import EventPreview
from ssx_processing.pipeline.event_chain import ChainEvent, EventChain, EventKind
from ssx_processing.pipeline.event_table import EventTable

WIDTH = 64
"""Characters of a timeline."""
MOST_FRAMES = 8
"""Drawn in a timeline."""
MOST_VALUES = 12
"""Listed one by one."""


def print_events(preview: EventPreview, n_rows: int) -> None:
    """Print what the event chains of a data collection say of its frames."""
    console, table = Console(), preview.events.table
    print_lines(console, [f"{preview.events.title}: {preview.n_frames} frames ({preview.counted})"])
    for chain in chains_of(preview.events.collection):
        print_lines(console, [f"  {chain.title}", *(f"    {line}" for line in timeline(chain))])
    if table is None:
        return
    print_lines(console, [f"  assumed: {line}" for line in table.assumptions])
    if n_rows:
        console.print(_first_rows(table, n_rows))
    print_lines(console, [f"  {line}" for line in counts(table)])


def counts(table: EventTable) -> list[str]:
    """How many frames there are of each kind."""
    return [
        *(_states(table, name) for name in ("chain", "laser") if name in table.frames),
        *([_states(table, "reaction_trigger")] if (table.frames["reaction_trigger"] == "on").any() else []),
        *_values(table, "delay_s", time_text),
        *_values(table, "dose_index", lambda value: f"{value:g}"),
    ]


def _states(table: EventTable, name: str) -> str:
    found = Counter(table.frames[name].tolist())
    return f"{name}: {', '.join(f'{state} {n}' for state, n in sorted(found.items()))}"


def _values(table: EventTable, name: str, text: Callable[[float], str]) -> list[str]:
    values = table.frames[name].dropna().to_numpy(dtype=np.float64)
    found, n = np.unique(values, return_counts=True)
    if len(found) == 0:
        return []
    if len(found) > MOST_VALUES:
        return [f"{name}: {len(found)} values from {text(found[0])} to {text(found[-1])}"]
    return [f"{name}: {', '.join(f'{text(v)} ({k})' for v, k in zip(found, n, strict=True))}"]


def _first_rows(table: EventTable, n_rows: int) -> Table:
    head = table.frames.head(n_rows)
    shown = Table(title=f"first {len(head)} of {len(table.frames)} frames")
    for name in head.columns:
        shown.add_column(str(name), justify="right", no_wrap=True)
    for row in head.to_dict("records"):
        shown.add_row(*(_cell(str(name), value) for name, value in row.items()))
    return shown


def _cell(name: str, value: Any) -> str:
    if pd.isna(value):
        return "-"
    return time_text(value) if name == "delay_s" else str(value)


def time_text(seconds: float) -> str:
    """A time with a unit that suits it.

    Examples
    --------
    >>> time_text(0.0025), time_text(-2e-6), time_text(0), time_text(12.5)
    ('2.5 ms', '-2 us', '0 s', '12.5 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if abs(seconds) >= size or seconds == 0:
            return f"{seconds / size:.6g} {unit}"
    return f"{seconds:.3g} s"


def timeline(chain: EventChain) -> Iterator[str]:
    """Draw the start of one run of a chain, a line for each event."""
    events = [event for event in chain.events if _is_drawn(event)]
    if not events:
        return
    window = _window(events)
    names = [event.label for event in events]
    for event, name in zip(events, names, strict=True):
        marks = "".join("█" if hit else "·" for hit in _drawn(event, *window))
        yield f"{name:{max(map(len, names))}s} |{marks}| {_in_words(event)}"
    left, right = map(time_text, window)
    yield f"{'':{max(map(len, names))}s}  {left}{right:>{WIDTH - len(left)}s}"


def _is_drawn(event: ChainEvent) -> bool:
    numbers = (event.offset_s, event.duration_s, event.period_s, event.repetition)
    return event.offset_s is not None and all(value is None or np.isfinite(value) for value in numbers)


def _window(events: Sequence[ChainEvent]) -> tuple[float, float]:
    """From the first event to the end of the first few frames, s."""
    starts = [event.offset_s or 0.0 for event in events]
    ends = [
        (event.offset_s or 0.0)
        + (event.period_s or 0.0) * (min(MOST_FRAMES, MOST_FRAMES if event.is_endless else event.count) - 1)
        + (event.duration_s or 0.0)
        for event in events
        if event.kind == EventKind.DETECTION
    ]
    first, last = min(starts), max([*ends, *starts])
    return first, last if last > first else first + 1.0


def _drawn(event: ChainEvent, first: float, last: float) -> list[bool]:
    """Which characters of the line the event covers."""
    step = (last - first) / WIDTH
    most = max(event.count if not event.is_endless else WIDTH, 1)
    starts = (event.offset_s or 0.0) + (event.period_s or 0.0) * np.arange(min(most, 4 * WIDTH))
    if event.repetition == 0:
        starts = starts[:0]
    line = [False] * WIDTH
    for start in starts[starts <= last]:
        begin = min(int((start - first) / step + 1e-9), WIDTH - 1)
        end = min(round((start + (event.duration_s or 0.0) - first) / step), WIDTH)
        # a gap is seen even where one follows the other
        end = max(begin + 1, end - 1 if end - begin > 2 else end)
        line[begin:end] = [True] * (end - begin)
    return line


def _in_words(event: ChainEvent) -> str:
    parts = [f"at {time_text(event.offset_s or 0.0)}"]
    if event.duration_s is not None:
        parts.append(f"for {time_text(event.duration_s)}")
    if event.period_s:
        parts.append(f"every {time_text(event.period_s)}")
    if event.repetition is not None:
        parts.append("once" if event.repetition == 1 else f"{event.repetition:g} times")
    elif event.period_s:
        parts.append("until the end")
    return ", ".join(parts)
