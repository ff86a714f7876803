"""Results as rows of ISPyB: found again by natural key, updated in place, status last, never deleted.

Our programs are known by ``processingEnvironment``: ``ssxorch:<key>`` for a data collection, and
``ssxorch:<key> merge:<name>`` for a merged result. Children are found by their parent and a natural
key: the integration by (program, data collection), the attachment by (program, file name), the
statistics by (scaling, shell). How later results supersede earlier ones, and why so, is in
docs/explanations/decisions/0005-a-later-result-supersedes.md.

Every function here runs inside one transaction of ``transactions.writing``.
"""

import datetime
import logging
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, select, update

from ispyb_io import result_tables as results_in
from ispyb_io.flavour import Flavour
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.results import (
    CollectionResult,
    MergedMember,
    MergedResult,
    MergingStatistics,
    ResolutionShell,
    ResultStatus,
    shorten,
)
from ispyb_io.tables import DataCollection, table
from ispyb_io.transactions import insert_row, put

logger = logging.getLogger(__name__)

PREFIX = "ssxorch:"
LATER_ATTEMPT = " | later attempt "
PROGRAM = table(results_in.AutoProcProgram)
ATTACHMENT = table(results_in.AutoProcProgramAttachment)
INTEGRATION = table(results_in.AutoProcIntegration)
AUTOPROC = table(results_in.AutoProc)
SCALING = table(results_in.AutoProcScaling)
STATISTICS = table(results_in.AutoProcScalingStatistics)
HAS_INTEGRATION = table(results_in.AutoProcScaling_has_Int)
COLLECTION = table(DataCollection)
FOUND_BY = (
    PROGRAM.c.autoProcProgramId,
    PROGRAM.c.processingEnvironment,
    PROGRAM.c.processingStatus,
    PROGRAM.c.processingMessage,
    PROGRAM.c.processingStartTime,
)
CELL_COLUMNS = ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")


