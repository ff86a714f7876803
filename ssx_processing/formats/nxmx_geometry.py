"""Beam, detector, mask and saturation from an NXmx file or a DECTRIS FileWriter master.

NXmx is read with DIALS's ``nxmx``, so names and rules are the standard's. Its McStas frame (x
left when seen along the beam, z along the beam) is turned into the laboratory frame by
``mcstas_to_laboratory`` and nowhere else.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import h5py
import numpy as np
import nxmx
from numpy.typing import ArrayLike, NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.hdf5_frames import dataset_at, group_at
from ssx_processing.formats.sensor_absorption import absorption_per_mm
from ssx_processing.models import Geometry, Panel

SYNCHROTRON_POLARISATION = 0.999
"""Where the file does not say; dxtbx takes the same."""

_MALFORMED = (KeyError, ValueError, TypeError, AttributeError, AssertionError, IndexError, OSError)
"""What nxmx and h5py raise when a field is absent or not as the standard says."""


def mcstas_to_laboratory(vectors: ArrayLike) -> NDArray[np.float64]:
    """Turn vectors of shape (..., 3) from McStas's frame into the laboratory frame.

    McStas has z along the beam and y up; the laboratory frame z towards the source and y up.
    Hence half a turn about y.

    >>> mcstas_to_laboratory([[0, 0, 1], [1, 2, 0]]).tolist()
    [[0.0, 0.0, -1.0], [-1.0, 2.0, 0.0]]
    """
    return np.asarray(vectors, float) * (-1.0, 1.0, -1.0) + 0.0  # + 0: no negative zeros


def nxmx_geometry(entry: nxmx.NXentry, image_shape: tuple[int, int]) -> Geometry:
    """Geometry of an NXmx entry whose images have ``image_shape`` (slow, fast).

    Raises
    ------
    GeometryError
        A field that is needed is absent or not as the standard says.
    """
    try:
        instrument = entry.instruments[0]
        detector = instrument.detectors[0]
        wavelength = _wavelength(entry, instrument)
        panels = tuple(_panel(module, detector, image_shape) for module in detector.modules)
    except _MALFORMED as error:
        raise GeometryError(f"the NXmx geometry cannot be used ({type(error).__name__}: {error})") from error
    if not panels:
        raise GeometryError("the NXmx detector has no NXdetector_module")
    thickness, absorption = _sensor(detector, wavelength)
    return Geometry(
        panels=_downstream(panels),
        image_shape=image_shape,
        wavelength=wavelength,
        sensor_thickness_mm=thickness,
        sensor_absorption_per_mm=absorption,
        polarisation_fraction=SYNCHROTRON_POLARISATION,
    )


def _wavelength(entry: nxmx.NXentry, instrument: nxmx.NXinstrument) -> float:
    """Wavelength in Å; the median where every frame has its own."""
    beams = list(instrument.beams)
    for sample in entry.samples:
        beams += [nxmx.NXbeam(group) for group in nxmx.find_class(sample._handle, "NXbeam")]  # noqa: SLF001
    return float(np.median(np.atleast_1d(beams[0].incident_wavelength.to("angstrom").magnitude)))


def _panel(module: nxmx.NXdetector_module, detector: nxmx.NXdetector, image_shape: tuple[int, int]) -> Panel:
    """Panel of one module, the detector where it stood at the first frame."""
    fast, slow = module.fast_pixel_direction, module.slow_pixel_direction
    base = fast.depends_on or detector.depends_on
    if base is None:
        raise ValueError(f"{module.path} depends on nothing, so its distance is unknown")
    placing = nxmx.get_cumulative_transformation(nxmx.get_dependency_chain(base))[0]
    axes = mcstas_to_laboratory([placing[:3, :3] @ axis.vector for axis in (fast, slow)])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    start = [int(value) for value in np.atleast_1d(module.data_origin)]
    size = [int(value) for value in np.atleast_1d(module.data_size)]
    if len(detector.modules) == 1 and tuple(size) == image_shape[::-1]:
        size = size[::-1]  # some DECTRIS firmware writes fast before slow
    if start[0] + size[0] > image_shape[0] or start[1] + size[1] > image_shape[1]:
        raise ValueError(
            f"{module.path} covers pixels from {start}, size {size}, of an image of {image_shape}"
        )
    return Panel(
        origin_mm=_triple(mcstas_to_laboratory(placing[:3, 3])),
        fast_axis=_triple(axes[0]),
        slow_axis=_triple(axes[1]),
        pixel_size_mm=(
            float(fast[()].to("mm").magnitude[0]),
            float(slow[()].to("mm").magnitude[0]),
        ),
        fast_start=start[1],
        slow_start=start[0],
        n_fast=size[1],
        n_slow=size[0],
        name=module.path or "0",
    )


def _downstream(panels: tuple[Panel, ...]) -> tuple[Panel, ...]:
    """Mirror a flat detector that the file puts between source and sample; dxtbx does the same."""
    panel = panels[0]
    normal = np.cross(panel.fast_axis, panel.slow_axis)
    if len(panels) > 1 or abs(normal[2]) < 0.99 or panel.origin_mm[2] <= 0:
        return panels
    x, y, z = panel.origin_mm
    return (replace(panel, origin_mm=(x, y, -z)),)


def _sensor(detector: nxmx.NXdetector, wavelength: float) -> tuple[float, float]:
    """Thickness in mm and absorption coefficient in 1/mm; 0 where the file does not say."""
    try:
        thickness = float(detector.sensor_thickness.to("mm").magnitude)
        material = detector.sensor_material
    except _MALFORMED:
        return 0.0, 0.0
    return thickness, absorption_per_mm(material, wavelength)


def filewriter_geometry(entry: h5py.Group, image_shape: tuple[int, int]) -> Geometry:
    """Geometry of a DECTRIS FileWriter master without NXmx definition.

    Its ``geometry`` group has x and y as McStas and z against the beam; without it the detector
    is taken normal to the beam, from beam centre and distance.

    Raises
    ------
    GeometryError
        A field that is needed is absent.
    """
    try:
        group = group_at(entry, "instrument/detector")
        wavelength = _length(entry, "instrument/beam/incident_wavelength", "angstrom", default="angstrom")
        pixel = (_length(group, "x_pixel_size", "mm"), _length(group, "y_pixel_size", "mm"))
        fast, slow, origin = _filewriter_frame(group, pixel)
    except _MALFORMED as error:
        raise GeometryError(f"the master's geometry cannot be used ({error})") from error
    thickness, absorption = _sensor(nxmx.NXdetector(group), wavelength)
    panel = Panel(
        origin_mm=_triple(origin),
        fast_axis=_triple(fast),
        slow_axis=_triple(slow),
        pixel_size_mm=pixel,
        fast_start=0,
        slow_start=0,
        n_fast=image_shape[1],
        n_slow=image_shape[0],
    )
    return Geometry(
        panels=(panel,),
        image_shape=image_shape,
        wavelength=wavelength,
        sensor_thickness_mm=thickness,
        sensor_absorption_per_mm=absorption,
        polarisation_fraction=SYNCHROTRON_POLARISATION,
    )


def _filewriter_frame(
    group: h5py.Group, pixel: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fast axis, slow axis, origin in mm, laboratory frame."""
    if "geometry/orientation/value" in group and "geometry/translation/distances" in group:
        against_beam = np.array((1.0, 1.0, -1.0))
        axes = np.reshape(dataset_at(group, "geometry/orientation/value")[()], (2, 3)) * against_beam
        origin = np.reshape(dataset_at(group, "geometry/translation/distances")[()], 3) * 1e3 * against_beam
        if np.any(origin):
            fast, slow = mcstas_to_laboratory(axes / np.linalg.norm(axes, axis=1, keepdims=True))
            return fast, slow, mcstas_to_laboratory(origin)
    x, y = (float(nxmx.h5scalar(dataset_at(group, f"beam_center_{axis}")).item()) for axis in "xy")
    distance = _length(group, "detector_distance", "mm")
    origin = np.array((-x * pixel[0], y * pixel[1], -distance))
    return np.array((1.0, 0.0, 0.0)), np.array((0.0, -1.0, 0.0)), origin


