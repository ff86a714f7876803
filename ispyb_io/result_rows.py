"""The rows below a program: integration, attachments, messages, and the numbers of a merge.

Each is found again by its parent and a natural key: the integration by (program, data collection), the
attachment by (program, file name), the message by (program, text), the statistics by (scaling, shell).
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, select

from ispyb_io import result_tables as results_in
from ispyb_io import site_tables
from ispyb_io.column_types import CELL_COLUMNS, table
from ispyb_io.flavour import Flavour
from ispyb_io.results import (
    Attachment,
    MergedMember,
    MergedResult,
    MergingStatistics,
    Message,
    ResolutionShell,
    Severity,
    shorten,
)
from ispyb_io.transactions import insert_row, put

ATTACHMENT = table(results_in.AutoProcProgramAttachment)
INTEGRATION = table(results_in.AutoProcIntegration)
AUTOPROC = table(results_in.AutoProc)
SCALING = table(results_in.AutoProcScaling)
STATISTICS = table(results_in.AutoProcScalingStatistics)
HAS_INTEGRATION = table(results_in.AutoProcScaling_has_Int)
MESSAGE = table(site_tables.AutoProcProgramMessage)
NO_LONGER = "no longer: "


class ResultRows:
    """Puts the rows of results, through one connection, as far as the columns are there."""

    def __init__(self, connection: Connection, flavour: Flavour, now: datetime.datetime) -> None:
        self._connection = connection
        self._flavour = flavour
        self._now = now

    def add(self, into: Table, values: Mapping[str, Any]) -> int:
        """Add a row; returns its id."""
        return insert_row(self._connection, into, self._known(into, values))

    def put(self, into: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Make the row with this key hold these values; returns its id."""
        return put(self._connection, into, key, self._known(into, values))

    def _known(self, into: Table, values: Mapping[str, Any]) -> dict[str, Any]:
        stamp = {"recordTimeStamp": self._now} if "recordTimeStamp" in into.columns else {}
        return self._flavour.known(into, {**values, **stamp})

    def put_integration(self, program_id: int, member: MergedMember) -> int:
        """Images and median cell of a data collection in a result."""
        cell = member.median_cell or (None,) * 6
        return self.put(
            INTEGRATION,
            {"autoProcProgramId": program_id, "dataCollectionId": member.data_collection_id},
            {
                "startImageNumber": member.first_image,
                "endImageNumber": member.last_image,
                **dict(zip(CELL_COLUMNS, cell, strict=True)),
            },
        )

    def put_attachments(self, program_id: int, attachments: Iterable[Attachment]) -> None:
        """Files, by name."""
        for attachment in attachments:
            label = self._flavour.label(ATTACHMENT.name, "fileType", attachment.file_type.value)
            self.put(
                ATTACHMENT,
                {"autoProcProgramId": program_id, "fileName": attachment.path.name},
                {
                    "filePath": str(attachment.path.parent),
                    "fileType": label,
                    "importanceRank": attachment.importance,
                },
            )

    def put_messages(self, program_id: int, messages: Iterable[Message]) -> None:
        """What there is to say to people, where there is a table for it.

        What was said of an earlier try and is true no longer is marked so: nothing is deleted.
        """
        if not self._flavour.has(MESSAGE.name):
            return
        true = {message.text: message for message in messages}
        query = select(MESSAGE.c.autoProcProgramMessageId, MESSAGE.c.message)
        said = self._connection.execute(query.where(MESSAGE.c.autoProcProgramId == program_id)).all()
        for id_, text in said:
            if text not in true and not (text or "").startswith(NO_LONGER):
                values = {"message": shorten(f"{NO_LONGER}{text}", 200), "severity": Severity.INFO.value}
                self.put(MESSAGE, {"autoProcProgramMessageId": id_}, values)
        for text, message in true.items():
            values = {"severity": message.severity.value, "description": message.description}
            self.put(MESSAGE, {"autoProcProgramId": program_id, "message": text}, values)

    def put_merged_numbers(self, program_id: int, result: MergedResult, integrations: list[int]) -> None:
        """Space group, cell, scaling and statistics of a merge."""
        cell = zip(CELL_COLUMNS, result.unit_cell or (), strict=True)
        refined = {f"refinedCell_{column.removeprefix('cell_')}": value for column, value in cell}
        autoproc_id = self.put(
            AUTOPROC, {"autoProcProgramId": program_id}, {"spaceGroup": result.space_group, **refined}
        )
        scaling_id = self.put(SCALING, {"autoProcId": autoproc_id}, {})
        order = list(ResolutionShell)  # overall first: py-ispyb shows one row, mostly the first
        for shell in sorted(result.statistics, key=lambda s: order.index(s.resolution_shell)):
            label = self._flavour.label(
                STATISTICS.name, "scalingStatisticsType", shell.resolution_shell.value
            )
            key = {"autoProcScalingId": scaling_id, "scalingStatisticsType": label}
            self.put(STATISTICS, key, _statistics_columns(shell))
        for integration_id in integrations:
            self.put(
                HAS_INTEGRATION, {"autoProcIntegrationId": integration_id}, {"autoProcScalingId": scaling_id}
            )


def _statistics_columns(shell: MergingStatistics) -> dict[str, Any]:
    """ISPyB's columns; completeness in per cent there, R_split and CC* have none and go to comments.

    Friedel mates are merged, so the R factors are those over all of I+ and I-; those within I+ or I-
    stay null.
    """
    extra = [("R_split", shell.r_split), ("CC*", shell.cc_star)]
    return {
        "resolutionLimitLow": shell.d_max,
        "resolutionLimitHigh": shell.d_min,
        "nTotalObservations": shell.n_observations,
        "nTotalUniqueObservations": shell.n_reflections,
        "completeness": _per_cent(shell.completeness),
        "multiplicity": shell.multiplicity,
        "meanIOverSigI": shell.mean_i_over_sigma,
        "ccHalf": shell.cc_half,
        "rMerge": shell.r_merge,
        "rMeasAllIPlusIMinus": shell.r_meas,
        "rPimAllIPlusIMinus": shell.r_pim,
        "anomalousCompleteness": _per_cent(shell.anomalous_completeness),
        "ccAno": shell.cc_anomalous,
        "ccAnomalous": shell.cc_anomalous,
        "resIOverSigI2": shell.d_where_i_is_2_sigma,
        "anomalous": 0,
        "comments": "; ".join(f"{name}={value:.4f}" for name, value in extra if value is not None),
    }


def _per_cent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
