"""Settings of the processing: one small frozen model per stage.

Everything a user may turn is here, once, with its unit; command line, Prefect form and
documentation are made from it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import gemmi
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from ssx_processing.kernels.laue_classes import exact_space_group, group_of_class
from ssx_processing.models import UnitCell

ALGORITHM_VERSION = "6"
"""Part of every result's key; raised whenever the same input would give other numbers."""


class Settings(BaseModel):
    """Frozen, no unknown keys, descriptions from the strings below the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SampleSettings(Settings):
    """What crystal it is."""

    unit_cell: UnitCell
    """a, b, c in Å, alpha, beta, gamma in degrees."""
    space_group: str
    """Hermann-Mauguin symbol or number, e.g. P43212 or 96."""
    assumed: tuple[str, ...] = ()
    """What of this nobody gave but was found or assumed, a sentence each; shown with every result."""

    @field_validator("space_group", mode="before")
    @classmethod
    def _known_space_group(cls, value: object) -> str:
        text = str(value).strip()
        group = (
            gemmi.find_spacegroup_by_number(int(text))
            if text.isdigit()
            else gemmi.find_spacegroup_by_name(text)
        )
        if group is None:
            raise ValueError(
                f"space group {text!r} is not known; give a Hermann-Mauguin symbol or a number 1-230"
            )
        return group.xhm().replace(" ", "")

    @model_validator(mode="after")
    def _cell_fits_space_group(self) -> Self:
        cell = gemmi.UnitCell(*self.unit_cell)
        if not all(v > 0 for v in self.unit_cell) or not cell.is_crystal() or not cell.volume > 0:
            raise ValueError(
                f"unit cell {self.unit_cell} spans no volume; give a b c in Å and angles in degrees"
            )
        if not cell.is_compatible_with_spacegroup(self.gemmi_space_group, 0.005):
            raise ValueError(
                f"unit cell {self.unit_cell} contradicts space group {self.space_group}, which is "
                f"{self.gemmi_space_group.crystal_system_str()}; correct one of the two"
            )
        return self

    @property
    def gemmi_space_group(self) -> gemmi.SpaceGroup:
        """The space group as gemmi knows it."""
        group = gemmi.find_spacegroup_by_name(self.space_group)
        if group is None:  # the validator has seen it
            raise ValueError(self.space_group)
        return group


class RequestedSample(Settings):
    """What is known of the crystal before its images are looked at."""

    unit_cell: UnitCell | None = None
    """a, b, c in Å, alpha, beta, gamma in degrees; None: to be found."""
    space_group: str | None = None
    """Symbol or number; a Laue class or point group, such as 4/mmm or 422; None: as the lattice allows."""
    cell_cluster: PositiveInt = 1
    """Which of the cells found is taken where none is given; 1 indexes most hits."""

    @field_validator("space_group", mode="before")
    @classmethod
    def _known_symmetry(cls, value: object) -> str | None:
        if value is None:
            return None
        text = str(value).strip()
        group = exact_space_group(text)
        if group is not None:
            return group.xhm().replace(" ", "")
        if group_of_class(text) is None:
            raise ValueError(
                f"space group {text!r} is not known; give a Hermann-Mauguin symbol, a number 1-230, "
                "or a Laue class such as 4/mmm"
            )
        return text

    @model_validator(mode="after")
    def _cell_fits_space_group(self) -> Self:
        _ = self.known
        return self

    @property
    def known(self) -> SampleSettings | None:
        """The sample, where cell and space group were given."""
        if self.unit_cell is None or self.space_group is None or exact_space_group(self.space_group) is None:
            return None
        return SampleSettings(unit_cell=self.unit_cell, space_group=self.space_group)


class SpotSettings(Settings):
    """Which pixels belong to a Bragg spot, and when a frame is a hit."""

    min_snr: PositiveFloat = 5.0
    """A pixel is strong so many sigmas above its ring's mean; a spot's peakfinder8 ratio is at least this."""
    edge_snr: PositiveFloat = 3.0
    """Pixels connected to a strong one belong to its spot down to so many sigmas above their ring's mean."""
    min_significance: PositiveFloat = 6.0
    """Sigmas by which a spot exceeds chance (Li & Ma), the error of its background included."""
    min_pixels: PositiveInt = 2
    """Fewest pixels of a spot."""
    max_pixels: PositiveInt = 200
    """Most pixels of a spot."""
    min_counts: float = 2.0
    """A strong pixel has at least this many photons above its ring's mean."""
    background_radius_px: PositiveInt = 3
    """peakfinder8's local_bg_radius: local background from a box of twice this half width."""
    min_spots_for_hit: PositiveInt = 15
    """A frame with at least this many spots is a hit."""
    min_signal_for_hit: Annotated[float, Field(ge=0)] = 0.0
    """A hit's spots also hold at least this many photons together, background subtracted."""
    max_spots: PositiveInt = 2000
    """The search of a frame stops at this many spots."""
    pixels_per_ring: Annotated[int, Field(ge=16, le=4096)] = 192
    """Pixels sampled in each ring for its mean and standard deviation."""
    gain: PositiveFloat = 1.0
    """Counts per photon: of an integrating detector read out in keV the photon energy."""
    share_hot_pixels: bool = True
    """A chunk masks hot pixels that chunks before it found; if not, it depends on its own frames only."""


