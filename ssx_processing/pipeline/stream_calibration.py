"""What the frames of a CrystFEL stream were processed with, as far as the stream says."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssx_processing.formats.crystfel_stream import CrystfelStream
from ssx_processing.formats.stream_geometry import stream_geometry
from ssx_processing.pipeline.calibration import Calibration
from ssx_processing.pipeline.geometry_record import GeometryRefinement
from ssx_processing.pipeline.population import Population, Rocking
from ssx_processing.settings import CalibrationSettings

SIGMA_PER_RADIUS = 5**-0.5
"""Standard deviation of excitation errors by CrystFEL's profile radius R.

Sections of a sphere of radius R at a distance e from its middle are 1 - (e / R)² of the largest, the
partiality of CrystFEL's xsphere at one wavelength; their variance over e is R² / 5. That is near to 1 / 2.33
(R is set so that 98 % of the indexed peaks are within it) and to the 1 / 2.6 of its Gaussian model; strong
reflections of the 5-HT2B stream have 0.36 (I / sigma above 10) to 0.54 (above 5).
"""
DEFAULT_RADIUS_PX = 4.0
"""Of the summed disc, indexamajig's where its command does not say."""
NOTES = (
    "frames, crystals and intensities are CrystFEL's, read from its stream; no image was looked at",
    "the geometry is the stream's; what it leaves to the images is the median of what the stream copied",
)
DIFFERING = (
    "the streams have different geometries: reflections keep the positions of their own, but maps of the "
    "detector are drawn with that of the first"
)


def stream_calibration(
    key: str,
    folder: Path,
    paths: Sequence[Path],
    geometry_file: Path | None,
    settings: CalibrationSettings,
) -> Calibration:
    """Calibration of streams: what the first one says.

    Raises
    ------
    GeometryError
        The geometry cannot be used.
    ImageReadError
        The stream cannot be read, or none of the frames looked at is whole.
    """
    stream = CrystfelStream(paths[0])
    given = stream_geometry(stream, geometry_file).given
    frames = list(stream.some_frames(settings.n_frames))
    crystals = [crystal for frame in frames for crystal in frame.crystals]
    radii = [crystal.profile_radius for crystal in crystals if crystal.profile_radius > 0]
    others = {CrystfelStream(path).header.geometry for path in paths[1:]} - {stream.header.geometry}
    differing = (DIFFERING,) if others and geometry_file is None else ()
    bad = np.zeros(given.geometry.image_shape, bool) if given.bad_pixels is None else given.bad_pixels
    constant = SIGMA_PER_RADIUS * float(np.median(radii)) if radii else Rocking.constant
    return Calibration(
        key=key,
        folder=folder,
        geometry=given.geometry,
        bad_pixels=bad,
        saturation=given.saturation,
        underload=given.underload,
        rocking=Rocking(constant=constant, per_q=0.0, divergence=0.0),
        population=Population(),
        refinement=GeometryRefinement(n_lattices=len(crystals), notes=(*NOTES, *differing)),
        peak_radius_px=integration_radius(stream),
        beam_shift_px=(0.0, 0.0),
        n_frames=len(frames),
        n_hits=sum(bool(frame.hit) or bool(frame.crystals) for frame in frames),
        n_lattices=len(crystals),
        n_hot_pixels=0,
    )


def integration_radius(stream: CrystfelStream) -> float:
    """Radius of the summed disc, px, from the command in the header."""
    found = re.search(r"--int-radius[= ]([\d.]+)", " ".join(stream.header.audit))
    return float(found[1]) if found else DEFAULT_RADIUS_PX
