"""What differs between two results: settings, versions, chunks, figures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from flows.databases import Databases, processing_of
from flows.outcome import MERGE_KEY, read_outcome
from flows.processed_job import differences
from ispyb_io.ledger_records import Chunk, Processing
from ssx_processing.errors import ChunkError, SettingsError
from ssx_processing.formats.merge_record import read_merge
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import MergeSummary, ShellStatistics

SHORTEST_KEY = 4
KEY_SHOWN = 8
"""Characters of it that ssx status shows."""


@dataclass(frozen=True)
class ComparedResult:
    """One of the two."""

    processing: Processing
    merge: MergeSummary
    chunks: tuple[Chunk, ...]

    @property
    def title(self) -> str:
        """Head of its column."""
        return f"{self.processing.key[:KEY_SHOWN]} {self.processing.started:%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Difference:
    """Two results side by side."""

    settings: tuple[str, ...]
    versions: tuple[str, ...]
    chunks: tuple[str, ...]
    figures: tuple[tuple[str, str, str], ...]
    """Name, value of the first, of the second."""
    shells: tuple[tuple[str, str, str], ...]
    """Resolution, CC1/2 of the first, of the second; empty where the shells are not the same."""


def compared_result(
    text: str, group_id: int | None, folder: Path | None, databases: Databases
) -> ComparedResult:
    """A result by its key in the ledger, or the newest of a group or folder.

    Raises
    ------
    SettingsError
        There is none, or several have such a key.
    """
    is_named = group_id is not None or folder is not None
    processing = processing_of(databases.ledger, group_id, folder) if is_named else _by_key(text, databases)
    chunks = tuple(databases.ledger.chunks(processing.key))
    return ComparedResult(processing, merge_of(processing), chunks)


def merge_of(processing: Processing) -> MergeSummary:
    """The merge that a processing ended with.

    Raises
    ------
    SettingsError
        It is not known, or its folder is gone.
    """
    key = processing.counts.get(MERGE_KEY)
    try:
        if key is None:  # of an earlier version: the newest one there
            return read_outcome(processing.folder).merge
        return read_merge(RunFolder(processing.folder).merged / key)
    except ChunkError as error:
        raise SettingsError(
            f"{processing.key[:KEY_SHOWN]}: has no merge that can be read ({error})"
        ) from error


def difference(one: ComparedResult, other: ComparedResult) -> Difference:
    """Everything that differs."""
    return Difference(
        settings=tuple(differences(one.processing.settings, other.processing.settings)),
        versions=tuple(differences(one.processing.versions, other.processing.versions)),
        chunks=tuple(_chunk_differences(one.chunks, other.chunks)),
        figures=tuple(_figures(one, other)),
        shells=tuple(_shells(one.merge.shells, other.merge.shells)),
    )


def is_key(text: str) -> bool:
    """Whether it is the begin of a key; numbers are groups, what there is on disk is a folder.

    Examples
    --------
    >>> is_key("2a0e31b7"), is_key("57"), is_key("results")
    (True, False, False)
    """
    is_hash = len(text) >= SHORTEST_KEY and not set(text) - set("0123456789abcdef")
    return is_hash and (not text.isdigit() or len(text) >= KEY_SHOWN) and not Path(text).exists()


def _by_key(text: str, databases: Databases) -> Processing:
    found = [one for one in databases.ledger.processings() if one.key.startswith(text)]
    if len(found) != 1:
        many = (
            f"{len(found)} results have such a key; give more of it" if found else "no result has such a key"
        )
        raise SettingsError(f"{text}: {many} (ssx status)")
    return found[0]


def _chunk_differences(one: tuple[Chunk, ...], other: tuple[Chunk, ...]) -> Iterator[str]:
    done = [{chunk.key for chunk in chunks if chunk.status.has_result} for chunks in (one, other)]
    yield f"{len(done[0] & done[1])} chunks are the same in both"
    if done[0] != done[1]:
        yield f"{len(done[0] - done[1])} only in the first, {len(done[1] - done[0])} only in the second"
    for place, chunks in (("first", one), ("second", other)):
        failed = [f"{chunk.index + 1} ({chunk.message})" for chunk in chunks if not chunk.status.has_result]
        if failed:
            yield f"failed in the {place}: {', '.join(failed)}"


def _figures(one: ComparedResult, other: ComparedResult) -> Iterator[tuple[str, str, str]]:
    yield ("status", str(one.processing.status), str(other.processing.status))
    yield ("by", one.processing.started_by, other.processing.started_by)
    counts = [asdict(result.merge.counts) for result in (one, other)]
    for name in ("frames_total", "frame_hits", "frames_indexed", "lattices_indexed"):
        yield (name, str(counts[0][name]), str(counts[1][name]))
    yield ("lattices_merged", str(one.merge.lattices_merged), str(other.merge.lattices_merged))
    yield ("space group", one.merge.space_group, other.merge.space_group)
    for field in fields(ShellStatistics):
        first, second = (getattr(result.merge.overall, field.name) for result in (one, other))
        yield (field.name, f"{first:.4g}", f"{second:.4g}")


def _shells(
    one: tuple[ShellStatistics, ...], other: tuple[ShellStatistics, ...]
) -> Iterator[tuple[str, str, str]]:
    limits = [[(round(s.d_max, 3), round(s.d_min, 3)) for s in shells] for shells in (one, other)]
    if limits[0] == limits[1]:
        for a, b in zip(one, other, strict=True):
            yield (f"{a.d_max:.2f} - {a.d_min:.2f} Å", f"{a.cc_half:.3f}", f"{b.cc_half:.3f}")