def _length(group: h5py.Group, name: str, unit: str, *, default: str = "m") -> float:
    """Scalar dataset in ``unit``."""
    dataset = dataset_at(group, name)
    quantity = nxmx.ureg.Quantity(nxmx.h5scalar(dataset).item(), nxmx.units(dataset, default))
    return float(quantity.to(unit).magnitude)


def bad_pixels(
    detector: h5py.Group | None, panels: Sequence[Panel], image_shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Pixels never to be used: any bit of a pixel mask set, or outside all panels.

    Returns
    -------
    Shape (slow, fast), true where bad.
    """
    bad = np.ones(image_shape, bool)
    for panel in panels:
        rows = slice(panel.slow_start, panel.slow_start + panel.n_slow)
        bad[rows, panel.fast_start : panel.fast_start + panel.n_fast] = False
    for dataset in pixel_masks(detector):
        mask = np.asarray(dataset[()])
        if mask.ndim == 3:
            mask = np.bitwise_or.reduce(mask, axis=0)
        if mask.shape == image_shape:
            bad |= mask != 0
        elif mask.size > 1:
            raise GeometryError(f"{dataset.name} has shape {mask.shape}, the images have {image_shape}")
    return bad


def pixel_masks(detector: h5py.Group | None) -> list[h5py.Dataset]:
    """Datasets ``pixel_mask`` and ``pixel_mask_N``; DECTRIS's own only if there are none.

    Raises
    ------
    ImageReadError
        A mask is a link to a missing file: processing without it would count dead pixels.
    """
    if detector is None:
        return []
    names = sorted(name for name in list[str](detector) if re.fullmatch(r"pixel_mask(_\d+)?", name))
    if not names and detector.get("detectorSpecific/pixel_mask", getlink=True) is not None:
        names = ["detectorSpecific/pixel_mask"]
    return [dataset_at(detector, name) for name in names]


def saturation(detector: h5py.Group | None, pixel_type: np.dtype) -> float:
    """Smallest raw value that is no longer a count; inf if unknown.

    DECTRIS marks gaps and dead pixels with the largest value of the image's bit depth, so that
    is a limit too. A pixel at NXmx's ``saturation_value`` itself is called saturated.
    """
    limits = [float(np.iinfo(pixel_type).max) if pixel_type.kind in "iu" else np.inf]
    if detector is None:
        return limits[0]
    bits = _number(detector, "bit_depth_image")
    if bits is not None and pixel_type.kind == "u" and bits < 8 * pixel_type.itemsize:
        limits.append(2.0**bits - 1)
    for name in (
        "saturation_value",
        "detectorSpecific/countrate_correction_count_cutoff",
        "detectorSpecific/detectorModule_000/countrate_correction_count_cutoff",
    ):
        value = _number(detector, name)
        if value is not None and value > 0:
            limits.append(value)
            break
    return min(limits)


def _number(group: h5py.Group, name: str) -> float | None:
    """Scalar below ``group``; None if absent.

    Raises
    ------
    ImageReadError
        It is a link that leads nowhere.
    """
    if group.get(name, getlink=True) is None:
        return None
    value = np.ravel(np.asarray(dataset_at(group, name)[()]))
    return float(value[0]) if value.size and np.issubdtype(value.dtype, np.number) else None


def _triple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    """Three floats."""
    return float(vector[0]), float(vector[1]), float(vector[2])
