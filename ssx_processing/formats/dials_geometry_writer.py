"""Geometry as an experiment list of DIALS (.expt), written without DIALS.

The list holds one experiment with beam and detector, and no images: what ``dials.show`` prints,
``dials.import`` takes as ``reference_geometry=``, and ``--geometry`` reads back.
"""

import json
import math
from pathlib import Path
from typing import Any

from ssx_processing.errors import GeometryError
from ssx_processing.formats.geometry_model import below_saturation, from_underload
from ssx_processing.formats.sensor_absorption import material_of
from ssx_processing.models import Geometry, Panel

NO_LIMIT = 1e10
"""Stands for a limit that is not known: more than 32 bits can count."""


def write_dials_geometry(
    geometry: Geometry,
    path: Path,
    *,
    saturation: float = math.inf,
    underload: float = -math.inf,
    gain: float | None = None,
) -> Path:
    """Write beam and detector as an experiment list.

    Parameters
    ----------
    saturation
        A pixel with this value or more is saturated, or marked as no pixel; inf where unknown.
    underload
        A pixel with a value below this is no count; -inf where unknown.
    gain
        Counts per photon; None where unknown.

    Raises
    ------
    GeometryError
        The file cannot be written.
    """
    content = {
        "__id__": "ExperimentList",
        "experiment": [{"__id__": "Experiment", "identifier": "", "beam": 0, "detector": 0}],
        "imageset": [],
        "beam": [beam_model(geometry)],
        "detector": [detector_model(geometry, saturation=saturation, underload=underload, gain=gain)],
        **{name: [] for name in ("goniometer", "scan", "crystal", "profile", "scaling_model")},
    }
    try:
        path.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise GeometryError(f"{path}: {error.strerror or error}; name another file") from error
    return path


def _trusted_range(saturation: float, underload: float) -> list[float]:
    """Limits between two counts: whether the ends themselves are trusted differs by dxtbx's version."""
    high = below_saturation(saturation) if math.isfinite(saturation) else NO_LIMIT
    low = from_underload(underload) if math.isfinite(underload) else -NO_LIMIT
    return [low, high]


def detector_model(
    geometry: Geometry,
    *,
    saturation: float = math.inf,
    underload: float = -math.inf,
    gain: float | None = None,
) -> dict[str, Any]:
    """Detector as in an experiment list; see `write_dials_geometry`."""
    trusted = _trusted_range(saturation, underload)
    panels = [_panel(panel, geometry, trusted, gain or 1.0) for panel in geometry.panels]
    return {"panels": panels, "hierarchy": _hierarchy(len(panels))}


def beam_model(geometry: Geometry) -> dict[str, Any]:
    """Beam as in an experiment list."""
    return {
        "__id__": "monochromatic",
        "direction": [0.0 - x for x in geometry.beam_direction],  # theirs is from the sample to the source
        "wavelength": geometry.wavelength,
        "divergence": 0.0,
        "sigma_divergence": 0.0,
        "polarization_normal": [0.0, 1.0, 0.0],
        "polarization_fraction": geometry.polarisation_fraction,
        "flux": 0.0,
        "transmission": 1.0,
    }


def _panel(panel: Panel, geometry: Geometry, trusted: list[float], gain: float) -> dict[str, Any]:
    thickness, absorption = geometry.sensor_thickness_mm, geometry.sensor_absorption_per_mm
    parallax = thickness > 0 and absorption > 0
    return _frame(panel.fast_axis, panel.slow_axis, panel.origin_mm) | {
        "name": panel.name,
        "type": "SENSOR_PAD",
        "raw_image_offset": [panel.fast_start, panel.slow_start],
        "image_size": [panel.n_fast, panel.n_slow],
        "pixel_size": list(panel.pixel_size_mm),
        "trusted_range": trusted,
        "thickness": thickness,
        "material": material_of(absorption, geometry.wavelength),
        "mu": absorption,
        "gain": gain,
        "px_mm_strategy": {"type": "ParallaxCorrectedPxMmStrategy" if parallax else "SimplePxMmStrategy"},
    }


def _hierarchy(n_panels: int) -> dict[str, Any]:
    """One group at the origin of the laboratory, so that the panels' frames are those of the laboratory."""
    axes = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)
    return _frame(*axes) | {"children": [{"panel": number} for number in range(n_panels)]}


def _frame(fast: Any, slow: Any, origin: Any) -> dict[str, Any]:
    """What dxtbx asks of panels and groups alike."""
    return {
        "name": "",
        "type": "",
        "fast_axis": list(fast),
        "slow_axis": list(slow),
        "origin": list(origin),
        "raw_image_offset": [0, 0],
        "image_size": [0, 0],
        "pixel_size": [0.0, 0.0],
        "trusted_range": [0.0, 0.0],
        "thickness": 0.0,
        "material": "",
        "mu": 0.0,
        "identifier": "",
        "mask": [],
        "gain": 1.0,
        "pedestal": 0.0,
        "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }
