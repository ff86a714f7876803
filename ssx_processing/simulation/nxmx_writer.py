"""NXmx files as a beamline writes them: data files, and a master with metadata and a virtual data set.

NeXus uses the McStas frame (z along the beam, y up), the project dxtbx's: x and z change sign.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from ssx_processing.simulation.chip_settings import ChipSettings, SimulatedDetector
from ssx_processing.simulation.detector import gap_mask

DATA = "/entry/data/data"
HDF5_VERSION = ("v110", "v110")
"""Old enough for the HDF5 of installed readers, which refuse the virtual data sets of HDF5 2."""
GAP_BIT = 1
"""Bit 0 of the pixel mask: a gap, never any signal."""


def compressed_frames(frames: NDArray[np.unsignedinteger]) -> list[bytes]:
    """Each of the (n, n_slow, n_fast) frames as the bytes of a bitshuffle/LZ4 chunk."""
    with h5py.File("frames", "w", driver="core", backing_store=False) as memory:
        dataset = _frame_dataset(memory, "frames", frames.shape, frames.dtype)
        dataset[...] = frames
        return [dataset.id.read_direct_chunk((i, 0, 0))[1] for i in range(len(frames))]


def _frame_dataset(
    parent: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> h5py.Dataset:
    return parent.create_dataset(
        name, shape, dtype, chunks=(1, *shape[1:]), **hdf5plugin.Bitshuffle(nelems=0, cname="lz4")
    )


class DataFile:
    """One data file; frames are appended as compressed bytes."""

    def __init__(self, path: Path, n_frames: int, detector: SimulatedDetector):
        self._file = h5py.File(path, "w", libver=HDF5_VERSION)
        data = _group(_group(self._file, "entry", "NXentry"), "data", "NXdata", signal="data")
        shape = (n_frames, detector.n_slow, detector.n_fast)
        self._frames = _frame_dataset(data, "data", shape, np.dtype(detector.pixel_type))
        self._written = 0

    def append(self, frame: bytes) -> None:
        """Write the next frame."""
        self._frames.id.write_direct_chunk((self._written, 0, 0), frame)
        self._written += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_master(path: Path, settings: ChipSettings, data_files: Sequence[tuple[Path, int]]) -> None:
    """Write the master of data files (path and number of frames of each), which lie beside it."""
    temporary = path.with_name(f".{path.name}")
    with h5py.File(temporary, "w", libver=HDF5_VERSION) as file:
        file.attrs["default"] = "entry"
        entry = _group(file, "entry", "NXentry", default="data")
        entry["definition"] = "NXmx"
        entry["start_time"] = settings.start_time.isoformat()
        end = settings.start_time + timedelta(seconds=settings.exposure_s * settings.n_frames)
        entry["end_time"] = entry["end_time_estimated"] = end.isoformat()
        sample = _group(entry, "sample", "NXsample")
        sample["name"] = settings.name
        source = _group(entry, "source", "NXsource")
        source["name"] = "simulated by ssx_processing"
        instrument = _group(entry, "instrument", "NXinstrument")
        instrument["name"] = "simulated fixed-target beamline"
        _write_beam(_group(instrument, "beam", "NXbeam"), settings)
        sample["beam"] = instrument["beam"]
        _write_detector(_group(instrument, "detector", "NXdetector"), settings)
        data = _group(entry, "data", "NXdata", signal="data")
        data.create_virtual_dataset("data", _joined(settings, data_files), fillvalue=0)
    temporary.replace(path)


def _joined(settings: ChipSettings, data_files: Sequence[tuple[Path, int]]) -> h5py.VirtualLayout:
    frame = (settings.detector.n_slow, settings.detector.n_fast)
    dtype = np.dtype(settings.detector.pixel_type)
    layout = h5py.VirtualLayout((settings.n_frames, *frame), dtype)
    start = 0
    for path, n_frames in data_files:
        source = h5py.VirtualSource(path.name, DATA, (n_frames, *frame), dtype)
        layout[start : start + n_frames] = source
        start += n_frames
    return layout


def _write_beam(beam: h5py.Group, settings: ChipSettings) -> None:
    _quantity(beam, "incident_wavelength", settings.beam.wavelength, "angstrom")
    spread = settings.beam.wavelength * settings.beam.bandwidth
    _quantity(beam, "incident_wavelength_spread", spread, "angstrom")
    fraction = settings.beam.polarisation_fraction
    beam["incident_polarization_stokes"] = np.array([1.0, 2 * fraction - 1, 0.0, 0.0])


def _write_detector(group: h5py.Group, settings: ChipSettings) -> None:
    detector = settings.detector
    beam_x, beam_y = detector.stated_beam_centre_px
    bits = np.dtype(detector.pixel_type).itemsize * 8
    group["description"] = "simulated photon-counting detector"
    group["type"] = "Pixel"
    group["sensor_material"] = "Si"
    _quantity(group, "sensor_thickness", detector.thickness_mm / 1e3, "m")
    _quantity(group, "x_pixel_size", detector.pixel_mm / 1e3, "m")
    _quantity(group, "y_pixel_size", detector.pixel_mm / 1e3, "m")
    _quantity(group, "distance", detector.distance_mm / 1e3, "m")
    _quantity(group, "beam_center_x", beam_x, "pixel")
    _quantity(group, "beam_center_y", beam_y, "pixel")
    _quantity(group, "count_time", settings.exposure_s, "s")
    _quantity(group, "frame_time", settings.exposure_s, "s")
    group["saturation_value"] = detector.saturation
    group["underload_value"] = 0
    group["bit_depth_image"] = group["bit_depth_readout"] = bits
    mask = gap_mask(detector).astype(np.uint32) * GAP_BIT
    group.create_dataset("pixel_mask", data=mask, chunks=True, compression="gzip")
    group["pixel_mask_applied"] = True
    _write_position(group, detector)


def _write_position(group: h5py.Group, detector: SimulatedDetector) -> None:
    """Axes from the laboratory to the first pixel's corner, and the one module that is the image."""
    beam_x, beam_y = detector.stated_beam_centre_px
    corner_mm = np.array([beam_x, beam_y, 0.0]) * detector.pixel_mm
    axes = _group(group, "transformations", "NXtransformations")
    distance = _axis(axes, "det_z", detector.distance_mm, (0, 0, 1), depends_on=".")
    group["depends_on"] = distance.name
    module = _group(group, "module", "NXdetector_module")
    module["data_origin"] = np.array([0, 0])
    module["data_size"] = np.array([detector.n_slow, detector.n_fast])
    length = float(np.linalg.norm(corner_mm)) or 1.0
    offset = _axis(module, "module_offset", length, corner_mm / length, depends_on=str(distance.name))
    for name, vector in (("fast_pixel_direction", (-1, 0, 0)), ("slow_pixel_direction", (0, -1, 0))):
        _axis(module, name, detector.pixel_mm, vector, depends_on=str(offset.name))


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    group.attrs.update(attributes)
    return group


def _quantity(parent: h5py.Group, name: str, value: float, units: str) -> h5py.Dataset:
    dataset = parent.create_dataset(name, data=value)
    dataset.attrs["units"] = units
    return dataset


def _axis(
    parent: h5py.Group,
    name: str,
    value_mm: float,
    vector: Sequence[float] | NDArray[np.float64],
    depends_on: str,
) -> h5py.Dataset:
    """Write a translation axis."""
    axis = _quantity(parent, name, value_mm, "mm")
    axis.attrs["transformation_type"] = "translation"
    axis.attrs["vector"] = np.array(vector, dtype=float)
    axis.attrs["offset"] = np.zeros(3)
    axis.attrs["offset_units"] = "mm"
    axis.attrs["depends_on"] = depends_on
    return axis
