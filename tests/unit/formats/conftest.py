"""Writers of small HDF5 image files, as detectors and beamlines write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.formats.crystfel_files import WriteGeom, WriteImages, geom_writer, images_writer

WriteNxmx = Callable[..., Path]


@pytest.fixture
def stack(rng: np.random.Generator) -> NDArray[np.uint16]:
    """Seven frames of 40 x 56 pixels; some at the dtype's maximum, as gaps are."""
    frames = rng.poisson(3, (7, 40, 56)).astype(np.uint16)
    frames[:, 20:22] = np.iinfo(np.uint16).max
    return frames


@pytest.fixture
def write_frames(tmp_path: Path) -> Callable[..., Path]:
    """Write a data file ``name`` with a dataset ``path``; keywords go to h5py."""

    def write(name: str, frames: NDArray[Any], path: str = "entry/data/data", **options: Any) -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            options = options or bitshuffle_of_frames(frames)
            file.create_dataset(path, data=frames, **options)
        return tmp_path / name

    return write


def bitshuffle_of_frames(frames: NDArray[Any]) -> dict[str, Any]:
    """Options of a DECTRIS-like dataset: one frame per chunk, bitshuffle/LZ4."""
    return {"chunks": (1, *frames.shape[1:]), **hdf5plugin.Bitshuffle()}


@pytest.fixture
def write_nxmx(tmp_path: Path) -> WriteNxmx:
    """Write ``master.nxs`` around what ``add_data(entry/data group)`` puts into it."""

    def write(
        add_data: Callable[[h5py.Group], Any],
        *,
        modules: tuple[tuple[int, ...], ...] = ((0, 0, 40, 56),),
        places: list[dict[str, Any]] | None = None,
        mask: NDArray[Any] | None = None,
        two_theta: float = 0.0,
        distance: float = 200.0,
        detector_fields: dict[str, Any] | None = None,
    ) -> Path:
        master = tmp_path / "master.nxs"
        with h5py.File(master, "w") as file:
            entry = _group(file, "entry", "NXentry")
            entry["definition"] = "NXmx"
            data = _group(entry, "data", "NXdata")
            data.attrs["signal"] = "data"
            instrument = _group(entry, "instrument", "NXinstrument")
            beam = _group(instrument, "beam", "NXbeam")
            beam["incident_wavelength"] = 1.0
            beam["incident_wavelength"].attrs["units"] = "angstrom"
            detector = _group(instrument, "detector", "NXdetector")
            _place(instrument, two_theta, distance)
            for number, module in enumerate(modules):
                _module(detector, number, module, places[number] if places else None)
            detector["sensor_material"] = "Si"
            detector["sensor_thickness"] = 450.0
            detector["sensor_thickness"].attrs["units"] = "um"
            for name, value in (detector_fields or {}).items():
                detector[name] = value
            if mask is not None:
                detector["pixel_mask"] = mask
            add_data(data)
        return master

    return write


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _axis(parent: h5py.Group, name: str, value: float, unit: str, **attributes: Any) -> None:
    parent[name] = value
    parent[name].attrs.update({"units": unit, **attributes})


def _place(instrument: h5py.Group, two_theta: float, distance: float) -> None:
    """An arm that turns about -x, and along it the detector's distance."""
    chain = _group(instrument, "transformations", "NXtransformations")
    kind = {"transformation_type": "rotation", "depends_on": "."}
    _axis(chain, "two_theta", two_theta, "deg", vector=(-1.0, 0.0, 0.0), **kind)
    kind = {"transformation_type": "translation", "depends_on": "two_theta"}
    _axis(chain, "distance", distance, "mm", vector=(0.0, 0.0, 1.0), **kind)


def _module(
    detector: h5py.Group, number: int, rectangle: tuple[int, ...], place: dict[str, Any] | None
) -> None:
    """data_origin and data_size; pixels of 0.1 mm.

    Beam at pixel (28, 20) of the image, unless ``place`` says where the module is: ``offset`` in mm and
    ``angle`` in degrees about z.
    """
    origin, size = rectangle[: len(rectangle) // 2], rectangle[len(rectangle) // 2 :]
    slow, fast = origin[-2:]
    place = place or {"offset": ((28 - fast) * 0.1, (20 - slow) * 0.1, 0.0), "angle": 0.0}
    module = _group(detector, f"module{number}", "NXdetector_module")
    module["data_origin"] = np.array(origin)
    module["data_size"] = np.array(size)
    _axis(
        module,
        "module_offset",
        place["angle"],
        "deg",
        vector=(0.0, 0.0, 1.0),
        offset=place["offset"],
        offset_units="mm",
        depends_on="/entry/instrument/transformations/distance",
        transformation_type="rotation",
    )
    kind = {"transformation_type": "translation", "depends_on": f"{module.name}/module_offset"}
    _axis(module, "fast_pixel_direction", 1e-4, "m", vector=(-1.0, 0.0, 0.0), **kind)
    _axis(module, "slow_pixel_direction", 1e-4, "m", vector=(0.0, -1.0, 0.0), **kind)


@pytest.fixture
def write_filewriter(tmp_path: Path) -> WriteNxmx:
    """Write ``x_master.h5`` as DECTRIS's FileWriter did, with external links to the data files."""

    def write(
        data_files: tuple[str, ...],
        *,
        nimages: int = 0,
        bit_depth: int | None = None,
        specific: dict[str, Any] | None = None,
    ) -> Path:
        master = tmp_path / "x_master.h5"
        with h5py.File(master, "w") as file:
            entry = _group(file, "entry", "NXentry")
            data = _group(entry, "data", "NXdata")
            for number, name in enumerate(data_files, 1):
                data[f"data_{number:06d}"] = h5py.ExternalLink(name, "entry/data/data")
            instrument = _group(entry, "instrument", "NXinstrument")
            beam = _group(instrument, "beam", "NXbeam")
            _axis(beam, "incident_wavelength", 0.98, "angstrom")
            detector = _group(instrument, "detector", "NXdetector")
            for name, value in {
                "x_pixel_size": 7.5e-5,
                "y_pixel_size": 7.5e-5,
                "detector_distance": 0.15,
            }.items():
                _axis(detector, name, value, "m")
            _axis(detector, "beam_center_x", 30.0, "pixel")
            _axis(detector, "beam_center_y", 10.0, "pixel")
            detector["detectorSpecific/countrate_correction_count_cutoff"] = 5000
            detector["detectorSpecific/nimages"] = nimages
            detector["detectorSpecific/ntrigger"] = 1
            if bit_depth is not None:
                detector["bit_depth_image"] = bit_depth
            for name, value in (specific or {}).items():
                detector[f"detectorSpecific/{name}"] = value
            mask = np.zeros((40, 56), np.uint32)
            mask[20:22] = 1
            detector["detectorSpecific/pixel_mask"] = mask
        return master

    return write


@pytest.fixture
def geom(tmp_path: Path) -> WriteGeom:
    """Write ``detector.geom`` with some texts."""
    return geom_writer(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> WriteImages:
    """Write ``images.h5`` for it."""
    return images_writer(tmp_path)