class IndexingSettings(Settings):
    """How orientations are sought and accepted."""

    max_lattices: PositiveInt = 3
    """At most so many lattices on one frame."""
    min_spots: PositiveInt = 6
    """A lattice explains at least so many spots."""
    min_fraction: Annotated[float, Field(gt=0, le=1)] = 0.15
    """A first lattice explains at least this fraction of the spots offered to it."""
    min_significance: PositiveFloat = 6.0
    """A lattice is accepted when -log10 of its chance expectation is at least this."""
    min_runner_up_gap: Annotated[float, Field(ge=0)] = 2.5
    """A lattice is refused as ambiguous if another orientation explains its spots less than so many powers of
    ten worse."""
    spot_error_px: PositiveFloat = 0.8
    """Expected error of a spot position, for the search windows."""
    cell_tolerance: Annotated[float, Field(gt=0, lt=0.2)] = 0.05
    """Largest relative deviation of a cell length from the expected one."""
    angle_tolerance_deg: PositiveFloat = 1.5
    """Largest deviation of a cell angle."""
    max_rmsd_px: PositiveFloat = 3.0
    """A lattice that predicts its spots worse is refused."""
    max_spots: PositiveInt = 250
    """Strongest spots used on a crowded frame, spread over the resolution."""


class IntegrationSettings(Settings):
    """How observations are predicted and summed."""

    d_min: PositiveFloat | None = None
    """Å; predict to here, by default to the corner of the detector."""
    peak_radius_px: PositiveFloat | None = None
    """Radius of the summed disc where spots are round; by default from the spots of the calibration."""
    gap_width_px: PositiveFloat = 1.5
    """Ring around the disc that belongs to neither peak nor background."""
    background_width_px: PositiveFloat = 3.0
    """Width of the background ring."""
    method: Literal["summation", "profile"] = "profile"
    """Sum the pixels, or fit a Gaussian profile to them: better where reflections are weak."""
    min_profile_fraction: Annotated[float, Field(gt=0.3, le=1)] = 0.8
    """Where less of a reflection's profile is on good pixels that no other shares, it is not merged."""
    max_excitation_sigma: PositiveFloat = 1.7
    """Predict while the excitation error is below this many standard deviations of the rocking width."""


class CalibrationSettings(Settings):
    """What is learnt from some frames before all are processed."""

    n_frames: PositiveInt = 200
    """Frames looked at, spread evenly."""
    hot_pixel_fraction: Annotated[float, Field(gt=0, le=1)] = 0.05
    """A pixel that stands out alone on more than this fraction of them, and on 4, is masked as hot."""
    refine_geometry: Literal["off", "centre", "detector", "panels"] = "detector"
    """Beam centre only, also distance and tilts, or also groups of panels against each other."""
    min_lattices: PositiveInt = 5
    """Lattices needed before the beam centre is touched."""
    min_lattices_detector: PositiveInt = 30
    """Lattices needed before distance and tilts are touched."""
    min_spots_group: PositiveInt = 300
    """Indexed spots needed on a group of panels before it moves on its own."""
    bandwidth: Annotated[float, Field(ge=0, lt=0.1)] | None = None
    """Standard deviation of the wavelength over the wavelength; by default the geometry file's, or 0."""
    divergence_mrad: Annotated[float, Field(ge=0)] = 0.2
    """Standard deviation of the beam's direction: where rays leave to depends on it a little."""
    cell_trust: PositiveFloat = 0.005
    """Relative standard deviation of the given cell as mean of the crystals."""
    max_distance_sd: PositiveFloat = 0.0005
    """The data know the distance if they determine it, with the cell free, to this part of itself."""
    group_shift_mm: PositiveFloat = 0.1
    """Standard deviation of a group of panels from its given place, along each direction."""
    group_turn_mrad: PositiveFloat = 2.0
    """Standard deviation of its turn about each direction."""


