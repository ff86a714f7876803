"""What the stages hand each other: frozen dataclasses, arrays unvalidated inside.

Laboratory frame as in dxtbx (imgCIF): x along the fast axis of a plain detector, y up, z towards
the source, so the beam travels along -z. q = s1 - s0 with |q| = 1/d (no 2 pi), A = UB with q = A h.
Pixel positions are (fast, slow) with centres at +0.5; arrays are indexed [slow, fast]. Frames
count from 0.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UnitCell = tuple[float, float, float, float, float, float]
"""a, b, c in Å, alpha, beta, gamma in degrees."""


class FrameStatus(StrEnum):
    """What became of one frame; the counts over all frames add up to their number."""

    UNREADABLE = "unreadable"
    """The pixels could not be read."""
    NO_HIT = "no_hit"
    """Too few spots."""
    NOT_INDEXED = "not_indexed"
    """A hit on which no lattice was found."""
    INTEGRATED = "integrated"
    """At least one lattice was found and its observations integrated."""


class Misfit(StrEnum):
    """Why a hit was not indexed."""

    TOO_FEW_SPOTS = "too_few_spots"
    """Fewer spots than a lattice must explain."""
    NO_SOLUTION = "no_solution"
    """No orientation explains more than chance would."""
    AMBIGUOUS = "ambiguous"
    """Two different orientations explain the spots about as well."""
    CELL_DIFFERS = "cell_differs"
    """The refined cell is further from the expected one than the tolerance."""
    DIVERGED = "diverged"
    """After refinement the positions do not fit, or too few spots are left."""


@dataclass(frozen=True)
class Panel:
    """A flat piece of the detector, and the rectangle of the image array that it fills."""

    origin_mm: tuple[float, float, float]
    """Outer corner of the rectangle's first pixel, laboratory frame."""
    fast_axis: tuple[float, float, float]
    """Unit vector along increasing fast index."""
    slow_axis: tuple[float, float, float]
    """Unit vector along increasing slow index."""
    pixel_size_mm: tuple[float, float]
    """Along fast, along slow."""
    fast_start: int
    """First column of the image that belongs to the panel."""
    slow_start: int
    """First row of the image that belongs to the panel."""
    n_fast: int
    """Columns."""
    n_slow: int
    """Rows."""
    name: str = "0"


@dataclass(frozen=True)
class Geometry:
    """Beam and detector of one experiment."""

    panels: tuple[Panel, ...]
    """Panels, in the order of the ``panel`` column of the tables."""
    image_shape: tuple[int, int]
    """Rows (slow), columns (fast) of the image array that holds all panels."""
    wavelength: float
    """Å."""
    beam_direction: tuple[float, float, float] = (0.0, 0.0, -1.0)
    """Unit vector from source to sample: s0 = beam_direction / wavelength."""
    sensor_thickness_mm: float = 0.0
    """0 where unknown: no parallax correction."""
    sensor_absorption_per_mm: float = 0.0
    """Linear absorption coefficient of the sensor at this wavelength; 0 where unknown."""
    polarisation_fraction: float = 1.0
    """Fraction of the beam polarised horizontally, along x; about 0.99 at a synchrotron."""


@dataclass(frozen=True)
class FrameRange:
    """Frames ``start`` to ``stop - 1``, counted from 0 over all files of a data set."""

    start: int
    stop: int

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """A data set cut into chunks."""

    paths: tuple[Path, ...]
    """Files in order; frames are counted across them."""
    frames_total: int
    ranges: tuple[FrameRange, ...]
    """One per chunk, contiguous, in order."""
    identity: str
    """Stands for the files as they are now: paths, sizes, times of change; the geometry file's content. Of
    files that grow, for the first of them and its first frame."""
    wavelength: float
    """Å."""
    geometry_file: Path | None = None
    """Stands in for the geometry of all files."""
    frames_there: int | None = None
    """Of files that grew when it was made: frames, from the first on, that could be read; else None."""

    @property
    def frames_to_learn_from(self) -> int:
        """Frames, from the first on, that could be read when it was made."""
        return self.frames_total if self.frames_there is None else self.frames_there


@dataclass(frozen=True)
class GeometryIdentity:
    """What stands for a geometry file in the keys of results."""

    path: Path
    sha256: str
    """Of its content, and of that of the masks it names."""


