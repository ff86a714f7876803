"""What a job tells the ledger and ISPyB, and the mapping from our results to ISPyB's records.

The place to look when a number in ISPyB is wrong.
"""

import datetime
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.data_set_run import DataSetRun
from flows.databases import Databases
from flows.delivery_thread import DeliveryThread, Sent
from flows.group_file import GroupFacts, common_sample, common_sample_group, write_group_file
from flows.job import DataSet, Job
from flows.merging_numbers import merging_statistics
from flows.messages import one_line
from flows.outcome import has_outcome
from flows.provenance import PROGRAM, user_name, versions
from flows.result_messages import collection_messages, failure_messages, merge_line, merge_messages
from ispyb_io.ledger_records import Chunk, ProcessingGroup, WorkStatus
from ispyb_io.protocol import IspybError
from ispyb_io.results import (
    Attachment,
    CollectionResult,
    ImageQuality,
    MergedMember,
    MergedResult,
    Outgoing,
    ResultStatus,
)
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import MergeSummary
from ssx_processing.settings import content_key

logger = logging.getLogger(__name__)

SET_ASIDE = "set aside: "
"""Begins the reason of such a chunk."""


@dataclass
class JobRecords:
    """Enters a job, its chunks and its results; everything may be repeated."""

    databases: Databases
    job: Job
    delivery: DeliveryThread | None = None
    """Takes results to ISPyB; None where there is none."""
    check: Callable[[], None] = lambda: None
    """Raises if the job is another's by now; asked before anything is written."""
    frames_there: int | None = None
    """That could be read when the job was planned; None before."""
    record_images: bool = False
    """Tell ISPyB of each image."""
    started_by: str = field(default_factory=user_name)
    started: datetime.datetime = field(default_factory=datetime.datetime.now)
    processing_group: ProcessingGroup | None = None
    """In the ledger, once it is begun; None for files."""
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Reason by key of chunks that are not to be tried: their workers died, or ran over a limit."""
    _concluded: set[int] = field(default_factory=set)
    """Data collections whose final result is on its way."""

    def begin(self) -> None:
        """Enter the processing, and its group with its members."""
        group = self.job.group
        ledger_group = self.job.chosen
        if group is not None:
            ledger_group = self.databases.ledger.ensure_group(
                group.proposal,
                self.job.name,
                data_collection_group_id=group.group_id,
                created_by=self.started_by,
            )
            # members that are there stay as they are: a person may have excluded one
            self.databases.ledger.add_members(
                ledger_group.group_id,
                [collection.data_collection_id for collection in group.data_collections],
                changed_by=self.started_by,
            )
        self.processing_group = ledger_group
        self.databases.ledger.begin(
            self.job.key,
            folder=self.job.folder,
            settings=self.job.settings.model_dump(mode="json"),
            versions=versions(),
            group_id=ledger_group.group_id if ledger_group else None,
            data_collection_group_id=group.group_id if group else None,
            started_by=self.started_by,
            again=True,
            result_is_lost=not has_outcome(self.job.folder),
        )

    def leave_set_aside(self) -> None:
        """Do not try again the chunks whose workers died of them, or were killed for what they took."""
        chunks = self.databases.ledger.chunks(self.job.key)
        is_set_aside = (chunk for chunk in chunks if chunk.message.startswith(SET_ASIDE))
        self.set_aside = {chunk.key: chunk.message for chunk in is_set_aside}

    def chunk(
        self, run: DataSetRun, place: int, status: WorkStatus, *, attempts: int = 0, message: str = ""
    ) -> None:
        """Enter the state of a chunk."""
        self.check()
        chunk = _chunk(run, place, status, attempts, message)
        self.databases.ledger.record_chunk(self.job.key, chunk)

    def chunks_found(self, run: DataSetRun) -> None:
        """Enter all chunks of a data set as they lie there: done, or failed for the reason known."""
        chunks = [
            _chunk(run, place, WorkStatus.FAILED, 0, run.failures[place])
            if place in run.failures
            else _chunk(run, place, WorkStatus.SUCCESS, 0, "")
            for place in range(len(run.chunk_jobs))
        ]
        self.databases.ledger.record_chunks(self.job.key, chunks)

    def collection(self, run: DataSetRun, status: ResultStatus) -> None:
        """Write the sum over the chunks done of one data collection."""
        self._collection(
            run.data_set,
            status,
            run.message,
            last_image=run.plan.frames_total,
            median_cell=run.median_cell,
            hit_rate=run.counts.hit_rate,
            indexing_rate=run.counts.indexing_rate,
            n_crystals=run.counts.lattices_indexed,
            messages=collection_messages(run),
        )
        if self.record_images and status is not ResultStatus.RUNNING:
            self._images(run)

    def _images(self, run: DataSetRun) -> None:
        """Tell what was seen on the images of the chunks done."""
        collection, summaries = run.data_set.collection, run.summaries.values()
        if collection is None or not summaries:
            return
        id_ = collection.data_collection_id
        tables = tuple(summary.folder / "frames.parquet" for summary in summaries)
        self._send(ImageQuality(key=self._collection_key(id_), data_collection_id=id_, tables=tables))

    def _collection_key(self, data_collection_id: int) -> str:
        return content_key({"collection": data_collection_id, "settings": self._settings})

    def _collection(
        self,
        data_set: DataSet,
        status: ResultStatus,
        message: str,
        *,
        last_image: int,
        **numbers: Any,
    ) -> None:
        if data_set.collection is None:
            return
        id_ = data_set.collection.data_collection_id
        folder = RunFolder(data_set.folder)
        result = CollectionResult(
            key=self._collection_key(id_),
            program=PROGRAM,
            command_line=self._command_line,
            status=status,
            message=message,
            started=self.started,
            ended=None if status is ResultStatus.RUNNING else datetime.datetime.now(),
            attachments=attachments(folder.ssx_stats, folder.ssx_cells),
            data_collection_id=id_,
            last_image=last_image,
            **numbers,
        )
        self._send(result)
        if status is not ResultStatus.RUNNING:
            self._concluded.add(id_)

    def merged(self, runs: Sequence[DataSetRun], merge: MergeSummary, report: Path) -> None:
        """Write the merged result under every member, with what was merged."""
        group = self.processing_group
        if group is None:
            return
        everyone = self.databases.ledger.members(group.group_id)
        about = write_group_file(
            GroupFacts(group, everyone, self.job, runs, merge, versions(), self.started_by, self.started)
        )
        result = MergedResult(
            key=merge.key,
            program=f"{PROGRAM} merge",
            command_line=self._command_line,
            status=ResultStatus.SUCCESS,
            message="; ".join([merge_line(merge), *runs[0].settings.sample.assumed]),
            started=self.started,
            ended=datetime.datetime.now(),
            attachments=attachments(merge.folder / "merged.mtz", report, about, importance=1),
            messages=merge_messages(merge, merge_line(merge), runs[0].settings.sample.assumed),
            name=self.job.name,
            members=tuple(members(runs)),
            ever_members=frozenset(member.data_collection_id for member in everyone),
            sample_id=common_sample(self.job, runs),
            sample_group_id=common_sample_group(self.job, runs),
            space_group=merge.space_group,
            unit_cell=merge.unit_cell,
            statistics=tuple(merging_statistics(merge)),
        )
        self._send(result)

    def finish(
        self, status: WorkStatus, message: str, counts: dict[str, Any], *, goes_on: bool = False
    ) -> None:
        """Enter the outcome of the processing; last of all.

        Parameters
        ----------
        goes_on
            The collection does, and the processing with it: none of its attempts is over.
        """
        self.check()
        attempts = 0 if goes_on else None
        self.databases.ledger.finish(
            self.job.key, status, message=message, counts=counts, versions=versions(), attempts=attempts
        )

    def settle(self, wait_s: float) -> Sent:
        """Wait, not for long, until ISPyB has what it was sent."""
        return Sent() if self.delivery is None else self.delivery.settle(wait_s)

    def _send(self, result: Outgoing) -> None:
        self.check()
        if self.delivery is not None:
            proposal = self.processing_group.proposal if self.processing_group else None
            self.delivery.send(result, self.job.key, proposal)

    def fail_merge(self, error: Exception) -> None:
        """Enter that merging again was stopped; the data collections' results stand as they are."""
        self.finish(WorkStatus.FAILED, one_line(error), {})

    def fail(self, error: Exception) -> None:
        """Enter that the job was stopped, also at the data collections whose result is still due."""
        message = one_line(error)
        try:
            for data_set in self.job.data_sets:
                if data_set.collection and data_set.collection.data_collection_id not in self._concluded:
                    self.lost(data_set, message)
        except (IspybError, ValueError) as further:  # the first error is what counts
            logger.warning("the failure cannot be entered in ISPyB: %s", one_line(further))
        finally:
            there = {} if self.frames_there is None else {"frames_there": self.frames_there}
            self.finish(WorkStatus.FAILED, message, there)

    def lost(self, data_set: DataSet, message: str) -> None:
        """Enter that nothing came of a data collection."""
        if data_set.collection is not None:
            last_image = data_set.collection.n_images or 1
            messages = failure_messages(message)
            self._collection(data_set, ResultStatus.FAILED, message, last_image=last_image, messages=messages)

    def merge_failed(self, runs: Sequence[DataSetRun], error: Exception) -> None:
        """Enter that nothing could be merged; an earlier merged result stands, with a note."""
        group = self.processing_group
        if group is None:
            return
        everyone = self.databases.ledger.members(group.group_id)
        sample = self.job.settings.sample
        result = MergedResult(
            key=content_key({"merge": self.job.name, "settings": self.job.settings.model_dump(mode="json")}),
            program=f"{PROGRAM} merge",
            command_line=self._command_line,
            status=ResultStatus.FAILED,
            message=one_line(error),
            messages=failure_messages(one_line(error)),
            started=self.started,
            ended=datetime.datetime.now(),
            name=self.job.name,
            members=tuple(members(runs)),
            ever_members=frozenset(member.data_collection_id for member in everyone),
            space_group=sample.space_group,
            unit_cell=sample.unit_cell,
        )
        self._send(result)

    @property
    def _command_line(self) -> str:
        if self.job.chosen is not None:
            return shlex.join(["ssx", "merge", self.job.chosen.name])
        return f"ssx process --group {self.job.group.group_id}" if self.job.group else ""

    @property
    def _settings(self) -> dict[str, Any]:
        return self.job.settings.model_dump(mode="json", exclude={"merging"})


def _chunk(run: DataSetRun, place: int, status: WorkStatus, attempts: int, message: str) -> Chunk:
    """A chunk as the ledger knows it."""
    chunk_job, summary, work = run.chunk_jobs[place], run.summaries.get(place), run.works.get(place)
    return Chunk(
        index=run.first_chunk + place,
        key=chunk_job.key,
        start=chunk_job.frames.start,
        stop=chunk_job.frames.stop,
        status=status,
        attempts=attempts,
        message=message,
        folder=summary.folder if summary else None,
        counts=asdict(summary.counts) if summary else {},
        seconds=work.seconds if work else None,
        worker=work.worker if work else "",
    )


def attachments(*paths: Path, importance: int = 2) -> tuple[Attachment, ...]:
    """Those of the files that are there; 1 is what people look for first."""
    return tuple(Attachment(path=path, importance=importance) for path in paths if path.is_file())


def members(runs: Sequence[DataSetRun]) -> Iterator[MergedMember]:
    """The part of each data collection in a merged result."""
    for run in runs:
        if run.data_set.collection is not None and run.summaries:
            yield MergedMember(
                data_collection_id=run.data_set.collection.data_collection_id,
                last_image=run.plan.frames_total,
                median_cell=run.median_cell,
            )