class ResultWriter:
    """Writes one result through one connection."""

    def __init__(self, connection: Connection, flavour: Flavour, now: datetime.datetime) -> None:
        self._connection = connection
        self._flavour = flavour
        self._now = now.replace(microsecond=0)

    def write_collection_result(self, result: CollectionResult) -> int:
        """Write the one row that a data collection has; returns the autoProcProgramId."""
        self._require_collections([result.data_collection_id])
        query = select(*FOUND_BY).where(PROGRAM.c.dataCollectionId == result.data_collection_id)
        existing = self._ours(query, suffix="")
        environment = PREFIX + result.key
        if existing is not None:
            _refuse_if_older(existing, environment, result.started)
            done_before = existing["processingStatus"] == ResultStatus.SUCCESS
            repeated = result.status is ResultStatus.RUNNING and _same(existing, environment)
            if done_before and (result.status is ResultStatus.FAILED or repeated):
                return self._note_later_attempt(existing, environment, result)
        program_id = self._begin_program(existing, environment, result, result.data_collection_id)
        member = MergedMember(**result.model_dump(include=set(MergedMember.model_fields)))
        self._put_integration(program_id, member)
        self._put_attachments(program_id, result)
        self._finish_program(program_id, result)
        return program_id

    def write_merged_result(self, result: MergedResult) -> int:
        """Write the one row that a merge of this name has; returns the autoProcProgramId."""
        self._require_collections([member.data_collection_id for member in result.members])
        suffix = f" merge:{result.name}"
        environment = PREFIX + result.key + suffix
        existing = self._ours(_programs_on_any_of(result), suffix)
        if existing is not None:
            _refuse_if_older(existing, environment, result.started)
            if (
                existing["processingStatus"] == ResultStatus.SUCCESS
                and result.status is not ResultStatus.SUCCESS
            ):
                return self._note_later_attempt(existing, environment, result)
        program_id = self._begin_program(existing, environment, result, None)
        integrations = [self._put_integration(program_id, member) for member in result.members]
        if result.status is ResultStatus.SUCCESS:
            self._put_merged_numbers(program_id, result, integrations)
        self._put_attachments(program_id, result)
        self._finish_program(program_id, result)
        return program_id

    def _require_collections(self, ids: list[int]) -> None:
        query = select(COLLECTION.c.dataCollectionId).where(COLLECTION.c.dataCollectionId.in_(ids))
        missing = sorted(set(ids) - set(self._connection.execute(query).scalars()))
        if missing:
            raise NotFoundError(f"there is no data collection {', '.join(map(str, missing))} in ISPyB")

    def _ours(self, query: Select[*tuple[Any, ...]], suffix: str) -> RowMapping | None:
        """Find the oldest program of ours whose environment ends like this."""
        for row in self._connection.execute(query.order_by(PROGRAM.c.autoProcProgramId)).mappings():
            environment = row["processingEnvironment"] or ""
            key, _, rest = environment.removeprefix(PREFIX).partition(" ")
            if environment.startswith(PREFIX) and key and suffix.strip() == rest:
                return row
        return None

    def _put(self, into: Table, key: dict[str, Any], values: dict[str, Any]) -> int:
        values = self._flavour.known(into, {**values, "recordTimeStamp": self._now})
        return put(self._connection, into, key, values)

    def _begin_program(
        self,
        existing: RowMapping | None,
        environment: str,
        result: CollectionResult | MergedResult,
        data_collection_id: int | None,
    ) -> int:
        """Put the program's row, RUNNING until its children are there: some readers see dirty rows."""
        values = {
            "dataCollectionId": data_collection_id,
            "processingEnvironment": environment,
            "processingPrograms": result.program,
            "processingCommandLine": result.command_line,
            "processingStatus": self._status(ResultStatus.RUNNING),
        }
        if existing is None:
            return insert_row(self._connection, PROGRAM, self._flavour.known(PROGRAM, values))
        if not _same(existing, environment):
            logger.info("%s supersedes %s", environment, existing["processingEnvironment"])
        return self._put(PROGRAM, {"autoProcProgramId": existing["autoProcProgramId"]}, values)

    def _finish_program(self, program_id: int, result: CollectionResult | MergedResult) -> None:
        self._put(
            PROGRAM,
            {"autoProcProgramId": program_id},
            {
                "processingMessage": result.message,
                "processingStartTime": result.started,
                "processingEndTime": result.ended,
                "processingStatus": self._status(result.status),
            },
        )

    def _status(self, status: ResultStatus) -> str:
        return self._flavour.label("AutoProcProgram", "processingStatus", status.value)

    def _note_later_attempt(
        self, existing: RowMapping, environment: str, result: CollectionResult | MergedResult
    ) -> int:
        """Leave a success as it is; its message tells what became of the later attempt."""
        program_id = existing["autoProcProgramId"]
        if result.status is ResultStatus.RUNNING and _same(existing, environment):
            return program_id  # a repeated start of what is finished
        before = (existing["processingMessage"] or "").partition(LATER_ATTEMPT)[0]
        verb = "is running" if result.status is ResultStatus.RUNNING else "failed"
        note = shorten(f"{LATER_ATTEMPT}{result.key[:8]} {verb}: {result.message}", 120)
        message = shorten(before, 255 - len(note)) + note
        self._put(PROGRAM, {"autoProcProgramId": program_id}, {"processingMessage": message})
        return program_id

    def _put_integration(self, program_id: int, member: MergedMember) -> int:
        cell = member.median_cell or (None,) * 6
        return self._put(
            INTEGRATION,
            {"autoProcProgramId": program_id, "dataCollectionId": member.data_collection_id},
            {
                "startImageNumber": member.first_image,
                "endImageNumber": member.last_image,
                **dict(zip(CELL_COLUMNS, cell, strict=True)),
            },
        )

    def _put_attachments(self, program_id: int, result: CollectionResult | MergedResult) -> None:
        for attachment in result.attachments:
            label = self._flavour.label(ATTACHMENT.name, "fileType", attachment.file_type.value)
            self._put(
                ATTACHMENT,
                {"autoProcProgramId": program_id, "fileName": attachment.path.name},
                {"filePath": str(attachment.path.parent), "fileType": label},
            )

    def _put_merged_numbers(self, program_id: int, result: MergedResult, integrations: list[int]) -> None:
        cell = zip(CELL_COLUMNS, result.unit_cell or (), strict=True)
        refined = {f"refinedCell_{column.removeprefix('cell_')}": value for column, value in cell}
        autoproc_id = self._put(
            AUTOPROC, {"autoProcProgramId": program_id}, {"spaceGroup": result.space_group, **refined}
        )
        scaling_id = self._put(SCALING, {"autoProcId": autoproc_id}, {})
        order = list(ResolutionShell)  # overall first: py-ispyb shows one row, mostly the first
        for shell in sorted(result.statistics, key=lambda s: order.index(s.resolution_shell)):
            label = self._flavour.label(
                STATISTICS.name, "scalingStatisticsType", shell.resolution_shell.value
            )
            key = {"autoProcScalingId": scaling_id, "scalingStatisticsType": label}
            self._put(STATISTICS, key, _statistics_columns(shell))
        for integration_id in integrations:
            key = {"autoProcIntegrationId": integration_id}
            self._put(HAS_INTEGRATION, key, {"autoProcScalingId": scaling_id})
        self._unlink_former_members(scaling_id, integrations)

    def _unlink_former_members(self, scaling_id: int, integrations: Iterable[int]) -> None:
        """Take the numbers away from data collections that only the superseded result had."""
        self._connection.execute(
            update(HAS_INTEGRATION)
            .where(
                HAS_INTEGRATION.c.autoProcScalingId == scaling_id,
                HAS_INTEGRATION.c.autoProcIntegrationId.not_in(list(integrations)),
            )
            .values(autoProcScalingId=None)
        )


