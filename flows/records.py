"""What a job tells the ledger and ISPyB, and the mapping from our results to ISPyB's records.

The place to look when a number in ISPyB is wrong.
"""

import datetime
import getpass
import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.data_set_run import DataSetRun
from flows.job import Job
from flows.settings import SiteSettings
from ispyb_io.engines import open_engine
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import Chunk, Member, WorkStatus
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import IspybClient
from ispyb_io.results import (
    Attachment,
    CollectionResult,
    MergedMember,
    MergedResult,
    MergingStatistics,
    ResolutionShell,
    ResultStatus,
)
from ssx_processing import __version__
from ssx_processing.errors import SettingsError
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import MergeSummary, ShellStatistics
from ssx_processing.settings import ALGORITHM_VERSION, content_key

PROGRAM = "ssx-orchestrator"
LEDGER_FILE = "ssx-ledger.sqlite"


@dataclass(frozen=True)
class Databases:
    """The ledger, and ISPyB where there is one."""

    ledger: Ledger
    ispyb: IspybClient | None

    def require_ispyb(self) -> IspybClient:
        """The client; an error where the site has none."""
        if self.ispyb is None:
            raise SettingsError("no ISPyB is configured; set SSX_ISPYB_URL, or name image files")
        return self.ispyb


@contextmanager
def open_databases(site: SiteSettings, ledger_folder: Path | None = None) -> Iterator[Databases]:
    """Connect to the site's ISPyB and ledger; a ledger of our own is made where it is missing.

    Parameters
    ----------
    ledger_folder
        Where the ledger is if the site does not say.
    """
    with ExitStack() as stack:
        ispyb = None
        if site.ispyb_url is not None:
            engine = open_engine(site.ispyb_url.get_secret_value())
            stack.callback(engine.dispose)
            ispyb = OrmClient(engine)
        ledger_engine = open_engine(ledger_address(site, ledger_folder), create=True)
        stack.callback(ledger_engine.dispose)
        ledger = Ledger(ledger_engine)
        ledger.create_tables()
        yield Databases(ledger, ispyb)


def ledger_address(site: SiteSettings, ledger_folder: Path | None) -> str | Path:
    """The site's ledger; else a file in the folder given, else in the user's data."""
    if site.ledger_url is not None:
        return site.ledger_url.get_secret_value()
    return (ledger_folder or site.data_home) / LEDGER_FILE


