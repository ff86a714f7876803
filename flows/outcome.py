"""What became of a job."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import ChunkError, SsxError
from ssx_processing.formats.chunk_folder import write_json
from ssx_processing.formats.merge_record import read_merge
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import FrameCounts, MergeSummary

OUTCOME = "outcome.json"
MERGE_KEY = "merge"
"""Among the counts of a processing in the ledger: key of its merge."""
LATENCY = "seconds_since_last_frame"
"""Among them, of what the watcher began: from the end of the collection to the result."""
CARRIER = "carrier"
"""Among the facts: what takes the crystals into the beam, e.g. LCP."""


@dataclass(frozen=True)
class Outcome:
    """Results of a job and where they are."""

    name: str
    folder: Path
    status: WorkStatus
    """Success only if every chunk is in the result."""
    message: str
    """One line: chunks, what is missing, counts."""
    counts: FrameCounts
    chunks_expected: int
    chunks_done: int
    chunks_reused: int
    """Of those done, the ones that were there already."""
    chunks_from_spots: int
    """Of those computed, the ones whose spots were there already."""
    merge: MergeSummary
    reports: tuple[Path, ...]
    program_ids: tuple[int, ...] = ()
    """ISPyB's autoProcProgramIds, empty without ISPyB."""
    changes: tuple[str, ...] = ()
    """Settings that differ from those of the result merged again."""
    notices: tuple[str, ...] = ()
    """What must be known about the cell that was given, and about ISPyB and its records."""
    facts: dict[str, str] = field(default_factory=dict)
    """What ISPyB knows: proposal, sample, protein, ligands, carrier, other components; empty without it."""
    refusals: tuple[str, ...] = ()
    """Why ISPyB takes none, or not all, of the results."""
    goes_on: bool = False
    """It was left while the collection went on: there will be another."""
    run_folders: tuple[Path, ...] = ()
    """Of the data sets, in the order of the reports; results of earlier versions do not say."""

    @property
    def pages(self) -> list[tuple[Path, Path]]:
        """Folder of each data set and its report."""
        folders = self.run_folders or tuple(report.parent for report in self.reports)
        return list(zip(folders, self.reports, strict=True))


class UnfinishedResultError(SsxError):
    """There is a result, but not all is well."""

    def __init__(self, outcome: Outcome, problem: str) -> None:
        super().__init__(f"{outcome.name}: {problem}")
        self.outcome = outcome


class PartialResultError(UnfinishedResultError):
    """There is a result, but some chunks are not in it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome, f"partial result, {outcome.message}")


class NotRecordedError(UnfinishedResultError):
    """There is a result, but ISPyB refused it."""

    def __init__(self, outcome: Outcome) -> None:
        problem = "; ".join(outcome.refusals)
        super().__init__(outcome, f"the result is there, but {problem}; see ssx ispyb outbox")


def raise_if_unfinished(outcome: Outcome) -> None:
    """Nothing ends green unless each chunk there is by now is in the result, and ISPyB refused none of it."""
    if outcome.status is not WorkStatus.SUCCESS and not outcome.goes_on:
        raise PartialResultError(outcome)
    if outcome.refusals:
        raise NotRecordedError(outcome)


def counted(outcome: Outcome) -> dict[str, Any]:
    """What the ledger keeps of it: counts, and the key of the merge, by which its statistics are found."""
    return asdict(outcome.counts) | {MERGE_KEY: outcome.merge.key}


def write_outcome(outcome: Outcome) -> None:
    """Write outcome.json into the job's folder: what became of the job last."""
    content = asdict(outcome)
    content["merge"] = {"key": outcome.merge.key, "reused": outcome.merge.reused}
    write_json(outcome.folder / OUTCOME, content)


def has_outcome(folder: Path) -> bool:
    """Whether there is a result in the folder."""
    return (folder / OUTCOME).is_file()


def read_facts(folder: Path) -> dict[str, str]:
    """What ISPyB knows of the sample of the result in a folder; nothing where there is none."""
    try:
        return json.loads((folder / OUTCOME).read_text()).get("facts", {})
    except (OSError, ValueError):
        return {}


def read_outcome(folder: Path) -> Outcome:
    """What became last of the job with this folder.

    Raises
    ------
    ChunkError
        There is no result in the folder.
    """
    try:
        content = json.loads((folder / OUTCOME).read_text())
    except (OSError, ValueError) as error:
        raise ChunkError(f"{folder}: no result here ({error}); name the folder of a processing") from error
    merge = read_merge(RunFolder(folder).merged / content["merge"]["key"])
    return Outcome(
        **content
        | {
            "folder": folder,
            "status": WorkStatus(content["status"]),
            "chunks_from_spots": content.get("chunks_from_spots", 0),
            "counts": FrameCounts(**content["counts"]),
            "merge": replace(merge, reused=content["merge"]["reused"]),
            "reports": tuple(Path(path) for path in content["reports"]),
            "program_ids": tuple(content["program_ids"]),
            "changes": tuple(content["changes"]),
            "notices": tuple(content.get("notices", ())),
            "refusals": (),
            "run_folders": tuple(Path(path) for path in content.get("run_folders", ())),
        }
    )
