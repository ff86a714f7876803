"""What a result has to say to people, each thing once: for the sites whose ISPyB has a table of messages."""

from collections.abc import Iterable, Iterator, Sequence

from flows.data_set_run import DataSetRun
from ispyb_io.results import Message, Severity
from ssx_processing.models import FrameCounts, MergeSummary


def collection_messages(run: DataSetRun) -> tuple[Message, ...]:
    """Rates, what is missing, and what must be known about the cell."""
    warnings = [*run.missing, *run.settings.sample.assumed, *run.notices]
    return once([_message(Severity.INFO, rates_line(run.counts)), *_warnings(warnings)])


def merge_messages(merge: MergeSummary, line: str, assumed: Sequence[str]) -> tuple[Message, ...]:
    """How good it is, what is missing, and what is to be doubted."""
    return once([_message(Severity.INFO, line), *_warnings([*merge.missing, *assumed, *merge.warnings])])


def merge_line(merge: MergeSummary) -> str:
    """What was merged, what is missing, how good it is; in one line."""
    parts = [] if not merge.missing else ["PARTIAL"]
    parts.append(f"{merge.chunks_merged} of {merge.chunks_expected} chunks")
    overall = merge.overall
    parts.append(
        f"{merge.lattices_merged} lattices to {overall.d_min:.2f} Å: CC1/2 {overall.cc_half:.3f}, "
        f"Rsplit {overall.r_split:.3f}, completeness {overall.completeness:.3f}"
    )
    parts += merge.missing  # last: ISPyB cuts long messages
    return "; ".join(parts)


def failure_messages(reason: str) -> tuple[Message, ...]:
    """Why there is no result."""
    return (_message(Severity.ERROR, reason),)


def once(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages without those whose headline was there before."""
    return tuple({message.text: message for message in messages}.values())


def rates_line(counts: FrameCounts) -> str:
    """Rates with what they are fractions of.

    Examples
    --------
    >>> rates_line(FrameCounts(frames_total=20, frame_hits=8, frames_indexed=4, lattices_indexed=5))
    '8 of 20 images are hits (40.0 %), 4 of these indexed (50.0 %), 5 lattices'
    """
    line = (
        f"{counts.frame_hits} of {counts.frames_total} images are hits ({counts.hit_rate:.1%}), "
        f"{counts.frames_indexed} of these indexed ({counts.indexing_rate:.1%}), "
        f"{counts.lattices_indexed} lattices"
    )
    return line.replace("%", " %")


def _warnings(lines: Iterable[str]) -> Iterator[Message]:
    return (_message(Severity.WARNING, line) for line in lines)


def _message(severity: Severity, line: str) -> Message:
    return Message(severity=severity, text=line or "no reason is known", description=line)