@dataclass(frozen=True)
class SpotList:
    """Spots of one frame; every array has n_spots elements."""

    x_px: NDArray[np.float64]
    """Centroid along fast, background-subtracted."""
    y_px: NDArray[np.float64]
    """Centroid along slow."""
    intensity: NDArray[np.float64]
    """Sum above background."""
    snr: NDArray[np.float64]
    """intensity / its standard error, background error included."""
    peak_snr: NDArray[np.float64]
    """peakfinder8's: intensity / standard deviation of one background pixel."""
    n_pixels: NDArray[np.int32]
    peak_value: NDArray[np.float64]
    """Largest raw pixel."""
    background: NDArray[np.float64]
    """Mean background per pixel."""
    panel: NDArray[np.int32]
    n_saturated: NDArray[np.int32]
    """Pixels that are saturated: the position is good, the intensity is not."""

    def __len__(self) -> int:
        """Number of spots."""
        return len(self.x_px)


@dataclass(frozen=True)
class StillFit:
    """What the refinement of one lattice knows beside its A matrix; n rows as ``Lattice.spot_index``."""

    rotation: NDArray[np.float64]
    """(3, 3) R of A = R (1 + strains) B."""
    strain: NDArray[np.float64]
    """(m,) of the strains that the lattice allows."""
    displacement_mm: NDArray[np.float64]
    """(2,) of the crystal across the beam, along x and y, mm."""
    residuals: NDArray[np.float64]
    """(n, 4) observed minus predicted column and row (px), excitation error (1/Å), weight (0: not used)."""
    hkl: NDArray[np.int16]
    """(n, 3) conventional indices."""
    widths: NDArray[np.float64]
    """(2,) error of a strong spot's centroid, px; rocking width relative to the calibration's."""
    covariance: NDArray[np.float64]
    """(5 + m, 5 + m) of turns (radians), strains and displacements (mm)."""

    @property
    def orientation_sd_deg(self) -> float:
        """Expected error of the orientation, degrees, over all three axes."""
        return float(np.degrees(np.sqrt(np.trace(self.covariance[:3, :3]))))


@dataclass(frozen=True)
class Lattice:
    """One orientation and cell found on a frame."""

    a_matrix: NDArray[np.float64]
    """(3, 3), columns a*, b*, c* in 1/Å, laboratory frame."""
    n_indexed: int
    """Spots explained."""
    log10_e: float
    """log10 of the number of chance solutions expected to be as good; the smaller the better."""
    rmsd_px: float
    """Root mean square distance of predicted from observed spots."""
    excitation_width: float
    """Robust standard deviation of the excitation errors of the indexed spots, 1/Å."""
    spot_index: NDArray[np.int32]
    """(n_indexed,) which spots of the frame's list it explains."""
    fit: StillFit
    """Residuals of its spots and precision of its parameters."""
    runner_up_gap: float = math.nan
    """Powers of ten by which the next orientation explains its spots worse; nan if there was none."""
    split_deg: float = math.nan
    """Angle to a near-duplicate that was refused: the crystal is split; nan if there was none."""


@dataclass(frozen=True)
class FrameCounts:
    """Counts with the wwPDB's names (pdbx_serial_crystallography_data_reduction), and of spots."""

    frames_total: int = 0
    """Frames looked at."""
    frames_unreadable: int = 0
    """Of these, not readable."""
    frame_hits: int = 0
    """Frames with enough spots."""
    crystal_hits: int = 0
    """The same here: on a fixed target the number of spots is the only hit criterion."""
    frames_indexed: int = 0
    """Hits with at least one lattice."""
    frames_failed_index: int = 0
    """Hits without a lattice."""
    lattices_indexed: int = 0
    """Lattices over all frames."""
    spots_on_hits: int = 0
    """Spots on frames with enough of them; 0 also in results from before spots were counted."""
    spots_on_indexed: int = 0
    """Of these, on hits with at least one lattice."""
    spots_explained: int = 0
    """Of these, those that a lattice explains."""

    def __add__(self, other: "FrameCounts") -> "FrameCounts":
        """Sum, count by count."""
        return FrameCounts(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})

    @property
    def hit_rate(self) -> float:
        """frame_hits / frames_total; 0 without frames."""
        return self.frame_hits / self.frames_total if self.frames_total else 0.0

    @property
    def indexing_rate(self) -> float:
        """frames_indexed / frame_hits; 0 without hits."""
        return self.frames_indexed / self.frame_hits if self.frame_hits else 0.0

    @property
    def indexed_fraction(self) -> float:
        """frames_indexed / frames_total; 0 without frames."""
        return self.frames_indexed / self.frames_total if self.frames_total else 0.0


