"""Data collection groups, read in a handful of queries however many there are."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, func, select

from ispyb_io import tables
from ispyb_io.flavour import Flavour
from ispyb_io.records import (
    DataCollection,
    DataCollectionGroup,
    Event,
    EventChain,
    Sample,
    SampleComponent,
    SsxDetails,
    UnitCell,
)
from ispyb_io.tables import table

GROUP, COLLECTION = table(tables.DataCollectionGroup), table(tables.DataCollection)
SESSION, PROPOSAL = table(tables.BLSession), table(tables.Proposal)
SAMPLE, CRYSTAL, PROTEIN = table(tables.BLSample), table(tables.Crystal), table(tables.Protein)
COMPOSITION, COMPONENT = table(tables.SampleComposition), table(tables.Component)
COMPONENT_TYPE, SSX = table(tables.ComponentType), table(tables.SSXDataCollection)
CHAIN, EVENT, EVENT_TYPE = table(tables.EventChain), table(tables.Event), table(tables.EventType)

IDS_PER_QUERY = 500
CELL_COLUMNS = ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")


def find_group_ids(
    connection: Connection, newer_than: int, experiment_types: Collection[str], limit: int
) -> list[int]:
    """Find groups with a data collection above the mark, in the order of their newest data collection."""
    newest = func.max(COLLECTION.c.dataCollectionId)
    query = (
        select(GROUP.c.dataCollectionGroupId)
        .join(COLLECTION, COLLECTION.c.dataCollectionGroupId == GROUP.c.dataCollectionGroupId)
        .where(GROUP.c.experimentType.in_(experiment_types), COLLECTION.c.dataCollectionId > newer_than)
        .group_by(GROUP.c.dataCollectionGroupId)
        .order_by(newest)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def read_groups(connection: Connection, flavour: Flavour, ids: Sequence[int]) -> list[DataCollectionGroup]:
    """Read groups with these ids, in this order; ids that do not exist are left out."""
    rows = {
        row["DataCollectionGroup_dataCollectionGroupId"]: row for row in _group_rows(connection, flavour, ids)
    }
    sample_ids = {row["DataCollectionGroup_blSampleId"] for row in rows.values()} - {None}
    components = _components(connection, flavour, sample_ids)
    collections = _collections(connection, flavour, rows)
    return [_group(rows[id_], components, collections[id_]) for id_ in ids if id_ in rows]


def _rows(
    connection: Connection, query: Select[Any], column: Any, ids: Iterable[int]
) -> Iterable[RowMapping]:
    """Rows whose column is one of the ids, a few hundred ids at a time."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), IDS_PER_QUERY):
        part = query.where(column.in_(ordered[start : start + IDS_PER_QUERY]))
        yield from connection.execute(part).mappings()


def _select(flavour: Flavour, *wanted: Table) -> Select[Any]:
    """Select what is there of these tables, as Table_column."""
    return select(*(c.label(f"{c.table.name}_{c.name}") for c in flavour.columns(*wanted)))


def _group_rows(connection: Connection, flavour: Flavour, ids: Sequence[int]) -> Iterable[RowMapping]:
    query = (
        _select(flavour, GROUP, SESSION, PROPOSAL, SAMPLE, CRYSTAL, PROTEIN)
        .select_from(GROUP)
        .join(SESSION, SESSION.c.sessionId == GROUP.c.sessionId)
        .join(PROPOSAL, PROPOSAL.c.proposalId == SESSION.c.proposalId)
        .outerjoin(SAMPLE, SAMPLE.c.blSampleId == GROUP.c.blSampleId)
        .outerjoin(CRYSTAL, CRYSTAL.c.crystalId == SAMPLE.c.crystalId)
        .outerjoin(PROTEIN, PROTEIN.c.proteinId == CRYSTAL.c.proteinId)
    )
    return _rows(connection, query, GROUP.c.dataCollectionGroupId, ids)


def _group(
    row: RowMapping, components: dict[int, list[SampleComponent]], collections: list[DataCollection]
) -> DataCollectionGroup:
    value = _values(row, "DataCollectionGroup")
    code, number = _values(row, "Proposal")("proposalCode"), _values(row, "Proposal")("proposalNumber")
    session, sample_id = _values(row, "BLSession"), value("blSampleId")
    return DataCollectionGroup(
        group_id=value("dataCollectionGroupId"),
        session_id=value("sessionId"),
        proposal=f"{code or ''}{number or ''}",
        beamline=session("beamLineName") or "",
        visit_number=session("visit_number"),
        experiment_type=value("experimentType"),
        sample=None if sample_id is None else _sample(row, tuple(components[sample_id])),
        comments=value("comments") or "",
        start_time=value("startTime"),
        end_time=value("endTime"),
        data_collections=tuple(collections),
    )


def _values(row: RowMapping, table: str) -> Callable[[str], Any]:
    """Look-up of a table's values in a row; None where the column is not there."""
    return lambda column: row.get(f"{table}_{column}")


def _sample(row: RowMapping, components: tuple[SampleComponent, ...]) -> Sample:
    sample, crystal, protein = (_values(row, name) for name in ("BLSample", "Crystal", "Protein"))
    return Sample(
        sample_id=sample("blSampleId"),
        name=sample("name") or "",
        protein_acronym=protein("acronym") or "",
        protein_name=protein("name") or "",
        unit_cell=_unit_cell([crystal(column) for column in CELL_COLUMNS]),
        space_group=(crystal("spaceGroup") or "").strip() or None,
        components=components,
    )


