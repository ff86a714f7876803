"""Beam and detector from an NXmx file or a DECTRIS FileWriter master.

Names, units and transformations are read with DIALS's ``nxmx``, so they are the standard's. Its
McStas frame (x left when seen along the beam, z along the beam) is turned into the laboratory
frame by ``mcstas_to_laboratory`` and nowhere else.
"""

from dataclasses import replace

import h5py
import numpy as np
import nxmx
from numpy.typing import ArrayLike, NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.hdf5_files import dataset_at, group_at
from ssx_processing.formats.nxmx_transformations import MALFORMED, depends_on, placing
from ssx_processing.formats.sensor_absorption import absorption_per_mm
from ssx_processing.models import Geometry, Panel

SYNCHROTRON_POLARISATION = 0.999
"""Where the file does not say; dxtbx takes the same."""

WAVELENGTHS = (0.01, 100.0)
"""Å; what lies outside has the wrong units."""


def mcstas_to_laboratory(vectors: ArrayLike) -> NDArray[np.float64]:
    """Turn vectors of shape (..., 3) from McStas's frame into the laboratory frame.

    McStas has z along the beam and y up; the laboratory frame z towards the source and y up.
    Hence half a turn about y.

    >>> mcstas_to_laboratory([[0, 0, 1], [1, 2, 0]]).tolist()
    [[0.0, 0.0, -1.0], [-1.0, 2.0, 0.0]]
    """
    return np.asarray(vectors, float) * (-1.0, 1.0, -1.0) + 0.0  # + 0: no negative zeros


def nxmx_geometry(entry: h5py.Group, image_shape: tuple[int, int]) -> Geometry:
    """Geometry of an NXmx entry whose images have ``image_shape`` (slow, fast).

    Modules of a stack (frames, modules, slow, fast) lie below each other in the image.

    Raises
    ------
    GeometryError
        A field that is needed is absent or not as the standard says.
    """
    detectors = [
        detector
        for instrument in nxmx.find_class(entry, "NXinstrument")
        for detector in nxmx.find_class(instrument, "NXdetector")
    ]
    if not detectors:
        raise GeometryError(f"{entry.name} has no NXdetector")
    detector = detectors[0]
    wavelength = _nxmx_wavelength(entry)
    for name in ("distance", "detector_distance"):
        if name in detector and _length(detector, name, "mm") < 0:
            raise GeometryError(f"{detector.name}/{name} is negative, expected a distance from the sample")
    modules = nxmx.find_class(detector, "NXdetector_module")
    if not modules:
        raise GeometryError(f"{detector.name} has no NXdetector_module")
    places = [_rectangle(module) for module in modules]
    rows_of_module = max(place[1] + place[4] for place in places)
    panels = tuple(
        _panel(module, detector, _in_image(module, place, rows_of_module, image_shape, len(modules)))
        for module, place in zip(modules, places, strict=True)
    )
    thickness, absorption = _sensor(nxmx.NXdetector(detector), wavelength)
    return Geometry(
        panels=_downstream(panels),
        image_shape=image_shape,
        wavelength=wavelength,
        sensor_thickness_mm=thickness,
        sensor_absorption_per_mm=absorption,
        polarisation_fraction=SYNCHROTRON_POLARISATION,
    )


def _nxmx_wavelength(entry: h5py.Group) -> float:
    """Wavelength in Å; the median where every frame has its own."""
    parents = [*nxmx.find_class(entry, "NXinstrument"), *nxmx.find_class(entry, "NXsample")]
    for parent in parents:
        for beam in nxmx.find_class(parent, "NXbeam"):
            if beam.get("incident_wavelength", getlink=True) is not None:
                return _wavelength(beam, "incident_wavelength")
    raise GeometryError(f"{entry.name} has no NXbeam with incident_wavelength")


def _wavelength(group: h5py.Group, name: str, *, default: str | None = None) -> float:
    """Wavelength in Å, checked."""
    value = _length(group, name, "angstrom", default=default)
    if not WAVELENGTHS[0] <= value <= WAVELENGTHS[1]:
        low, high = WAVELENGTHS
        raise GeometryError(
            f"{group.name}/{name} is {value:g} Å, expected {low} to {high}; are its units right?"
        )
    return value


def _rectangle(module: h5py.Group) -> tuple[int, int, int, int, int, int]:
    """First module, row and column of the data that belong to a module, and how many of each."""
    fields = []
    for name in ("data_origin", "data_size", "data_stride"):
        if name == "data_stride" and name not in module:
            continue
        try:
            values = [int(value) for value in np.atleast_1d(dataset_at(module, name)[()])]
        except (*MALFORMED, ImageReadError) as error:
            raise GeometryError(f"{module.name}/{name} cannot be used ({error})") from error
        filled = [0 if name == "data_origin" else 1, *values][-3:]
        if len(values) not in (2, 3) or min(filled) < (0 if name == "data_origin" else 1):
            raise GeometryError(
                f"{module.name}/{name} is {values}, expected (slow, fast) or (module, slow, fast)"
            )
        if name == "data_stride" and set(values) != {1}:
            raise GeometryError(f"{module.name}/{name} is {values}; only 1 is supported")
        fields += filled if name != "data_stride" else []
    return tuple(fields)


