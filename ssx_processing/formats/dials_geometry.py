"""Detector geometry from DIALS's experiment lists (.expt, imported.expt, JSON), without DIALS.

Their frame is the laboratory frame. Panels may stand in nested groups, each placed relative to the
group above it.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.geometry_difference import geometry_difference
from ssx_processing.formats.geometry_model import GeometryFile
from ssx_processing.models import Geometry, Panel

Json = dict[str, Any]

LONGEST_MM = 1e5
_LOOKUPS = {
    "mask": "masks of DIALS cannot be read without it",
    "gain": "maps of gain are not supported",
    "pedestal": "maps of pedestals are not supported",
    "dx": "maps of pixel displacements are not supported",
    "dy": "maps of pixel displacements are not supported",
}
_PARALLAX = {"SimplePxMmStrategy": False, "ParallaxCorrectedPxMmStrategy": True}


def read_dials_geometry(path: Path, content: bytes) -> GeometryFile:
    """Geometry from the content of an experiment list.

    Raises
    ------
    GeometryError
        It is no experiment list, lacks a field, holds several geometries, or something that would
        change positions or masks and is not supported.
    """
    try:
        described = json.loads(content)
    except ValueError as error:
        raise GeometryError(f"{path}: begins like JSON but is not ({error}); copy it again") from error
    if not isinstance(described, dict) or described.get("__id__") != "ExperimentList":
        raise GeometryError(f"{path}: JSON, but no experiment list of DIALS; name an .expt file")
    try:
        return _read(path, described, sha256(content).hexdigest())
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    except KeyError as error:
        raise GeometryError(f"{path}: lacks the field {error}") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise GeometryError(f"{path}: a field is not as DIALS writes it ({error})") from error


def _read(path: Path, described: Json, digest: str) -> GeometryFile:
    """Geometry shared by all experiments."""
    experiments = described["experiment"]
    if not experiments:
        raise GeometryError("holds no experiments")
    pairs = dict.fromkeys((e["beam"], e["detector"]) for e in experiments)
    geometries = [_geometry(described["beam"][b], described["detector"][d]) for b, d in pairs]
    for other in geometries[1:]:
        difference = geometry_difference(geometries[0], other)
        if difference:
            raise GeometryError(
                f"its experiments differ in geometry: {difference} than in the first; "
                "name a file with one geometry, such as that of dials.import or of a joint refinement"
            )
    for imageset in described.get("imageset", ()):
        for name, problem in _LOOKUPS.items():
            if imageset.get(name):
                raise GeometryError(f"its imageset has {name} = {imageset[name]}; {problem}")
    detector = described["detector"][next(iter(pairs))[1]]
    saturation, underload = _trusted(detector["panels"])
    return GeometryFile(
        path=path,
        sha256=digest,
        geometry=geometries[0],
        bad_pixels=_bad_pixels(geometries[0], detector["panels"]),
        saturation=saturation,
        underload=underload,
        gain=_common(detector["panels"], "gain", 1.0),
        groups=_groups(detector),
    )


def _geometry(beam: Json, detector: Json) -> Geometry:
    """Geometry of one beam and one detector."""
    if beam.get("__id__", "monochromatic") != "monochromatic" or "s0_at_scan_points" in beam:
        raise GeometryError("its beam is polychromatic or changes during the scan, which is not supported")
    panels: list[Panel] = []
    start = 0
    for panel, frame in zip(detector["panels"], _panel_frames(detector), strict=True):
        panels.append(_panel(panel, frame, start))
        start += panels[-1].n_slow
    wavelength = float(beam["wavelength"])
    if not 0.01 < wavelength < 100:
        raise GeometryError(f"its wavelength is {wavelength} Å, expected 0.01 to 100 Å")
    direction = 0.0 - _vector(beam, "direction")
    fraction, normal = beam.get("polarization_fraction", 0.999), beam.get("polarization_normal", (0, 1, 0))
    thickness, absorption = _sensor(detector["panels"])
    return Geometry(
        panels=tuple(panels),
        image_shape=(start, max(panel.n_fast for panel in panels)),
        wavelength=wavelength,
        beam_direction=_triple(direction / np.linalg.norm(direction)),
        sensor_thickness_mm=thickness,
        sensor_absorption_per_mm=absorption,
        # the share in the plane with this normal, so x belongs to a normal along y
        polarisation_fraction=fraction * normal[1] ** 2 + (1 - fraction) * (1 - normal[1] ** 2),
    )


def _panel(described: Json, frame: NDArray[np.float64], slow_start: int) -> Panel:
    """Panel in the laboratory frame, stacked below the panels before it."""
    n_fast, n_slow = described["image_size"]
    pixel_fast, pixel_slow = described["pixel_size"]
    if n_fast < 1 or n_slow < 1 or not pixel_fast > 0 or not pixel_slow > 0:
        raise GeometryError(
            f"panel {described['name']!r} has {n_fast} x {n_slow} pixels of {pixel_fast} x {pixel_slow} mm"
        )
    if described.get("pedestal"):
        raise GeometryError(f"panel {described['name']!r} has a pedestal, which is not supported")
    return Panel(
        origin_mm=_triple(frame[:, 3]),
        fast_axis=_triple(frame[:, 0]),
        slow_axis=_triple(frame[:, 1]),
        pixel_size_mm=(float(pixel_fast), float(pixel_slow)),
        fast_start=0,
        slow_start=slow_start,
        n_fast=int(n_fast),
        n_slow=int(n_slow),
        name=described.get("name") or "0",
    )


def _panel_frames(detector: Json) -> list[NDArray[np.float64]]:
    """Frame of every panel, (3, 4) arrays: fast axis, slow axis, normal, origin in the laboratory."""
    above = np.eye(3, 4)
    panels = detector["panels"]
    if "hierarchy" not in detector:
        return [_below(above, panel) for panel in panels]
    frames: list[NDArray[np.float64] | None] = [None] * len(panels)

    def descend(group: Json, above: NDArray[np.float64]) -> None:
        here = _below(above, group)
        for child in group["children"]:
            if "panel" in child:
                frames[child["panel"]] = _below(here, panels[child["panel"]])
            else:
                descend(child, here)

    descend(detector["hierarchy"], above)
    lost = [panel.get("name", n) for n, panel in enumerate(panels) if frames[n] is None]
    if lost:
        raise GeometryError(f"panel {lost[0]!r} is in no group of the detector's hierarchy")
    return [frame for frame in frames if frame is not None]


def _below(above: NDArray[np.float64], described: Json) -> NDArray[np.float64]:
    """Laboratory frame of what is described relative to the frame ``above``."""
    fast, slow, origin = (_vector(described, name) for name in ("fast_axis", "slow_axis", "origin"))
    normal = np.cross(fast, slow)
    if np.linalg.norm(normal) < 0.5:
        raise GeometryError(f"{described.get('name') or 'a group'}: its axes span no plane")
    own = np.column_stack([fast / np.linalg.norm(fast), slow / np.linalg.norm(slow), normal, origin])
    frame = above[:, :3] @ own
    frame[:, 3] += above[:, 3]
    return frame


def _vector(described: Json, name: str) -> NDArray[np.float64]:
    """Three numbers, for positions in mm; directions are of length 1."""
    vector = np.asarray(described[name], float)
    limit = LONGEST_MM if name == "origin" else 1.01
    if vector.shape != (3,) or not np.abs(vector).max() <= limit or (name != "origin" and not vector.any()):
        raise GeometryError(f"{name} = {described[name]}, expected a vector of mm or, for axes, of length 1")
    return vector


def _groups(detector: Json) -> dict[str, tuple[str, ...]]:
    """Names of the panels below every named group of the hierarchy."""
    found: dict[str, tuple[str, ...]] = {}
    panels = detector["panels"]

    def names(group: Json) -> tuple[str, ...]:
        below: tuple[str, ...] = ()
        for child in group["children"]:
            below += (panels[child["panel"]].get("name") or "0",) if "panel" in child else names(child)
        if group.get("name"):
            found[group["name"]] = below
        return below

    if "hierarchy" in detector:
        names(detector["hierarchy"])
    return found


def _sensor(panels: list[Json]) -> tuple[float, float]:
    """Thickness in mm and absorption per mm; 0 where positions are not to be corrected for parallax."""
    strategies = {panel.get("px_mm_strategy", {}).get("type", "SimplePxMmStrategy") for panel in panels}
    if len(strategies) > 1 or not strategies <= set(_PARALLAX):
        raise GeometryError(
            f"px_mm_strategy is {', '.join(sorted(strategies))}, expected {' or '.join(_PARALLAX)}"
        )
    if not _PARALLAX[strategies.pop()]:
        return 0.0, 0.0
    return _common(panels, "thickness", 0.0), _common(panels, "mu", 0.0)


def _common(panels: list[Json], name: str, default: float) -> float:
    """Value that all panels share."""
    values = {float(panel.get(name, default)) for panel in panels}
    if len(values) > 1:
        raise GeometryError(f"its panels differ in {name}: {sorted(values)}, which is not supported")
    return values.pop()


def _trusted(panels: list[Json]) -> tuple[float, float]:
    """Saturation and underload; whether the ends of trusted ranges belong to them differs by version."""
    ranges = [
        panel["trusted_range"] for panel in panels if panel["trusted_range"][1] > panel["trusted_range"][0]
    ]
    if not ranges:
        return np.inf, -np.inf
    low = max(low for low, _ in ranges)
    return float(min(high for _, high in ranges)), 0.0 if -1 <= low <= 0 else float(low)


def _bad_pixels(geometry: Geometry, panels: list[Json]) -> NDArray[np.bool_]:
    """Pixels outside the panels, and in the rectangles that the file masks."""
    bad = np.ones(geometry.image_shape, bool)
    for panel, described in zip(geometry.panels, panels, strict=True):
        inside = bad[panel.slow_start : panel.slow_start + panel.n_slow, : panel.n_fast]
        inside[:] = False
        for fast_0, slow_0, fast_1, slow_1 in described.get("mask", ()):
            inside[max(slow_0, 0) : slow_1, max(fast_0, 0) : fast_1] = True
    return bad


def _triple(vector: ArrayLike) -> tuple[float, float, float]:
    """Three floats."""
    x, y, z = np.asarray(vector, float).tolist()
    return x, y, z