def _programs_on_any_of(result: MergedResult) -> Select[*tuple[Any, ...]]:
    ids = {*result.ever_members, *(member.data_collection_id for member in result.members)}
    on_members = select(INTEGRATION.c.autoProcProgramId).where(INTEGRATION.c.dataCollectionId.in_(ids))
    return select(*FOUND_BY).where(PROGRAM.c.autoProcProgramId.in_(on_members))


def _same(existing: RowMapping, environment: str) -> bool:
    return existing["processingEnvironment"] == environment


def _refuse_if_older(existing: RowMapping, environment: str, started: datetime.datetime | None) -> None:
    recorded = existing["processingStartTime"]
    if not _same(existing, environment) and started and recorded and started < recorded:
        raise RejectedError(
            f"the result {environment} began at {started}, but AutoProcProgram "
            f"{existing['autoProcProgramId']} holds {existing['processingEnvironment']}, which began later, "
            f"at {recorded}; an older result does not replace a newer one"
        )


def _statistics_columns(shell: MergingStatistics) -> dict[str, Any]:
    """ISPyB's columns; completeness in per cent there, R_split and CC* have none and go to comments."""
    extra = [("R_split", shell.r_split), ("CC*", shell.cc_star)]
    return {
        "resolutionLimitLow": shell.d_max,
        "resolutionLimitHigh": shell.d_min,
        "nTotalObservations": shell.n_observations,
        "nTotalUniqueObservations": shell.n_reflections,
        "completeness": None if shell.completeness is None else 100 * shell.completeness,
        "multiplicity": shell.multiplicity,
        "meanIOverSigI": shell.mean_i_over_sigma,
        "ccHalf": shell.cc_half,
        "anomalous": 0,
        "comments": "; ".join(f"{name}={value:.4f}" for name, value in extra if value is not None),
    }
