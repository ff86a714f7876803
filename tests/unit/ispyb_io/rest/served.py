"""What the py-ispyb of the tests knows and shows: rows of an embedded ISPyB as the real one serves them."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine, inspect, select
from sqlalchemy.orm import DeclarativeBase

from ispyb_io import tables as t
from ispyb_io.column_types import table
from ispyb_io.transactions import insert_row, writing

from .faults import Fault


@dataclass
class Pyispyb:
    """State and manners of the server."""

    engine: Engine
    branch: Literal["192", "ssx-webservice", "master"] = "192"
    permissions: tuple[str, ...] = ("ssx_sync",)
    plugins: tuple[str, ...] = ("dummy",)
    proposals: tuple[str, ...] | None = None
    """What the account may see; None: all."""
    by_end: bool = False
    """As older versions: newest endTime first, null last; a group's id is its oldest collection's."""
    slashes: bool = False
    """Whether paths of lists end in a slash; without it there is a redirection."""
    sees_files: bool = True
    """Whether the server has the file system on which results lie."""
    tokens: set[str] = field(default_factory=set)
    logins: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Method and path with query of each request."""
    _columns: dict[str, set[str]] = field(default_factory=dict)

    def rows(self, model: type[DeclarativeBase], **key: Any) -> list[Any]:
        """Rows with these values, oldest first; columns that only other sites have are left out."""
        whole = table(model)
        there = [column for column in whole.columns if column.name in self._names(whole.name)]
        with self.engine.connect() as connection:
            query = select(*there).filter_by(**key).order_by(*whole.primary_key.columns)
            return [SimpleNamespace(**row) for row in connection.execute(query).mappings()]

    def row(self, model: type[DeclarativeBase], **key: Any) -> Any:
        """The first of them, None if there is none."""
        return next(iter(self.rows(model, **key)), None)

    def add(self, model: type[DeclarativeBase], **values: Any) -> int:
        """Insert and commit; an IntegrityError is nobody's business here: it becomes a 500."""
        with writing(self.engine, "a row") as connection:
            return insert_row(connection, table(model), values)

    def _names(self, name: str) -> set[str]:
        if name not in self._columns:
            self._columns[name] = {column["name"] for column in inspect(self.engine).get_columns(name)}
        return self._columns[name]


class Stats(BaseModel):
    nbHits: int  # noqa: N815
    nbIndexed: int  # noqa: N815
    laticeType: str  # noqa: N815
    estimatedResolution: float  # noqa: N815


def columns(row: Any) -> dict[str, Any]:
    return dict(vars(row))


def session_name(server: Pyispyb, session: t.BLSession) -> str:
    return f"{proposal_name(server, session)}-{session.visit_number}"


def proposal_name(server: Pyispyb, session: t.BLSession) -> str:
    proposal = server.row(t.Proposal, proposalId=session.proposalId)
    return f"{proposal.proposalCode}{proposal.proposalNumber}"


def may_see(server: Pyispyb, session: t.BLSession) -> bool:
    return server.proposals is None or proposal_name(server, session) in server.proposals


def group_events(
    server: Pyispyb, group: t.DataCollectionGroup, data_collection_id: int | None, *, one_each: bool
) -> Iterator[dict[str, Any]]:
    """One event for the group, or one for each of its data collections."""
    session = server.row(t.BLSession, sessionId=group.sessionId)
    collections = server.rows(t.DataCollection, dataCollectionGroupId=group.dataCollectionGroupId)
    collections = [c for c in collections if data_collection_id in (None, c.dataCollectionId)]
    if not may_see(server, session):
        return
    for part in [[c] for c in collections] if one_each else [collections] if collections else []:
        shown = part[0] if server.by_end else part[-1]
        ends = [c.endTime for c in part if c.endTime is not None]
        yield {
            "id": shown.dataCollectionId,
            "type": "dc",
            "startTime": (min if server.by_end else max)(c.startTime for c in part),
            "endTime": max(ends, default=None),
            "duration": 5.0,
            "count": len(part),
            "session": session_name(server, session),
            "proposal": proposal_name(server, session),
            "blSample": "a name",
            "blSampleId": group.blSampleId,
            "attachments": 0,
            "Item": item(server, shown, group),
            "beamline": session.beamLineName,
        }


def item(server: Pyispyb, collection: t.DataCollection, group: t.DataCollectionGroup) -> dict[str, Any]:
    served_group = {
        "dataCollectionGroupId": group.dataCollectionGroupId,
        "experimentType": group.experimentType,
        "Workflow": None,
    }
    content = columns(collection)
    for name in ("startTime", "endTime", "comments", "dataCollectionGroupId"):
        content.pop(name)
    content |= {"DataCollectionGroup": served_group, "_metadata": {"snapshots": {"1": False}}}
    if server.branch == "192":
        served_group["blSampleId"] = group.blSampleId
        ssx = server.row(t.SSXDataCollection, dataCollectionId=collection.dataCollectionId)
        content["SSXDataCollection"] = ssx and columns(ssx)
    return content


def sample_content(server: Pyispyb, sample_id: int) -> dict[str, Any]:
    sample = server.row(t.BLSample, blSampleId=sample_id)
    if sample is None:
        raise HTTPException(404, "Sample not found")
    crystal = server.row(t.Crystal, crystalId=sample.crystalId)
    protein = server.row(t.Protein, proteinId=crystal.proteinId)
    content = columns(sample) | {"Crystal": columns(crystal) | {"Protein": columns(protein)}}
    if server.branch == "192":
        of_sample = server.rows(t.SampleComposition, blSampleId=sample_id)
        of_crystal = server.rows(t.CrystalComposition, crystalId=sample.crystalId)
        content["sample_compositions"] = [composition(server, row) for row in of_sample]
        content["Crystal"]["crystal_compositions"] = [composition(server, row) for row in of_crystal]
    return content


def protein_of(server: Pyispyb, sample_id: int | None) -> int | None:
    sample = server.row(t.BLSample, blSampleId=sample_id)
    return sample and server.row(t.Crystal, crystalId=sample.crystalId).proteinId


def composition(server: Pyispyb, row: t.SampleComposition | t.CrystalComposition) -> dict[str, Any]:
    """The unit is served as an id."""
    component = server.row(t.Component, componentId=row.componentId)
    kind = server.row(t.ComponentType, componentTypeId=component.componentTypeId)
    return columns(row) | {"Component": columns(component) | {"ComponentType": columns(kind)}}


def chains(server: Pyispyb, data_collection_id: int) -> list[dict[str, Any]]:
    """Null values are left out there."""
    found = []
    for chain in server.rows(t.EventChain, dataCollectionId=data_collection_id):
        events = [
            {name: value for name, value in columns(event).items() if value is not None}
            | {"EventType": columns(server.row(t.EventType, eventTypeId=event.eventTypeId))}
            for event in server.rows(t.Event, eventChainId=chain.eventChainId)
        ]
        found.append(columns(chain) | {"events": events})
    return found


def read_stats(server: Pyispyb, folder: str, name: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(folder, name)) as file:  # noqa: PTH123, PTH118
            content = Stats.model_validate(json.load(file)).model_dump()
    except (FileNotFoundError, ValidationError):
        return None
    return content if server.sees_files else None
