"""What a data collection repeats: X-ray shots, laser pulses, reaction triggers; checked, and as times.

Times are seconds from the start of the chain. ``event_table.py`` makes a table of frames of it; what is
assumed on the way is in docs/explanations/event-chains.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import EventChainError

Times = NDArray[np.float64]
MOST_TIMES = 50_000_000
"""More are a mistake in a period or a repetition."""


class EventKind(StrEnum):
    """What happens; ISPyB's names."""

    DETECTION = "XrayDetection"
    """A frame is taken."""
    EXPOSURE = "XrayExposure"
    """X-rays hit the crystal; of a frame if one is taken meanwhile, else without a frame."""
    LASER = "LaserExcitation"
    TRIGGER = "ReactionTrigger"


@dataclass(frozen=True)
class ChainEvent:
    """One entry of a chain, which may repeat."""

    kind: str
    """One of `EventKind`; others are left out of the table of frames."""
    offset_s: float | None
    """Start, from the start of the chain; negative: before it."""
    duration_s: float | None = None
    period_s: float | None = None
    """From one start to the next."""
    repetition: float | None = None
    """How often in one run of the chain; None with a period: as long as frames are taken, without: once."""
    name: str = ""

    @property
    def is_known(self) -> bool:
        """Whether its kind is one of ours."""
        return self.kind in tuple(EventKind)

    @property
    def is_endless(self) -> bool:
        """Whether it goes on as long as frames are taken."""
        return self.repetition is None and bool(self.period_s)

    @property
    def count(self) -> int:
        """How often in one run of the chain; 1 if it is endless."""
        return 1 if self.repetition is None else int(self.repetition)

    @property
    def needs_period(self) -> bool:
        """Whether its times are not known because it has no period."""
        return self.count > 1 and not self.period_s

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.kind} {self.name!r}" if self.name else self.kind

    def times(self, until_s: float = -math.inf, n: int = 0) -> Times:
        """Starts in one run of the chain.

        Parameters
        ----------
        until_s
            An endless event goes on up to this time.
        n
            And at least so often.

        Raises
        ------
        EventChainError
            There are too many.
        """
        offset, period = self.offset_s or 0.0, self.period_s or 0.0
        count = self.count
        if self.is_endless:
            count = max(n, 1, math.floor((until_s - offset) / period) + 1 if until_s > offset else 1)
        if count > MOST_TIMES:
            raise EventChainError(
                f"{self.label} happens {count} times in one run of its chain, expected at most {MOST_TIMES}; "
                f"is its period ({period:g} s) or its repetition wrong?"
            )
        return offset + period * np.arange(count, dtype=np.float64)


@dataclass(frozen=True)
class EventChain:
    """Events in their times to each other."""

    name: str
    events: tuple[ChainEvent, ...]

    def of_kind(self, kind: EventKind) -> tuple[ChainEvent, ...]:
        """Those of a kind that happen at all."""
        return tuple(event for event in self.events if event.kind == kind and event.repetition != 0)

    @property
    def is_endless(self) -> bool:
        """Whether frames are taken for ever: then it runs once."""
        return any(event.is_endless for event in self.of_kind(EventKind.DETECTION))

    @property
    def n_frames(self) -> int:
        """Frames of one run, without those of endless events."""
        return sum(event.count for event in self.of_kind(EventKind.DETECTION) if not event.is_endless)

    @property
    def title(self) -> str:
        """For people."""
        return f"event chain {self.name!r}" if self.name else "event chain"


def checked_chains(chains: Sequence[EventChain]) -> tuple[EventChain, ...]:
    """Each chain once, with frames and with numbers that can be meant.

    Raises
    ------
    EventChainError
        There is none, or a number in one cannot be meant.
    """
    different = tuple(dict.fromkeys(chains))
    if not different:
        raise EventChainError("no event chain is recorded")
    for chain in different:
        for event in chain.events:
            _check_event(event, chain)
        if not chain.of_kind(EventKind.DETECTION):
            zeros = any(event.kind == EventKind.DETECTION for event in chain.events)
            what = "only with repetition 0, a placeholder that says nothing" if zeros else "none"
            kinds = ", ".join(event.label for event in chain.events) or "no events"
            raise EventChainError(
                f"{chain.title}: expected an XrayDetection, got {what} ({kinds}); nothing says when frames "
                "are taken"
            )
    return different


def _check_event(event: ChainEvent, chain: EventChain) -> None:
    values = {
        "offset": event.offset_s,
        "duration": event.duration_s,
        "period": event.period_s,
        "repetition": event.repetition,
    }
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise EventChainError(f"{chain.title}, {event.label}: {name} is {value}, expected a number")
        if value is not None and name != "offset" and value < 0:
            raise EventChainError(
                f"{chain.title}, {event.label}: {name} is {value:g}, expected nothing negative"
            )
    if event.offset_s is None:
        raise EventChainError(f"{chain.title}, {event.label}: has no offset, expected seconds")
    if event.repetition is not None and event.repetition != round(event.repetition):
        raise EventChainError(
            f"{chain.title}, {event.label}: repetition is {event.repetition:g}, expected a whole number"
        )