@dataclass(frozen=True)
class ChunkSummary:
    """What one processed chunk hands on; the tables are in its folder."""

    key: str
    """Content key: the folder's name."""
    folder: Path
    frames: FrameRange
    counts: FrameCounts
    reused: bool
    """The folder was there already, nothing was computed."""
    cpu_seconds: float
    """CPU time of the computation, also when reused."""
    median_cell: UnitCell | None
    """Over the lattices of the chunk; None without any."""
    spots_reused: bool = False
    """Its spots were found by an earlier chunk: only frames with lattices were read."""


@dataclass(frozen=True)
class ShellStatistics:
    """Merging statistics of one resolution shell, or of all data; fractions, never per cent."""

    d_max: float
    """Å, low-resolution limit."""
    d_min: float
    """Å, high-resolution limit."""
    n_observations: int
    """Observations merged."""
    n_reflections: int
    """Unique reflections measured."""
    n_possible: int
    """Unique reflections the space group and cell allow."""
    completeness: float
    multiplicity: float
    """n_observations / n_reflections."""
    mean_i_over_sigma: float
    """Mean of merged intensity over its standard error."""
    cc_half: float
    """Pearson correlation of two half sets, split by lattice; nan with fewer than 3 common reflections."""
    cc_star: float
    """sqrt(2 cc_half / (1 + cc_half)); nan where cc_half is negative."""
    r_split: float
    """sum |I1 - I2| / (sqrt(2) * 0.5 sum (I1 + I2))."""
    r_merge: float = math.nan
    """sum |I - mean| / sum I, over reflections with repeats; this and the next: nan in old results."""
    r_meas: float = math.nan
    """As r_merge, each reflection's deviations times sqrt(n / (n - 1))."""
    r_pim: float = math.nan
    """As r_merge, each reflection's deviations times sqrt(1 / (n - 1))."""
    n_pairs: int = 0
    """Reflections in both half sets: those that cc_half and r_split are from."""
    cc_half_error: float = math.nan
    """Standard error of cc_half."""
    cc_anomalous: float = math.nan
    """Pearson correlation of the anomalous differences of the two half sets."""
    anomalous_completeness: float = math.nan
    """Acentric reflections with both Friedel mates measured / acentric reflections possible."""


@dataclass(frozen=True)
class ReferenceCheck:
    """The merged intensities compared with those of a reference, which had no part in making them."""

    source: str
    """What was compared with: column and file, or model."""
    space_group: str
    unit_cell: UnitCell
    """Both of the reference."""
    n_common: int
    cc: float
    """Mean over shells, by number of reflections, of the correlation of intensities."""
    cc_shells: tuple[float, ...]
    """From low to high resolution, the shells of the merge; nan in shells with fewer than 3 in common."""
    r_iso: float
    """sum |F1 - F2| / (0.5 sum (F1 + F2)) after scaling."""
    k: float
    """Scale of the reference against the merge."""
    b_factor: float
    """Å², B of the reference against the merge."""
    cc_settings: dict[str, float]
    """Way of indexing the merge, as operator on hkl, to the correlation in it; h,k,l is as merged."""
    verdict: str
    """In words: isomorphous or why not, and the setting that fits best."""


@dataclass(frozen=True)
class SubsetSummary:
    """A subset of the lattices that was merged apart, on the scale of all."""

    label: str
    lattices_merged: int
    overall: ShellStatistics
    shells: tuple[ShellStatistics, ...]


@dataclass(frozen=True)
class MergeSummary:
    """What one merge hands on; reflections and tables are in its folder."""

    key: str
    folder: Path
    reused: bool
    counts: FrameCounts
    """Sum over the chunks merged."""
    lattices_merged: int
    lattices_excluded: dict[str, int]
    """Filter reason to number of lattices left out for it."""
    chunks_expected: int
    chunks_merged: int
    missing: tuple[str, ...]
    """One sentence for each chunk that is not in the result; empty if the result is whole."""
    unit_cell: UnitCell
    """Median over merged lattices, with the lattice symmetry's constraints."""
    space_group: str
    overall: ShellStatistics
    shells: tuple[ShellStatistics, ...]
    """From low to high resolution."""
    wilson_b: float
    """Å²; nan when there are too few reflections."""
    warnings: tuple[str, ...]
    reference: ReferenceCheck | None = None
    """None where there is nothing to compare with."""
    subsets: tuple[SubsetSummary, ...] = ()
    scaling: str = ""
    """Which model of observations was taken, and why."""
    chunks_read: int | None = None
    """Chunks whose tables this merge read; an earlier one had prepared the others. Not in summary.json."""
