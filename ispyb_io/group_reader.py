"""Data collection groups, read in a handful of queries however many there are."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection, RowMapping, func, select

from ispyb_io import tables
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.group_columns import COLLECTION, GROUP, experiment_type, is_of_type, sample_id
from ispyb_io.records import (
    DataCollection,
    DataCollectionGroup,
    Event,
    EventChain,
    Sample,
    SsxDetails,
)
from ispyb_io.row_reader import rows_of, select_known, values_of
from ispyb_io.sample_reader import read_samples

SESSION, PROPOSAL = table(tables.BLSession), table(tables.Proposal)
SSX = table(tables.SSXDataCollection)
CHAIN, EVENT, EVENT_TYPE = table(tables.EventChain), table(tables.Event), table(tables.EventType)


def find_group_ids(
    connection: Connection, flavour: Flavour, newer_than: int, experiment_types: Collection[str], limit: int
) -> list[int]:
    """Find groups with a data collection above the mark, in the order of their newest data collection.

    Types match whatever their case and punctuation: where the column is free text, beamlines write SSX-CHIP.
    """
    newest = func.max(COLLECTION.c.dataCollectionId)
    query = (
        select(GROUP.c.dataCollectionGroupId)
        .join(COLLECTION, COLLECTION.c.dataCollectionGroupId == GROUP.c.dataCollectionGroupId)
        .where(is_of_type(flavour, experiment_types), COLLECTION.c.dataCollectionId > newer_than)
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
    samples = read_samples(connection, flavour, {row["sample_id"] for row in rows.values()} - {None})
    collections = _collections(connection, flavour, rows)
    return [_group(rows[id_], samples, collections[id_]) for id_ in ids if id_ in rows]


def _group_rows(connection: Connection, flavour: Flavour, ids: Sequence[int]) -> Iterable[RowMapping]:
    query = (
        select_known(flavour, GROUP, SESSION, PROPOSAL)
        .add_columns(sample_id(flavour).label("sample_id"), experiment_type(flavour).label("experiment_type"))
        .select_from(GROUP)
        .join(SESSION, SESSION.c.sessionId == GROUP.c.sessionId)
        .join(PROPOSAL, PROPOSAL.c.proposalId == SESSION.c.proposalId)
    )
    return rows_of(connection, query, GROUP.c.dataCollectionGroupId, ids)


def _group(
    row: RowMapping, samples: Mapping[int, Sample], collections: list[DataCollection]
) -> DataCollectionGroup:
    value = values_of(row, "DataCollectionGroup")
    code, number = values_of(row, "Proposal")("proposalCode"), values_of(row, "Proposal")("proposalNumber")
    session = values_of(row, "BLSession")
    return DataCollectionGroup(
        group_id=value("dataCollectionGroupId"),
        session_id=value("sessionId"),
        proposal=f"{code or ''}{number or ''}",
        beamline=session("beamLineName") or "",
        visit_number=session("visit_number"),
        session_start=session("startDate"),
        experiment_type=row["experiment_type"] or None,
        sample=samples.get(row["sample_id"]),
        comments=value("comments") or "",
        start_time=value("startTime"),
        end_time=value("endTime"),
        data_collections=tuple(collections),
    )


def _collections(
    connection: Connection, flavour: Flavour, group_ids: Iterable[int]
) -> dict[int, list[DataCollection]]:
    query = select_known(flavour, COLLECTION).order_by(COLLECTION.c.dataCollectionId)
    rows = list(rows_of(connection, query, COLLECTION.c.dataCollectionGroupId, group_ids))
    ids = [row["DataCollection_dataCollectionId"] for row in rows]
    ssx, chains = _ssx_details(connection, flavour, ids), _event_chains(connection, flavour, ids)
    found: dict[int, list[DataCollection]] = defaultdict(list)
    for id_, row in zip(ids, rows, strict=True):
        collection = _collection(row, ssx.get(id_), tuple(chains[id_]))
        found[row["DataCollection_dataCollectionGroupId"]].append(collection)
    return found


def _collection(row: RowMapping, ssx: SsxDetails | None, chains: tuple[EventChain, ...]) -> DataCollection:
    value = values_of(row, "DataCollection")
    return DataCollection(
        data_collection_id=value("dataCollectionId"),
        image_directory=value("imageDirectory") or None,
        file_template=value("fileTemplate") or None,
        image_prefix=value("imagePrefix") or None,
        number=value("dataCollectionNumber"),
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
    for row in rows_of(connection, select_known(flavour, SSX), SSX.c.dataCollectionId, ids):
        value = values_of(row, SSX.name)
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
    query = select_known(flavour, CHAIN).order_by(CHAIN.c.eventChainId)
    chains = list(rows_of(connection, query, CHAIN.c.dataCollectionId, ids))
    events = _events(connection, flavour, [row["EventChain_eventChainId"] for row in chains])
    for row in chains:
        chain = EventChain(
            name=row["EventChain_name"] or "", events=tuple(events[row["EventChain_eventChainId"]])
        )
        found[row["EventChain_dataCollectionId"]].append(chain)
    return found


def _events(connection: Connection, flavour: Flavour, chain_ids: list[int]) -> dict[int, list[Event]]:
    query = (
        select_known(flavour, EVENT, EVENT_TYPE)
        .select_from(EVENT)
        .join(EVENT_TYPE, EVENT_TYPE.c.eventTypeId == EVENT.c.eventTypeId)
        .order_by(EVENT.c.offset, EVENT.c.eventId)
    )
    found: dict[int, list[Event]] = defaultdict(list)
    for row in rows_of(connection, query, EVENT.c.eventChainId, chain_ids):
        value = values_of(row, "Event")
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