def _unit_cell(values: list[float | None]) -> UnitCell | None:
    """Return the cell if all of it is there; beamlines also write 0 for unknown."""
    a, b, c, alpha, beta, gamma = (value or 0.0 for value in values)
    cell = (a, b, c, alpha, beta, gamma)
    return cell if min(cell) > 0 else None


def _components(
    connection: Connection, flavour: Flavour, sample_ids: set[int]
) -> dict[int, list[SampleComponent]]:
    found: dict[int, list[SampleComponent]] = defaultdict(list)
    if not all(flavour.has(table.name) for table in (COMPOSITION, COMPONENT, COMPONENT_TYPE)):
        return found
    query = (
        _select(flavour, COMPOSITION, COMPONENT, COMPONENT_TYPE)
        .select_from(COMPOSITION)
        .join(COMPONENT, COMPONENT.c.componentId == COMPOSITION.c.componentId)
        .join(COMPONENT_TYPE, COMPONENT_TYPE.c.componentTypeId == COMPONENT.c.componentTypeId)
        .order_by(COMPOSITION.c.sampleCompositionId)
    )
    for row in _rows(connection, query, COMPOSITION.c.blSampleId, sample_ids):
        found[row["SampleComposition_blSampleId"]].append(
            SampleComponent(
                name=row["Component_name"],
                component_type=row["ComponentType_name"],
                composition=row.get("Component_composition"),
                abundance=row.get("SampleComposition_abundance"),
            )
        )
    return found


def _collections(
    connection: Connection, flavour: Flavour, group_ids: Iterable[int]
) -> dict[int, list[DataCollection]]:
    query = _select(flavour, COLLECTION).order_by(COLLECTION.c.dataCollectionId)
    rows = list(_rows(connection, query, COLLECTION.c.dataCollectionGroupId, group_ids))
    ids = [row["DataCollection_dataCollectionId"] for row in rows]
    ssx, chains = _ssx_details(connection, flavour, ids), _event_chains(connection, flavour, ids)
    found: dict[int, list[DataCollection]] = defaultdict(list)
    for id_, row in zip(ids, rows, strict=True):
        collection = _collection(row, ssx.get(id_), tuple(chains[id_]))
        found[row["DataCollection_dataCollectionGroupId"]].append(collection)
    return found


def _collection(row: RowMapping, ssx: SsxDetails | None, chains: tuple[EventChain, ...]) -> DataCollection:
    value = _values(row, "DataCollection")
    return DataCollection(
        data_collection_id=value("dataCollectionId"),
        image_directory=value("imageDirectory") or None,
        file_template=value("fileTemplate") or None,
        n_images=value("numberOfImages"),
        wavelength=value("wavelength"),
        detector_distance_mm=value("detectorDistance"),
        exposure_s=value("exposureTime"),
        start_time=value("startTime"),
        end_time=value("endTime"),
        run_status=value("runStatus"),
        ssx=ssx,
        event_chains=chains,
    )


def _ssx_details(connection: Connection, flavour: Flavour, ids: list[int]) -> dict[int, SsxDetails]:
    if not flavour.has(SSX.name):
        return {}
    details = {}
    for row in _rows(connection, _select(flavour, SSX), SSX.c.dataCollectionId, ids):
        value = _values(row, SSX.name)
        details[value("dataCollectionId")] = SsxDetails(
            repetition_rate=value("repetitionRate"),
            energy_bandwidth=value("energyBandwidth"),
            chip_model=value("chipModel"),
            chip_pattern=value("chipPattern"),
            jet_speed=value("jetSpeed"),
            jet_size=value("jetSize"),
            reaction_duration=value("reactionDuration"),
            laser_energy=value("laserEnergy"),
            experiment_name=value("experimentName"),
        )
    return details


def _event_chains(connection: Connection, flavour: Flavour, ids: list[int]) -> dict[int, list[EventChain]]:
    found: dict[int, list[EventChain]] = defaultdict(list)
    if not all(flavour.has(table.name) for table in (CHAIN, EVENT, EVENT_TYPE)):
        return found
    query = _select(flavour, CHAIN).order_by(CHAIN.c.eventChainId)
    chains = list(_rows(connection, query, CHAIN.c.dataCollectionId, ids))
    events = _events(connection, flavour, [row["EventChain_eventChainId"] for row in chains])
    for row in chains:
        chain = EventChain(
            name=row["EventChain_name"] or "", events=tuple(events[row["EventChain_eventChainId"]])
        )
        found[row["EventChain_dataCollectionId"]].append(chain)
    return found


def _events(connection: Connection, flavour: Flavour, chain_ids: list[int]) -> dict[int, list[Event]]:
    query = (
        _select(flavour, EVENT, EVENT_TYPE)
        .select_from(EVENT)
        .join(EVENT_TYPE, EVENT_TYPE.c.eventTypeId == EVENT.c.eventTypeId)
        .order_by(EVENT.c.offset, EVENT.c.eventId)
    )
    found: dict[int, list[Event]] = defaultdict(list)
    for row in _rows(connection, query, EVENT.c.eventChainId, chain_ids):
        value = _values(row, "Event")
        found[value("eventChainId")].append(
            Event(
                event_type=row["EventType_name"],
                name=value("name") or "",
                offset=value("offset"),
                duration=value("duration"),
                period=value("period"),
                repetition=value("repetition"),
            )
        )
    return found
