"""Which frames a laser pulse or a reaction trigger reaches."""

from dataclasses import dataclass

import numpy as np

from ssx_processing.pipeline.event_chain import ChainEvent, Times

SAME_TIME = 0.02
"""Of the shortest time between two frames: by less a pulse misses the frame that is due."""
SINGLE_PRECISION = 2.4e-7
"""Relative rounding of times in databases, twice."""
WHOLE = 1e-3
"""By less the ratio of two periods is taken for a whole number; databases keep seven digits."""


@dataclass(frozen=True)
class Hits:
    """What an event did to frames."""

    delay: Times
    """s, from the start of the event to the exposure of each frame; nan where it did not reach it."""
    n_after: int = 0
    """Repetitions that came too late for any frame."""
    reason: str = ""
    """Why nothing can be said."""


def hits_of_each_frame(event: ChainEvent, pulses: Times, start: Times, end: Times) -> Hits:
    """All frames after a pulse: they see the same crystal, or a reaction that goes on."""
    until = _until(start, end)
    last = np.searchsorted(pulses, until) - 1
    delay = np.where(last >= 0, start - pulses[np.maximum(last, 0)], np.nan)
    return Hits(_without_noise(delay, end), int(np.count_nonzero(pulses >= until[-1])))


def hits_of_one_frame(event: ChainEvent, pulses: Times, start: Times, end: Times) -> Hits:
    """One frame for each pulse, each after the same delay; all frames within a long illumination."""
    delay = np.full(len(start), np.nan)
    gap = float(np.diff(start).min()) if len(start) > 1 else float("inf")
    if len(pulses) == 1 and (event.duration_s or 0.0) > gap:
        lit = (start < pulses[0] + (event.duration_s or 0.0)) & (_until(start, end) > pulses[0])
        return Hits(_without_noise(np.where(lit, start - pulses[0], np.nan), end), int(not lit.any()))
    reached = np.flatnonzero(_until(start, end) > pulses[0])
    if len(reached) == 0:
        return Hits(delay, len(pulses))
    wait = start[reached[0]] - pulses[0]
    due = pulses[0] + wait + np.arange(len(pulses)) * _snapped(event.period_s or 0.0, gap)
    at = np.searchsorted(start, due - SAME_TIME * gap)
    n_after = int(np.count_nonzero(at == len(start)))
    at = at[at < len(start)]
    missed = np.flatnonzero(np.abs(start[at] - due[: len(at)]) > SAME_TIME * gap) if len(at) > 1 else []
    if len(missed):
        return Hits(
            delay,
            reason=f"repeats every {event.period_s:g} s, which fits no whole number of frames ({gap:g} s): "
            "delays would differ from frame to frame",
        )
    delay[at] = wait
    return Hits(_without_noise(delay, end), n_after)


def _until(start: Times, end: Times) -> Times:
    """Until when a pulse still reaches a frame: not one at its very end, but one at its very start."""
    noise = _noise(end)
    return np.maximum(end - noise, start + noise)


def _without_noise(delay: Times, end: Times) -> Times:
    """Delays that are nothing but rounding as 0."""
    return np.where(np.abs(delay) <= _noise(end), 0.0, delay)


def _noise(end: Times) -> Times:
    """Rounding of times in single precision, s."""
    return np.maximum(np.abs(end), 1e-6) * SINGLE_PRECISION


def _snapped(period: float, gap: float) -> float:
    """Period as the whole number of frames that it is nearly."""
    ratio = period / gap
    return round(ratio) * gap if ratio > 0.5 and abs(ratio - round(ratio)) < WHOLE * ratio else period
