"""Looks over the latest records, for people who want to know what is wrong with them."""

import datetime
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from sqlalchemy import Connection, RowMapping, func, select

from ispyb_io import result_tables, tables
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.group_columns import COLLECTION, GROUP, experiment_type
from ispyb_io.group_reader import read_groups
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES, plain_label
from ispyb_io.records import DataCollectionGroup, Record
from ispyb_io.row_reader import rows_of, select_known, values_of

SESSION, PROPOSAL = table(tables.BLSession), table(tables.Proposal)
SSX = table(tables.SSXDataCollection)
PROGRAM = table(result_tables.AutoProcProgram)
ATTACHMENT = table(result_tables.AutoProcProgramAttachment)
MOST_GROUPS_LOOKED_AT = 5000
"""Newest groups of any kind among which serial ones are sought."""
MANY_IMAGES = 100
STILLS_OF_OTHER_KINDS = {
    plain_label(label)
    for label in ("Mesh", "Mesh3D", "LineScan", "Line", "XRF map", "XRF map xas", "Burn", "Screening", "EM",
                  "Characterization", "tomo", "single particle", "Multi-positional", "GphNative", "Bragg")
}  # fmt: skip
"""Experiment types whose many images at one angle are not serial crystallography."""


class Scope(Record):
    """Which of the latest groups."""

    n_groups: int = 10
    since: datetime.datetime | None = None
    """Start of the group."""
    beamline: str | None = None
    proposal: str | None = None


class Overlooked(Record):
    """A data collection that looks serial, in a group whose experiment type is not."""

    group_id: int
    data_collection_id: int
    experiment_type: str | None
    why: str


def latest_groups(
    connection: Connection, flavour: Flavour, scope: Scope
) -> tuple[list[DataCollectionGroup], list[Overlooked]]:
    """Serial groups, newest first, and what between them looks serial but is called something else."""
    serial = {plain_label(name) for name in SSX_EXPERIMENT_TYPES}
    mine: list[int] = []
    others: dict[int, str | None] = {}
    for group_id, label in _newest(connection, flavour, scope):
        if len(mine) == scope.n_groups:
            break
        if plain_label(label or "") in serial:
            mine.append(group_id)
        else:
            others[group_id] = label
    return read_groups(connection, flavour, mine), _overlooked(connection, flavour, others, scope.n_groups)


def _newest(connection: Connection, flavour: Flavour, scope: Scope) -> Iterable[tuple[int, str | None]]:
    query = (
        select(GROUP.c.dataCollectionGroupId, experiment_type(flavour))
        .join(SESSION, SESSION.c.sessionId == GROUP.c.sessionId)
        .join(PROPOSAL, PROPOSAL.c.proposalId == SESSION.c.proposalId)
        .order_by(GROUP.c.dataCollectionGroupId.desc())
        .limit(MOST_GROUPS_LOOKED_AT)
    )
    if scope.since is not None:
        query = query.where(GROUP.c.startTime >= scope.since)
    if scope.beamline is not None:
        query = query.where(SESSION.c.beamLineName == scope.beamline)
    if scope.proposal is not None:
        name = func.lower(PROPOSAL.c.proposalCode.concat(PROPOSAL.c.proposalNumber))
        query = query.where(name == scope.proposal.lower())
    return [(row[0], row[1]) for row in connection.execute(query)]


def _overlooked(
    connection: Connection, flavour: Flavour, groups: dict[int, str | None], most: int
) -> list[Overlooked]:
    query = select_known(flavour, COLLECTION)
    rows = list(rows_of(connection, query, COLLECTION.c.dataCollectionGroupId, groups))
    ids = [row["DataCollection_dataCollectionId"] for row in rows]
    with_ssx: set[int] = set()
    if flavour.has(SSX.name):
        found = rows_of(connection, select(SSX.c.dataCollectionId), SSX.c.dataCollectionId, ids)
        with_ssx = {row["dataCollectionId"] for row in found}
    suspects: list[Overlooked] = []
    for row in sorted(rows, key=lambda row: -row["DataCollection_dataCollectionId"]):
        group_id = row["DataCollection_dataCollectionGroupId"]
        why = _why_serial(row, groups[group_id], with_ssx)
        if why:
            suspects.append(
                Overlooked(
                    group_id=group_id,
                    data_collection_id=row["DataCollection_dataCollectionId"],
                    experiment_type=groups[group_id],
                    why=why,
                )
            )
    return suspects[:most]


def _why_serial(row: RowMapping, label: str | None, with_ssx: Collection[int]) -> str:
    value = values_of(row, "DataCollection")
    if value("dataCollectionId") in with_ssx:
        return "it has a row in SSXDataCollection"
    n_images, rotation = value("numberOfImages") or 0, value("axisRange")
    if rotation == 0 and n_images >= MANY_IMAGES and plain_label(label or "") not in STILLS_OF_OTHER_KINDS:
        return f"its axisRange is 0 and it has {n_images} images"
    return ""


def templates_in(connection: Connection, directories: Collection[Path]) -> dict[Path, set[str]]:
    """File templates of all data collections, of whatever group, that have these directories."""
    spelt = {f"{directory}{end}" for directory in directories for end in ("", "/")}
    found: dict[Path, set[str]] = {directory: set() for directory in directories}
    query = select(COLLECTION.c.imageDirectory, COLLECTION.c.fileTemplate)
    for row in rows_of(connection, query, COLLECTION.c.imageDirectory, spelt):
        if row["fileTemplate"]:
            found.setdefault(Path(row["imageDirectory"]), set()).add(row["fileTemplate"])
    return found


def attached_files(connection: Connection, flavour: Flavour, ids: Collection[int]) -> dict[int, Counter[str]]:
    """How often each file name is attached to programs that belong to a data collection itself."""
    found: dict[int, Counter[str]] = {id_: Counter() for id_ in ids}
    if not flavour.has(PROGRAM.name, "dataCollectionId") or not flavour.has(ATTACHMENT.name):
        return found
    query = (
        select_known(flavour, PROGRAM, ATTACHMENT)
        .select_from(PROGRAM)
        .join(ATTACHMENT, ATTACHMENT.c.autoProcProgramId == PROGRAM.c.autoProcProgramId)
    )
    for row in rows_of(connection, query, PROGRAM.c.dataCollectionId, ids):
        found[row["AutoProcProgram_dataCollectionId"]][row["AutoProcProgramAttachment_fileName"]] += 1
    return found
