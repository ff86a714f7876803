"""What py-ispyb serves of a sample, and how it becomes our record."""

from ispyb_io import records
from ispyb_io.rest_served import Served, ServedName


class ServedComponent(Served):
    """Component."""

    name: str = ""
    composition: str | None = None
    ComponentType: ServedName = ServedName()


class ServedUnit(Served):
    """ConcentrationType."""

    symbol: str = ""


class ServedComposition(Served):
    """SampleComposition or CrystalComposition; of its unit most versions serve only the id."""

    abundance: float | None = None
    ratio: float | None = None
    ph: float | None = None
    Component: ServedComponent
    ConcentrationType: ServedUnit = ServedUnit()

    def record(self, *, of_crystal: bool) -> records.SampleComponent:
        """Under our names."""
        return records.SampleComponent(
            name=self.Component.name,
            component_type=self.Component.ComponentType.name,
            composition=self.Component.composition,
            abundance=self.abundance,
            unit=self.ConcentrationType.symbol,
            ratio=self.ratio,
            ph=self.ph,
            of_crystal=of_crystal,
        )


class ServedProtein(Served):
    """Protein."""

    name: str | None = None
    acronym: str | None = None


class ServedCrystal(Served):
    """Crystal."""

    proteinId: int | None = None
    cell_a: float | None = None
    cell_b: float | None = None
    cell_c: float | None = None
    cell_alpha: float | None = None
    cell_beta: float | None = None
    cell_gamma: float | None = None
    spaceGroup: str | None = None
    Protein: ServedProtein = ServedProtein()
    crystal_compositions: tuple[ServedComposition, ...] = ()

    @property
    def unit_cell(self) -> records.UnitCell | None:
        """The cell if all of it is there; beamlines also write 0 for unknown."""
        a, b, c = self.cell_a or 0.0, self.cell_b or 0.0, self.cell_c or 0.0
        cell = (a, b, c, self.cell_alpha or 0.0, self.cell_beta or 0.0, self.cell_gamma or 0.0)
        return cell if min(cell) > 0 else None


class ServedSample(Served):
    """BLSample; only a py-ispyb with SSX serves what is in it besides the protein."""

    blSampleId: int
    name: str | None = None
    Crystal: ServedCrystal = ServedCrystal()
    sample_compositions: tuple[ServedComposition, ...] = ()

    def record(self) -> records.Sample:
        """Under our names."""
        crystal = self.Crystal
        return records.Sample(
            sample_id=self.blSampleId,
            name=self.name or "",
            protein_acronym=crystal.Protein.acronym or "",
            protein_name=crystal.Protein.name or "",
            unit_cell=crystal.unit_cell,
            space_group=(crystal.spaceGroup or "").strip() or None,
            components=(
                *(composition.record(of_crystal=True) for composition in crystal.crystal_compositions),
                *(composition.record(of_crystal=False) for composition in self.sample_compositions),
            ),
        )
