"""Samples as beamlines write them: components of sample and crystal, and much that is missing."""

import pytest
from sqlalchemy import Engine, text

from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.orm_client import OrmClient
from ispyb_io.records import Sample, SampleComponent


def run(ispyb: Engine, *statements: str) -> None:
    with ispyb.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def sample_of(ispyb: Engine, ids: CollectedIds) -> Sample:
    sample = OrmClient(ispyb).group(ids.group_id).sample
    assert sample is not None
    return sample


NAG = SampleComponent(name="NAG", component_type="Ligand", abundance=5, unit="mM", ph=4.5, of_crystal=True)
LCP = SampleComponent(name="LCP", component_type="JetMaterial", composition="monoolein", ratio=2)


def test_components_of_sample_and_crystal_are_read_as_written(ispyb: Engine, chip: CollectedChip):
    ids = write_collected_chip(ispyb, chip.model_copy(update={"components": (LCP, NAG)}))
    found = sample_of(ispyb, ids).components
    assert found == (NAG, LCP)
    assert [component.is_ligand for component in found] == [True, False]
    assert [component.words for component in found] == [
        "ligand NAG 5 mM, pH 4.5, in the crystals",
        "jet material LCP (monoolein), ratio 2",
    ]


def test_diamonds_column_for_the_ph_is_read_and_a_schema_without_units_too(
    sqlite_ispyb: Engine, chip: CollectedChip
):
    buffer = SampleComponent(name="acetate", component_type="Buffer", abundance=0.1, unit="M", ph=4.6)
    ids = write_collected_chip(sqlite_ispyb, chip.model_copy(update={"components": (buffer, NAG)}))
    run(
        sqlite_ispyb,
        "ALTER TABLE SampleComposition RENAME COLUMN ph TO pH",
        "DROP TABLE CrystalComposition",
        "UPDATE SampleComposition SET concentrationTypeId = NULL",
        "DROP TABLE ConcentrationType",
    )
    assert sample_of(sqlite_ispyb, ids).components == (buffer.model_copy(update={"unit": ""}),)


@pytest.mark.parametrize(
    ("statement", "protein", "space_group"),
    [
        ("UPDATE BLSample SET crystalId = NULL", "", None),
        ("UPDATE Crystal SET cell_a = NULL", "lyso", "P43212"),
        ("UPDATE Protein SET acronym = NULL, name = NULL", "", "P43212"),
    ],
)
def test_a_sample_without_crystal_cell_or_protein_is_read(
    ispyb: Engine, collected: CollectedIds, statement: str, protein: str, space_group: str | None
):
    run(ispyb, statement)
    sample = sample_of(ispyb, collected)
    assert (sample.name, sample.protein_acronym) == ("chip 7", protein)
    assert sample.space_group == space_group
    assert (sample.unit_cell is None) == ("Protein" not in statement)
