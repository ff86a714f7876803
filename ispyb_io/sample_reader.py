"""What was in the beam: sample, crystal, protein, and the components of each."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, RowMapping, Table

from ispyb_io import tables
from ispyb_io.column_types import CELL_COLUMNS, table
from ispyb_io.flavour import Flavour
from ispyb_io.records import Sample, SampleComponent, UnitCell
from ispyb_io.row_reader import rows_of, select_known, values_of

SAMPLE, CRYSTAL, PROTEIN = table(tables.BLSample), table(tables.Crystal), table(tables.Protein)
IN_SAMPLE, IN_CRYSTAL = table(tables.SampleComposition), table(tables.CrystalComposition)
COMPONENT, COMPONENT_TYPE = table(tables.Component), table(tables.ComponentType)
CONCENTRATION_TYPE = table(tables.ConcentrationType)
IN_SAMPLE_GROUP = table(tables.BLSampleGroup_has_BLSample)

Components = dict[int, list[SampleComponent]]
"""By sample or crystal."""


def read_samples(connection: Connection, flavour: Flavour, ids: Collection[int]) -> dict[int, Sample]:
    """Read samples with their crystals, proteins and components, by id."""
    query = (
        select_known(flavour, SAMPLE, CRYSTAL, PROTEIN)
        .select_from(SAMPLE)
        .outerjoin(CRYSTAL, CRYSTAL.c.crystalId == SAMPLE.c.crystalId)
        .outerjoin(PROTEIN, PROTEIN.c.proteinId == CRYSTAL.c.proteinId)
    )
    rows = list(rows_of(connection, query, SAMPLE.c.blSampleId, ids))
    crystal_ids = {row["Crystal_crystalId"] for row in rows} - {None}
    in_sample = _components(connection, flavour, IN_SAMPLE, "blSampleId", ids)
    in_crystal = _components(connection, flavour, IN_CRYSTAL, "crystalId", crystal_ids)
    groups = _sample_groups(connection, flavour, ids)
    return {row["BLSample_blSampleId"]: _sample(row, in_sample, in_crystal, groups) for row in rows}


def _sample(
    row: RowMapping, in_sample: Components, in_crystal: Components, groups: dict[int, list[int]]
) -> Sample:
    sample, crystal, protein = (values_of(row, name) for name in ("BLSample", "Crystal", "Protein"))
    return Sample(
        sample_id=sample("blSampleId"),
        name=sample("name") or "",
        protein_acronym=protein("acronym") or "",
        protein_name=protein("name") or "",
        unit_cell=_unit_cell([crystal(column) for column in CELL_COLUMNS]),
        space_group=(crystal("spaceGroup") or "").strip() or None,
        components=(
            *in_crystal.get(crystal("crystalId"), ()),
            *in_sample.get(sample("blSampleId"), ()),
        ),
        sample_group_ids=tuple(groups.get(sample("blSampleId"), ())),
    )


def _unit_cell(values: Sequence[float | None]) -> UnitCell | None:
    """Return the cell if all of it is there; beamlines also write 0 for unknown."""
    a, b, c, alpha, beta, gamma = (value or 0.0 for value in values)
    cell = (a, b, c, alpha, beta, gamma)
    return cell if min(cell) > 0 else None


def _sample_groups(
    connection: Connection, flavour: Flavour, sample_ids: Collection[int]
) -> dict[int, list[int]]:
    """BLSampleGroups of each sample."""
    found: dict[int, list[int]] = defaultdict(list)
    if flavour.has(IN_SAMPLE_GROUP.name):
        query = select_known(flavour, IN_SAMPLE_GROUP).order_by(IN_SAMPLE_GROUP.c.blSampleGroupId)
        for row in rows_of(connection, query, IN_SAMPLE_GROUP.c.blSampleId, sample_ids):
            value = values_of(row, IN_SAMPLE_GROUP.name)
            found[value("blSampleId")].append(value("blSampleGroupId"))
    return found


def _components(
    connection: Connection, flavour: Flavour, composition: Table, owner: str, ids: Collection[int]
) -> Components:
    """Components of what the column ``owner`` of a composition names."""
    found: Components = defaultdict(list)
    needed = (composition, COMPONENT, COMPONENT_TYPE)
    if not all(flavour.has(table.name) for table in needed):
        return found
    with_unit = flavour.has(CONCENTRATION_TYPE.name) and flavour.has(composition.name, "concentrationTypeId")
    query = (
        select_known(flavour, *needed, *((CONCENTRATION_TYPE,) if with_unit else ()))
        .select_from(composition)
        .join(COMPONENT, COMPONENT.c.componentId == composition.c.componentId)
        .join(COMPONENT_TYPE, COMPONENT_TYPE.c.componentTypeId == COMPONENT.c.componentTypeId)
        .order_by(*composition.primary_key.columns)
    )
    if with_unit:
        same_unit = CONCENTRATION_TYPE.c.concentrationTypeId == composition.c.concentrationTypeId
        query = query.outerjoin(CONCENTRATION_TYPE, same_unit)
    for row in rows_of(connection, query, composition.c[owner], ids):
        found[row[f"{composition.name}_{owner}"]].append(_component(row, composition))
    return found


def _component(row: RowMapping, composition: Table) -> SampleComponent:
    value = values_of(row, composition.name)
    return SampleComponent(
        name=values_of(row, COMPONENT.name)("name"),
        component_type=values_of(row, COMPONENT_TYPE.name)("name"),
        composition=values_of(row, COMPONENT.name)("composition"),
        abundance=value("abundance"),
        unit=values_of(row, CONCENTRATION_TYPE.name)("symbol") or "",
        ratio=value("ratio"),
        ph=value("ph"),
        of_crystal=composition is IN_CRYSTAL,
    )
