"""Results of one data collection, or of merges of one name: which holds, and which superseded which.

Each result (each key) has an AutoProcProgram of its own. A later success supersedes what began before it;
each then names the other in its message. Of a data collection's results one has the page: py-ispyb's SSX
page adds up all that it finds at a data collection. See
docs/explanations/decisions/0015-results-are-kept-and-linked.md.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ispyb_io.results import MAX_TEXT, ResultStatus, shorten

PREFIX = "ssxorch:"
"""Begins processingEnvironment of our programs; the key follows."""
LATER_ATTEMPT = " | later attempt "
LINKS = (" | superseded by program ", " | supersedes program ")


@dataclass(frozen=True)
class Attempt:
    """A program of ours."""

    program_id: int
    environment: str
    status: ResultStatus | None
    started: datetime.datetime | None
    message: str
    data_collection_id: int | None = None
    """AutoProcProgram.dataCollectionId, where that is there: it has the page."""
    job_id: int | None = None
    """Its ProcessingJob, where there are such."""

    @property
    def key(self) -> str:
        """Of its result."""
        return self.environment.removeprefix(PREFIX).partition(" ")[0]

    @property
    def place(self) -> tuple[datetime.datetime, int]:
        """Later results have greater ones; what never began comes first."""
        return self.started or datetime.datetime.min, self.program_id

    @property
    def own_message(self) -> str:
        """Message without the links to other results."""
        message = self.message
        for link in LINKS:
            message = message.partition(link)[0]
        return message


def environment(key: str, name: str | None = None) -> str:
    """What processingEnvironment holds for a result; ``name`` is that of a merge.

    Examples
    --------
    >>> environment("1a2b"), environment("1a2b", "chip 7: dark")
    ('ssxorch:1a2b', 'ssxorch:1a2b merge:chip 7: dark')
    """
    return PREFIX + key + ("" if name is None else f" merge:{name}")


def is_about(processing_environment: str | None, name: str | None) -> bool:
    """Whether a program is ours, and about the merge of this name; None: about a data collection.

    Examples
    --------
    >>> is_about("ssxorch:1a2b merge:dark", "dark"), is_about("ssxorch:1a2b merge:dark", None)
    (True, False)
    >>> is_about("slurm", None), is_about(None, None)
    (False, False)
    """
    ours, _, rest = (processing_environment or "").partition(" ")
    return (
        ours.startswith(PREFIX)
        and len(ours) > len(PREFIX)
        and rest == environment("", name)[len(PREFIX) + 1 :]
    )


def holder(attempts: Iterable[Attempt]) -> Attempt:
    """The one whose numbers hold: begun last; one that failed only if all did."""
    return max(attempts, key=lambda a: (a.status is not ResultStatus.FAILED, a.place))


def linked_messages(attempts: Sequence[Attempt]) -> dict[int, str]:
    """Message of each program, with the links to the success after it and the success before it."""
    successes = sorted((a for a in attempts if a.status is ResultStatus.SUCCESS), key=lambda a: a.place)
    messages = {}
    for attempt in attempts:
        later = [s for s in successes if s.place > attempt.place][:1]
        earlier = [s for s in successes if s.place < attempt.place][-1:]
        links = "".join(f"{LINKS[0]}{s.program_id} ({s.key[:8]})" for s in later)
        if attempt.status is ResultStatus.SUCCESS:
            links += "".join(f"{LINKS[1]}{s.program_id} ({s.key[:8]})" for s in earlier)
        messages[attempt.program_id] = shorten(attempt.own_message, MAX_TEXT - len(links)) + links
    return messages


def with_later_attempt(message: str, what: str, *, limit: int = MAX_TEXT) -> str:
    """Message of a result that stands, with what became of the last attempt to repeat it.

    Examples
    --------
    >>> with_later_attempt("all well | later attempt began today", "failed: disk full")
    'all well | later attempt failed: disk full'
    """
    before = message.partition(LATER_ATTEMPT)[0]
    note = shorten(LATER_ATTEMPT + what, limit // 2)
    return shorten(before, limit - len(note)) + note