class MergingSettings(Settings):
    """How observations become merged intensities."""

    d_min: PositiveFloat | None = None
    """Å; by default where CC1/2 of the outermost shells falls below cc_half_limit."""
    cc_half_limit: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Where the resolution is cut when d_min is not given."""
    min_completeness: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Nor does the resolution chosen then go beyond the last shell that is as complete as this."""
    n_shells: PositiveInt = 20
    """Resolution shells of equal volume in reciprocal space."""
    model: Literal["auto", "mean", "scale", "gaussian", "partiality", "postrefinement"] = "auto"
    """What is made of an observation's distance from the Ewald sphere: nothing (mean of unscaled
    intensities, or scale and B only), Gaussian partialities, partialities as the data show them, or also
    turns and rocking widths of the crystals; auto: what independent halves of the lattices agree on best."""
    n_cycles: PositiveInt = 8
    """Most cycles of scaling."""
    min_full: Annotated[float, Field(ge=0)] = 0.15
    """A reflection whose observations together tell less than so many full ones of an average lattice (sum of
    squared partiality times scale) is not determined and left out, in all data and in each half."""
    min_observations: PositiveInt = 20
    """A lattice with fewer observations is left out."""
    cell_cluster: PositiveInt | None = None
    """Which crystal form is merged where the cells fall into several; 1 is the largest; by default the one
    whose cell is nearest to the expected one."""
    max_cell_deviation: PositiveFloat = 4.0
    """A lattice whose cell is further from its form's median, in robust standard deviations, is left out."""
    min_cc: float = 0.1
    """A lattice that correlates less with the merged intensities is left out."""
    max_cc_half_loss: PositiveFloat | None = None
    """A lattice whose delta CC1/2 is further below the median, in interquartile ranges, is left out."""
    setting_reference: Path | None = None
    """Decides how a crystal is indexed that can be in several ways: indexing_reference.parquet of a merge, or
    an MTZ with intensities; by default the sample's, which its first merge leaves."""
    max_obliquity_deg: Annotated[float, Field(ge=0, le=5)] = 0.5
    """A lattice counts as more symmetric than the crystal if an axis is off by less than this."""
    min_ambiguity_z: float | None = None
    """A lattice whose setting is less certain, in standard deviations of its margin, is left out; by default
    none is."""
    subset_by: str | None = None
    """What tells subsets that are merged apart, on one scale: a column of the frames' tables, of ISPyB's
    events (laser, delay_s, dose_index, reaction_trigger) or of subset_table, or an expression: frame % 10."""
    subset_table: Annotated[Path, AfterValidator(Path.absolute)] | None = None
    """CSV or Parquet with a column frame (from 0), data_set or file where there are several, and others."""
    b_restraint: PositiveFloat = 15.0
    """Standard deviation, Å², to which a lattice's relative B is held."""
    max_push_res: float = 0.2
    """1/Å beyond a lattice's own resolution estimate up to which its observations are merged."""
    reference: Annotated[Path, AfterValidator(Path.absolute)] | None = None
    """MTZ, structure factor mmCIF or model that the merge is compared with; it has no part in the merging."""

    @field_validator("setting_reference")
    @classmethod
    def _from_anywhere(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()


class CellSearchSettings(Settings):
    """How an unknown cell is sought."""

    n_frames: PositiveInt = 300
    """Frames looked at, spread evenly."""
    min_edge: PositiveFloat = 20.0
    """Å; shortest edge of the primitive cell."""
    max_edge: PositiveFloat = 350.0
    """Å; longest edge of the primitive cell."""


class StageSettings(Settings):
    """Settings of the stages, whatever the sample."""

    spots: SpotSettings = SpotSettings()
    indexing: IndexingSettings = IndexingSettings()
    integration: IntegrationSettings = IntegrationSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    cells: CellSearchSettings = CellSearchSettings()
    merging: MergingSettings = MergingSettings()
    frames_per_chunk: PositiveInt | Literal["auto"] = "auto"
    """Frames of one chunk, the unit that runs in parallel, is retried and reused; by default by what some
    frames took."""
    frames_per_row: PositiveInt | None = None
    """Chunks chosen so end with a row of the chip, which has so many frames; by default with a run of the
    events, where ISPyB knows them."""


class ProcessingSettings(StageSettings):
    """All settings of the processing of one data set."""

    sample: SampleSettings


class RequestedSettings(StageSettings):
    """Settings as they were asked for, where the sample may still be unknown."""

    sample: RequestedSample = RequestedSample()

    def with_sample(self, sample: SampleSettings) -> ProcessingSettings:
        """These settings for a sample that is known now."""
        stages = {name: getattr(self, name) for name in StageSettings.model_fields}
        return ProcessingSettings(sample=sample, **stages)


def content_key(content: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for ``content`` and the algorithm version."""
    text = json.dumps({"algorithm": ALGORITHM_VERSION, **content}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
