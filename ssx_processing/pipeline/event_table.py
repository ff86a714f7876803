"""From event chains to a table of frames: laser on or off, delay, dose, reaction trigger.

What is assumed is said in each table's ``assumptions``, and explained in
docs/explanations/event-chains.md. What would have to be guessed is refused with a reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import EventChainError
from ssx_processing.pipeline.event_chain import ChainEvent, EventChain, EventKind, Times, checked_chains
from ssx_processing.pipeline.event_hits import Hits, hits_of_each_frame, hits_of_one_frame

EVENT_COLUMNS = ("laser", "delay_s", "dose_index", "reaction_trigger")
"""Besides `frame` (from 0), and `chain` where there are several: laser and reaction_trigger are on or off;
delay_s is missing where nothing was triggered, dose_index where it is not known."""
ALL_COLUMNS = (*EVENT_COLUMNS, "chain")
DECIMALS = 12
"""Of delays in seconds: what is left out is rounding."""


@dataclass(frozen=True)
class EventTable:
    """What the chains say of each frame of a data collection."""

    frames: pd.DataFrame
    """Columns `frame`, `EVENT_COLUMNS` and, where there are several, `chain`."""
    n_runs: int
    """How often the chain ran."""
    assumptions: tuple[str, ...]
    """What was taken for granted, one sentence each."""
    warnings: tuple[str, ...] = ()
    """What looks wrong but could be, one sentence each."""


@dataclass(frozen=True)
class FrameTimes:
    """Frames of one run of the chains, in their order."""

    start: Times
    """Of the X-ray exposure, s from the start of the chain; order only where the times are not known."""
    end: Times
    chain: NDArray[np.intp]
    """To which chain each belongs."""


@dataclass
class _Notes:
    assumptions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def event_table(chains: Sequence[EventChain], n_frames: int, *, is_jet: bool = False) -> EventTable:
    """Say of each frame what happened to it.

    Parameters
    ----------
    n_frames
        Frames of the data collection.
    is_jet
        Each frame sees another crystal; else the frames of one run of a chain that runs several times see
        the same one.

    Raises
    ------
    EventChainError
        The chains cannot be consistent with the number of frames, or leave to guess which frame is which.
    """
    recorded, chains = len(chains), checked_chains(chains)
    n_runs = _number_of_runs(chains, n_frames)
    times = _frame_times(chains, n_frames // n_runs)
    same_crystal = n_runs > 1 and not is_jet
    notes = _Notes([_runs_sentence(chains, n_frames, n_runs)])
    notes.assumptions.append(_crystal_sentence(len(times.start), n_runs, is_jet))
    table = pd.concat(
        [_of_chain(chain, i, times, same_crystal, notes) for i, chain in enumerate(chains)]
    ).sort_index()
    table["dose_index"] = _dose(chains, times, same_crystal, is_jet, notes)
    if recorded > len(chains):
        notes.warnings.append(f"{recorded - len(chains)} of {recorded} event chains are recorded twice")
    notes.warnings += [
        f"{event.label} is of an unknown kind and left out"
        for chain in chains
        for event in chain.events
        if not event.is_known
    ]
    whole = pd.concat([table] * n_runs, ignore_index=True)
    whole.insert(0, "frame", np.arange(n_frames))
    return EventTable(whole, n_runs, tuple(notes.assumptions), tuple(dict.fromkeys(notes.warnings)))


def never_toggles(tables: Sequence[EventTable]) -> str:
    """A sentence if there are laser pulses but all frames are alike; empty otherwise.

    Parameters
    ----------
    tables
        Of all data collections that are merged together.
    """
    states = {state for table in tables for state in table.frames["laser"].unique()}
    n_frames = sum(len(table.frames) for table in tables)
    if states == {"on"}:
        return f"laser never toggles: it is on in all {n_frames} frames, there is no dark to compare with"
    return ""


def _number_of_runs(chains: Sequence[EventChain], n_frames: int) -> int:
    """How often the chains run, so that they fill the frames exactly."""
    titles = " and ".join(chain.title for chain in chains)
    if n_frames < 1:
        raise EventChainError(f"{titles}: the data collection has no frames")
    finite = sum(chain.n_frames for chain in chains)
    if any(chain.is_endless for chain in chains):
        if finite > n_frames:
            raise EventChainError(f"{titles}: expected at least {finite} frames, got {n_frames}")
        return 1
    n_runs, rest = divmod(n_frames, finite)
    if n_runs < 1 or rest:
        hint = "the collection may have been stopped early"
        if rest in (1, finite - 1) and finite > 2:
            hint = (
                "one frame too many or too few: if it is at the start, every label would be off by one; "
                "look at the first frames"
            )
        raise EventChainError(
            f"{titles}: expected a multiple of {finite} frames, the frames of one run, got {n_frames}; {hint}"
        )
    return n_runs


def _frame_times(chains: Sequence[EventChain], n_frames: int) -> FrameTimes:
    """Frames of one run, in order of time."""
    events = [(i, event) for i, chain in enumerate(chains) for event in chain.of_kind(EventKind.DETECTION)]
    _check_periods(chains)
    starts = [event.times(n=n_frames) for _, event in events]
    chain = np.concatenate([np.full(len(t), i) for (i, _), t in zip(events, starts, strict=True)])
    durations = [
        np.full(len(t), event.duration_s or 0.0) for (_, event), t in zip(events, starts, strict=True)
    ]
    start = np.concatenate(starts)
    if len(events) == 1 and events[0][1].needs_period:  # nothing else depends on the time
        start = np.arange(len(start), dtype=np.float64)
    order = np.argsort(start, kind="stable")[:n_frames]
    start, chain, duration = start[order], chain[order], np.concatenate(durations)[order]
    gap = np.diff(start)
    overlapping = np.flatnonzero(gap < np.maximum(0.9 * duration[:-1], 1e-12))
    if len(overlapping):
        first = int(overlapping[0])
        pair = sorted({chains[int(chain[first])].title, chains[int(chain[first + 1])].title})
        raise EventChainError(
            f"{' and '.join(pair)}: two frames at {start[first + 1]:g} s, expected one after the other; "
            "nothing says which frame is which; name them in a table (merging.subset_table)"
        )
    return FrameTimes(start, start + duration, chain)


def _check_periods(chains: Sequence[EventChain]) -> None:
    """Raise where a time would be needed that is not known for want of a period."""
    events = [event for chain in chains for event in chain.events if event.is_known and event.repetition != 0]
    lacking = [event for event in events if event.needs_period]
    if lacking and len(events) > 1:
        raise EventChainError(
            f"{lacking[0].label}: happens {lacking[0].count} times but has no period, so the delays of its "
            "repetitions are not known; name them in a table (merging.subset_table)"
        )


def _of_chain(
    chain: EventChain, number: int, times: FrameTimes, same_crystal: bool, notes: _Notes
) -> pd.DataFrame:
    """Laser and trigger columns of the frames of one chain in one run, with their places as index."""
    places = np.flatnonzero(times.chain == number)
    start, end = _exposed(chain, times.start[places], times.end[places])
    lasers = [
        _hits(event, start, end, same_crystal, chain, notes) for event in chain.of_kind(EventKind.LASER)
    ]
    triggers = [
        _hits(event, start, end, same_crystal or (event.count == 1 and not event.is_endless), chain, notes)
        for event in chain.of_kind(EventKind.TRIGGER)
    ]
    laser, trigger = _latest(lasers, len(places)), _latest(triggers, len(places))
    if lasers and triggers:
        notes.assumptions.append("delays are from the laser pulse; where it is off from the reaction trigger")
    elif lasers or triggers:
        what = "laser pulse" if lasers else "reaction trigger"
        notes.assumptions.append(f"delay_s: from the start of the {what} to the start of the X-ray exposure")
    during = int(np.count_nonzero(laser < 0))
    if during:
        notes.assumptions.append(
            f"the laser starts during {during} of {len(places)} frames of the chain: they count as on, with "
            "a negative delay"
        )
    table = pd.DataFrame(
        {
            "laser": np.where(np.isnan(laser), "off", "on"),
            "delay_s": np.round(np.where(np.isnan(laser), trigger, laser), DECIMALS) + 0.0,  # no -0
            "reaction_trigger": np.where(np.isnan(trigger), "off", "on"),
        },
        index=places,
    )
    return table.assign(chain=chain.name or str(number + 1)) if len(set(times.chain)) > 1 else table


def _hits(
    event: ChainEvent, start: Times, end: Times, stays: bool, chain: EventChain, notes: _Notes
) -> Times:
    """Delay of each frame behind the event that it saw; nan if it saw none."""
    pulses = event.times(until_s=end[-1])
    hits: Hits = (hits_of_each_frame if stays else hits_of_one_frame)(event, pulses, start, end)
    if hits.reason:
        raise EventChainError(f"{chain.title}, {event.label}: {hits.reason}")
    if hits.n_after and not event.is_endless:
        notes.warnings.append(
            f"{event.label}: {hits.n_after} of {len(pulses)} in each run of the chain come after the last "
            "frame that they could reach"
        )
    return hits.delay


def _latest(delays: Sequence[Times], n: int) -> Times:
    """Of several events the last before the frame: the shortest delay."""
    if not delays:
        return np.full(n, np.nan)
    return np.fmin.reduce(np.stack(delays))


def _exposed(chain: EventChain, start: Times, end: Times) -> tuple[Times, Times]:
    """From when to when X-rays hit, where exposures are recorded apart from the detection."""
    exposures = _exposure_times(chain, end[-1])
    if len(exposures) == 0:
        return start, end
    first = np.searchsorted(exposures, start - 1e-9)
    within = first < len(exposures)
    within[within] = exposures[first[within]] < end[within]
    shot = start.copy()
    shot[within] = exposures[first[within]]
    return shot, end


def _exposure_times(chain: EventChain, until_s: float) -> Times:
    times = [event.times(until_s=until_s) for event in chain.of_kind(EventKind.EXPOSURE)]
    return np.sort(np.concatenate([np.empty(0), *times]))


def _dose(
    chains: Sequence[EventChain], times: FrameTimes, same_crystal: bool, is_jet: bool, notes: _Notes
) -> pd.Series:
    """How many X-ray exposures the crystal had before, in one run."""
    n = len(times.start)
    unknown = pd.Series(pd.NA, index=range(n), dtype="Int64")
    if is_jet:
        return pd.Series(0, index=range(n), dtype="Int64")
    if len(chains) > 1:
        notes.assumptions.append(
            "dose_index: not known, as nothing says whether the chains share their crystals"
        )
        return unknown
    if not same_crystal:
        notes.assumptions.append("dose_index: not known, as nothing says which frames share a crystal")
        return unknown
    notes.assumptions.append("dose_index: X-ray exposures that the crystal had before, from 0")
    exposures = _exposure_times(chains[0], times.end[-1])
    of_frame = np.searchsorted(times.start - 1e-9, exposures, side="right") - 1
    inside = (of_frame >= 0) & (exposures < np.maximum(times.end, times.start + 1e-9)[of_frame])
    before = np.searchsorted(exposures[~inside], times.start)  # without a frame: the others are the frames'
    return pd.Series(np.arange(n) + before, dtype="Int64")


def _runs_sentence(chains: Sequence[EventChain], n_frames: int, n_runs: int) -> str:
    what = chains[0].title if len(chains) == 1 else f"{len(chains)} event chains, in order of their offsets,"
    per_run = n_frames // n_runs
    if n_runs == 1:
        return f"{what} runs once, over all {n_frames} frames"
    return f"{what} runs {n_runs} times, with {per_run} frame{'s' if per_run > 1 else ''} each"


def _crystal_sentence(per_run: int, n_runs: int, is_jet: bool) -> str:
    if is_jet:
        return "a jet: each frame sees another crystal, a laser pulse reaches one frame"
    if n_runs == 1:
        return "the frames of a chain that runs once see different crystals, a laser pulse reaches one frame"
    if per_run == 1:
        return "each run is another crystal"
    return "the frames of one run see the same crystal, which stays excited once it was"