@dataclass
class JobRecords:
    """Enters a job, its chunks and its results; everything may be repeated."""

    databases: Databases
    job: Job
    started_by: str = field(default_factory=getpass.getuser)
    started: datetime.datetime = field(default_factory=datetime.datetime.now)
    program_ids: set[int] = field(default_factory=set)

    def begin(self) -> None:
        """Enter the processing, and its group with its members."""
        group = self.job.group
        ledger_group = None
        if group is not None:
            ledger_group = self.databases.ledger.ensure_group(
                group.proposal,
                self.job.name,
                data_collection_group_id=group.group_id,
                created_by=self.started_by,
            )
            for collection in group.data_collections:
                member = Member(data_collection_id=collection.data_collection_id)
                self.databases.ledger.set_member(ledger_group.group_id, member, changed_by=self.started_by)
        self.databases.ledger.begin(
            self.job.key,
            folder=self.job.folder,
            settings=self.job.settings.model_dump(mode="json"),
            versions=versions(),
            group_id=ledger_group.group_id if ledger_group else None,
            data_collection_group_id=group.group_id if group else None,
            started_by=self.started_by,
            again=True,
        )

    def chunk(
        self, run: DataSetRun, place: int, status: WorkStatus, *, attempts: int = 0, message: str = ""
    ) -> None:
        """Enter the state of a chunk."""
        chunk_job = run.chunk_jobs[place]
        summary = run.summaries.get(place)
        self.databases.ledger.record_chunk(
            self.job.key,
            Chunk(
                index=run.first_chunk + place,
                key=chunk_job.key,
                start=chunk_job.frames.start,
                stop=chunk_job.frames.stop,
                status=status,
                attempts=attempts,
                message=message,
                folder=summary.folder if summary else None,
                counts=asdict(summary.counts) if summary else {},
            ),
        )

    def collection(self, run: DataSetRun, status: ResultStatus) -> None:
        """Write the sum over the chunks done of one data collection."""
        collection = run.data_set.collection
        if collection is None or self.databases.ispyb is None:
            return
        folder = RunFolder(run.data_set.folder)
        running = status is ResultStatus.RUNNING
        result = CollectionResult(
            key=content_key({"collection": collection.data_collection_id, "settings": self._settings}),
            program=PROGRAM,
            command_line=f"ssx process --group {self.job.group.group_id}" if self.job.group else "",
            status=status,
            message=run.message,
            started=self.started,
            ended=None if running else datetime.datetime.now(),
            attachments=attachments(folder.ssx_stats, folder.ssx_cells),
            data_collection_id=collection.data_collection_id,
            last_image=run.plan.frames_total,
            median_cell=run.median_cell,
        )
        self.program_ids.add(self.databases.ispyb.record_collection_result(result))

    def merged(self, runs: Sequence[DataSetRun], merge: MergeSummary, report: Path) -> None:
        """Write the merged result under every member."""
        if self.job.group is None or self.databases.ispyb is None:
            return
        result = MergedResult(
            key=merge.key,
            program=f"{PROGRAM} merge",
            command_line=f"ssx process --group {self.job.group.group_id}",
            status=ResultStatus.SUCCESS,
            message=merge_line(merge),
            started=self.started,
            ended=datetime.datetime.now(),
            attachments=attachments(merge.folder / "merged.mtz", report),
            name=self.job.name,
            members=tuple(members(runs)),
            space_group=merge.space_group,
            unit_cell=merge.unit_cell,
            statistics=tuple(merging_statistics(merge)),
        )
        self.program_ids.add(self.databases.ispyb.record_merged_result(result))

    def finish(self, status: WorkStatus, message: str, counts: dict[str, object]) -> None:
        """Enter the outcome of the processing; last of all."""
        self.databases.ledger.finish(
            self.job.key, status, message=message, counts=counts, program_ids=self.program_ids
        )

    @property
    def _settings(self) -> dict[str, object]:
        return self.job.settings.model_dump(mode="json", exclude={"merging"})


def attachments(*paths: Path) -> tuple[Attachment, ...]:
    """Those of the files that are there."""
    return tuple(Attachment(path=path) for path in paths if path.is_file())


def members(runs: Sequence[DataSetRun]) -> Iterator[MergedMember]:
    """The part of each data collection in a merged result."""
    for run in runs:
        if run.data_set.collection is not None and run.summaries:
            yield MergedMember(
                data_collection_id=run.data_set.collection.data_collection_id,
                last_image=run.plan.frames_total,
                median_cell=run.median_cell,
            )


def merging_statistics(merge: MergeSummary) -> Iterator[MergingStatistics]:
    """Overall, innermost and outermost shell, which ISPyB keeps; one shell alone is only overall."""
    yield _statistics(ResolutionShell.OVERALL, merge.overall)
    if len(merge.shells) > 1:
        yield _statistics(ResolutionShell.INNER, merge.shells[0])
        yield _statistics(ResolutionShell.OUTER, merge.shells[-1])


def _statistics(shell: ResolutionShell, ours: ShellStatistics) -> MergingStatistics:
    return MergingStatistics(
        resolution_shell=shell,
        d_max=ours.d_max,
        d_min=ours.d_min,
        n_observations=ours.n_observations,
        n_reflections=ours.n_reflections,
        completeness=ours.completeness,
        multiplicity=ours.multiplicity,
        mean_i_over_sigma=ours.mean_i_over_sigma,
        cc_half=ours.cc_half,
        cc_star=ours.cc_star,
        r_split=ours.r_split,
    )


def merge_line(merge: MergeSummary) -> str:
    """What was merged, what is missing, how good it is; in one line."""
    parts = [] if not merge.missing else ["PARTIAL"]
    parts += [f"{merge.chunks_merged} of {merge.chunks_expected} chunks", *merge.missing]
    overall = merge.overall
    parts.append(
        f"{merge.lattices_merged} lattices to {overall.d_min:.2f} Å: CC1/2 {overall.cc_half:.3f}, "
        f"Rsplit {overall.r_split:.3f}, completeness {overall.completeness:.3f}"
    )
    return "; ".join(parts)


def versions() -> dict[str, str]:
    """What computed a result."""
    return {
        "ssx-orchestrator": __version__,
        "algorithm": ALGORITHM_VERSION,
        "python": platform.python_version(),
    }
