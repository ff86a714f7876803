"""What is simulated: every number that a test, the demo or a benchmark may turn."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from ssx_processing.models import UnitCell
from ssx_processing.settings import SampleSettings, Settings

Fraction = Annotated[float, Field(ge=0, le=1)]


class SimulatedDetector(Settings):
    """A flat detector normal to the beam, its fast axis along x, its slow axis downwards."""

    n_fast: PositiveInt = 1028
    """Columns."""
    n_slow: PositiveInt = 1062
    """Rows, gaps included."""
    gap_rows: tuple[tuple[int, int], ...] = ((512, 550),)
    """Half-open ranges of rows without sensor."""
    pixel_mm: PositiveFloat = 0.075
    distance_mm: PositiveFloat = 85.0
    beam_centre_px: tuple[float, float] | None = None
    """What the file says, fast then slow; by default a little off the middle."""
    beam_centre_error_px: tuple[float, float] = (0.8, -0.6)
    """Added to beam_centre_px: where the beam truly is."""
    thickness_mm: PositiveFloat = 0.45
    """Of the silicon sensor."""
    point_spread_px: NonNegativeFloat = 0.4
    """Standard deviation of the position that is recorded for a photon."""
    pixel_type: Literal["uint16", "uint32"] = "uint16"
    saturation: PositiveInt = 50_000
    """Counts at which a pixel stops counting."""
    n_stuck_pixels: NonNegativeInt = 6
    """Pixels with high counts on all frames, not in the mask."""
    n_flickering_pixels: NonNegativeInt = 6
    """Pixels with high counts on some frames, not in the mask."""

    @model_validator(mode="after")
    def _gaps_inside(self) -> Self:
        for start, stop in self.gap_rows:
            if not 0 <= start < stop <= self.n_slow:
                raise ValueError(f"gap_rows {start}-{stop} is no range of the detector's {self.n_slow} rows")
        return self

    @property
    def stated_beam_centre_px(self) -> tuple[float, float]:
        """What the file says, fast then slow."""
        if self.beam_centre_px is not None:
            return self.beam_centre_px
        # off the middle, so that the default gap does not hide the direct beam
        return self.n_fast / 2 + 5.3, self.n_slow / 2 - 24.6


FOUR_MPX = SimulatedDetector(
    n_fast=2068, n_slow=2162, gap_rows=((512, 550), (1062, 1100), (1612, 1650)), distance_mm=170.0
)
"""As an EIGER2 X 4M."""


class SimulatedBeam(Settings):
    """The beam and what it scatters from besides crystals."""

    wavelength: PositiveFloat = 1.0
    """Å."""
    bandwidth: NonNegativeFloat = 3e-4
    """Relative standard deviation of the wavelength."""
    divergence_mrad: NonNegativeFloat = 0.2
    """Standard deviation of the angle in each direction."""
    polarisation_fraction: Fraction = 0.99
    """Fraction polarised horizontally, along x."""
    background_photons: NonNegativeFloat = 3.0
    """Photons per pixel on the solvent ring near 3.3 Å."""
    background_variation: NonNegativeFloat = 0.15
    """Standard deviation of its logarithm between frames."""
    ice_fraction: Fraction = 0.06
    """Fraction of the frames with ice rings."""
    beam_stop_radius_mm: NonNegativeFloat = 1.6
    """Radius of the beam stop's shadow on the detector."""


class SimulatedCrystals(Settings):
    """The population of crystals."""

    unit_cell: UnitCell = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
    """Mean over the crystals; a, b, c in Å, alpha, beta, gamma in degrees."""
    space_group: str = "P43212"
    n_atoms: PositiveInt = 200
    """Atoms of the random model in the asymmetric unit."""
    wilson_b: PositiveFloat = 18.0
    """Mean B of the atoms, Å²."""
    photons_at_4a: PositiveFloat = 200.0
    """Photons of a fully excited reflection of average strength at 4 Å, from a median crystal."""
    scale_variation: NonNegativeFloat = 0.6
    """Standard deviation of the logarithm of a crystal's scale."""
    b_variation: NonNegativeFloat = 3.0
    """Standard deviation of a crystal's B about the mean, Å²."""
    cell_variation: NonNegativeFloat = 0.002
    """Relative standard deviation of the cell lengths between crystals, the lattice symmetry kept."""
    mosaic_spread_deg: NonNegativeFloat = 0.05
    """Standard deviation of the blocks' orientation about each axis."""
    block_size_a: PositiveFloat = 1500.0
    """Diameter of a mosaic block, Å."""
    n_blocks: PositiveInt = 64
    """Blocks sampled of each crystal."""
    size_mm: PositiveFloat = 0.03
    """Typical edge of a crystal."""

    @property
    def sample(self) -> SampleSettings:
        """The same as the processing wants it."""
        return SampleSettings(unit_cell=self.unit_cell, space_group=self.space_group)

    @model_validator(mode="after")
    def _is_a_crystal(self) -> Self:
        if self.sample.gemmi_space_group.is_sohncke():
            return self
        raise ValueError(f"space group {self.space_group} has mirrors or inversions, proteins have none")


class ChipSettings(Settings):
    """One scan over a fixed-target chip."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")] = "chip"
    """Files are called <name>_master.h5, <name>_data_000001.h5, <name>_truth.h5."""
    seed: NonNegativeInt = 0
    n_frames: PositiveInt = 2000
    n_files: PositiveInt = 2
    """Data files that the master's virtual data set joins."""
    hit_fraction: Fraction = 0.4
    """Share of frames with a crystal; rounded to a whole number of frames."""
    two_crystal_fraction: Fraction = 0.12
    """Share of these with a second crystal."""
    detector: SimulatedDetector = SimulatedDetector()
    beam: SimulatedBeam = SimulatedBeam()
    crystals: SimulatedCrystals = SimulatedCrystals()
    exposure_s: PositiveFloat = 0.01
    start_time: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    truth_min_photons: NonNegativeFloat = 3.0
    """Spots with at least so many expected photons are listed in the truth."""
    n_workers: PositiveInt = 1
    """Processes that render frames; the files do not depend on it."""

    @model_validator(mode="after")
    def _files_not_empty(self) -> Self:
        if self.n_files > self.n_frames:
            raise ValueError(f"n_files {self.n_files} is more than n_frames {self.n_frames}")
        return self