def _in_image(
    module: h5py.Group,
    place: tuple[int, int, int, int, int, int],
    rows_of_module: int,
    image_shape: tuple[int, int],
    n_modules: int,
) -> tuple[int, int, int, int]:
    """First row and column in the image, and how many rows and columns."""
    number, slow, fast, depth, n_slow, n_fast = place
    if n_modules == 1 and depth == 1 and (n_slow, n_fast) == image_shape[::-1]:
        n_slow, n_fast = n_fast, n_slow  # some DECTRIS firmware writes fast before slow
    first_row = number * rows_of_module + slow
    if depth > 1 or first_row + n_slow > image_shape[0] or fast + n_fast > image_shape[1]:
        raise GeometryError(
            f"{module.name} covers pixels from data_origin {list(place[:3])}, data_size {list(place[3:])} "
            f"(module, slow, fast), of an image of {image_shape}"
        )
    return first_row, fast, n_slow, n_fast


def _panel(module: h5py.Group, detector: h5py.Group, rectangle: tuple[int, int, int, int]) -> Panel:
    """Panel of one module, the detector where it stood at the first frame."""
    try:
        fast, slow = (dataset_at(module, f"{name}_pixel_direction") for name in ("fast", "slow"))
    except ImageReadError as error:
        raise GeometryError(str(error).removeprefix(f"{module.file.filename}: ")) from error
    base = depends_on(fast) or depends_on(detector)
    if base is None:
        raise GeometryError(f"{module.name} depends on nothing, so its distance is unknown")
    placed = placing(base)
    vectors = [_pixel_vector(axis) for axis in (fast, slow)]
    sizes = [float(np.linalg.norm(vector)) for vector in vectors]
    axes = mcstas_to_laboratory(
        [placed[:3, :3] @ vector / size for vector, size in zip(vectors, sizes, strict=True)]
    )
    origin = mcstas_to_laboratory(placed[:3, 3])
    normal = np.cross(*axes)
    if np.linalg.norm(normal) < 0.5:
        raise GeometryError(f"{module.name} has parallel fast_pixel_direction and slow_pixel_direction")
    if abs(normal @ origin) < 1e-3:
        raise GeometryError(f"{module.name} lies in a plane through the sample (its distance is 0)")
    slow_start, fast_start, n_slow, n_fast = rectangle
    return Panel(
        origin_mm=_triple(origin),
        fast_axis=_triple(axes[0]),
        slow_axis=_triple(axes[1]),
        pixel_size_mm=(sizes[0], sizes[1]),
        fast_start=fast_start,
        slow_start=slow_start,
        n_fast=n_fast,
        n_slow=n_slow,
        name=str(module.name),
    )


def _pixel_vector(axis: h5py.Dataset) -> NDArray[np.float64]:
    """Step from one pixel to the next in mm, without what the axis depends on."""
    size = _length(axis.file, str(axis.name), "mm")
    vector = np.asarray(axis.attrs.get("vector", np.zeros(3)), float)
    norm = np.linalg.norm(vector)
    if not size > 0 or vector.shape != (3,) or not norm > 0:
        raise GeometryError(
            f"{axis.name} is {size:g} mm along {vector}, expected a pixel size above 0 and a direction"
        )
    return vector / norm * size


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
    except MALFORMED:
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
        wavelength = _wavelength(entry, "instrument/beam/incident_wavelength", default="angstrom")
        pixel = (_length(group, "x_pixel_size", "mm"), _length(group, "y_pixel_size", "mm"))
        for name, size in zip("xy", pixel, strict=True):
            if not size > 0:
                raise GeometryError(f"{group.name}/{name}_pixel_size is {size:g} mm, expected more than 0")
        fast, slow, origin = _filewriter_frame(group, pixel)
    except (*MALFORMED, ImageReadError) as error:
        if isinstance(error, GeometryError):
            raise
        raise GeometryError(f"the master's geometry cannot be used ({error})") from error
    if not np.isfinite([*origin, *fast, *slow]).all() or not origin[2] < 0:
        raise GeometryError(
            f"{group.name} puts the detector at {-origin[2]:g} mm along the beam, expected more than 0; "
            "look at detector_distance and geometry/translation/distances"
        )
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


def _length(group: h5py.Group, name: str, unit: str, *, default: str | None = "m") -> float:
    """Number in ``unit``; the median of several.

    Raises
    ------
    GeometryError
        It is absent, no number, or has no units although ``default`` is None.
    """
    where = name if name.startswith("/") else f"{group.name}/{name}"
    try:
        dataset = dataset_at(group, name)
        units = nxmx.units(dataset, default) if default or "units" in dataset.attrs else None
        if units is None:
            raise GeometryError(f"{where} has no units attribute, expected {unit}")
        values = np.asarray(dataset[()], float)
        value = float(nxmx.ureg.Quantity(float(np.median(values)), units).to(unit).magnitude)
    except (*MALFORMED, ImageReadError) as error:
        if isinstance(error, GeometryError):
            raise
        reason = str(error).removeprefix(f"{group.file.filename}: ")
        raise GeometryError(f"{where} cannot be used ({reason})") from error
    if not np.isfinite(value):
        raise GeometryError(f"{where} is {value}, expected a number in {unit}")
    return value


def _triple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    """Three floats."""
    return float(vector[0]), float(vector[1]), float(vector[2])
