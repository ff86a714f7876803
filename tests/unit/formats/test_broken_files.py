"""Every broken file gives one line that names file and field, at once; a bad frame costs that frame."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError, SsxError
from ssx_processing.formats.frames import open_reader
from ssx_processing.formats.nxmx_frames import NxmxReader

Write = Callable[..., Path]
Frames = NDArray[Any]
DETECTOR = "/entry/instrument/detector"
MODULE = f"{DETECTOR}/module0"
CHAIN = "/entry/instrument/transformations"
BEAM = "/entry/instrument/beam"
IMAGES = "/entry/data/data"


def replaced(name: str, value: Any, **attributes: Any) -> Callable[[h5py.File], None]:
    """Change a dataset, its attributes kept."""

    def change(file: h5py.File) -> None:
        kept = dict(file[name].attrs)
        del file[name]
        if value is not None:
            file[name] = value
        if value is not None and not isinstance(value, h5py.SoftLink | h5py.ExternalLink):
            file[name].attrs.update({**kept, **attributes})

    return change


def attribute(name: str, key: str, value: Any) -> Callable[[h5py.File], None]:
    """Change or remove an attribute."""

    def change(file: h5py.File) -> None:
        if value is None:
            del file[name].attrs[key]
        else:
            file[name].attrs[key] = value

    return change


def without_mask_values(file: h5py.File) -> None:
    """Leave a mask of which no value was ever written."""
    del file[f"{DETECTOR}/pixel_mask"]
    file.create_dataset(f"{DETECTOR}/pixel_mask", (40, 56), "i4", chunks=(40, 56), fillvalue=-1)


BROKEN_METADATA: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "complex pixels": (replaced(IMAGES, np.zeros((7, 40, 56), complex)), f"{IMAGES} holds complex128"),
    "text for pixels": (replaced(IMAGES, "no pixels"), f"{IMAGES} has shape \\(\\)"),
    "list of text for pixels": (
        replaced(IMAGES, np.full((7, 4, 5), b"x")),
        rf"{IMAGES} holds \|S1, which are not pixels",
    ),
    "five axes": (replaced(IMAGES, np.zeros((1, 1, 1, 40, 56))), f"{IMAGES} has shape \\(1, 1, 1, 40, 56\\)"),
    "pixels of no length": (
        replaced(IMAGES, np.zeros((7, 0, 56))),
        r"covers pixels .* of an image of \(0, 56\)",
    ),
    "no frames": (replaced(IMAGES, np.zeros((0, 40, 56))), "holds no frames"),
    "no pixels": (replaced(IMAGES, None), "/entry/data has neither data nor data_000001"),
    "link to nowhere": (replaced(IMAGES, h5py.SoftLink("/nowhere")), f"{IMAGES} -> /nowhere does not exist"),
    "link to itself": (replaced(IMAGES, h5py.SoftLink(IMAGES)), f"{IMAGES} .*circle"),
    "link to no file": (
        replaced(IMAGES, h5py.ExternalLink("far.h5", "/x")),
        f"{IMAGES} links to /x in far.h5, which is missing",
    ),
    "a group for pixels": (replaced(IMAGES, h5py.SoftLink(DETECTOR)), f"{IMAGES} is not a dataset"),
    "wavelength NaN": (replaced(f"{BEAM}/incident_wavelength", np.nan), f"{BEAM}/incident_wavelength is nan"),
    "wavelength 0": (replaced(f"{BEAM}/incident_wavelength", 0.0), f"{BEAM}/incident_wavelength is 0 Å"),
    "wavelength negative": (replaced(f"{BEAM}/incident_wavelength", -1.0), "incident_wavelength is -1 Å"),
    "wavelength in m": (
        replaced(f"{BEAM}/incident_wavelength", 1e-10),
        f"{BEAM}/incident_wavelength is 1e-10 Å, expected 0.01 to 100.*units",
    ),
    "wavelength without units": (
        attribute(f"{BEAM}/incident_wavelength", "units", None),
        f"{BEAM}/incident_wavelength has no units attribute, expected angstrom",
    ),
    "wavelength in seconds": (
        attribute(f"{BEAM}/incident_wavelength", "units", "s"),
        f"{BEAM}/incident_wavelength cannot be used .*second",
    ),
    "wavelength in words": (
        replaced(f"{BEAM}/incident_wavelength", "short"),
        f"{BEAM}/incident_wavelength cannot be used",
    ),
    "no wavelength": (replaced(f"{BEAM}/incident_wavelength", None), "no NXbeam with incident_wavelength"),
    "pixel size 0": (
        replaced(f"{MODULE}/fast_pixel_direction", 0.0),
        f"{MODULE}/fast_pixel_direction is 0 mm",
    ),
    "pixel size negative": (
        replaced(f"{MODULE}/slow_pixel_direction", -1e-4),
        f"{MODULE}/slow_pixel_direction is -0.1 mm",
    ),
    "pixel size NaN": (
        replaced(f"{MODULE}/slow_pixel_direction", np.nan),
        f"{MODULE}/slow_pixel_direction is nan",
    ),
    "no pixel size": (
        replaced(f"{MODULE}/slow_pixel_direction", None),
        "slow_pixel_direction does not exist",
    ),
    "pixel without direction": (
        attribute(f"{MODULE}/fast_pixel_direction", "vector", None),
        f"{MODULE}/fast_pixel_direction is 0.1 mm along",
    ),
    "parallel axes": (
        attribute(f"{MODULE}/fast_pixel_direction", "vector", (0.0, -1.0, 0.0)),
        f"{MODULE} has parallel fast_pixel_direction",
    ),
    "distance negative": (replaced(f"{DETECTOR}/distance", -0.2), f"{DETECTOR}/distance is negative"),
    "distance 0": (replaced(f"{CHAIN}/distance", 0.0), f"{MODULE} lies in a plane through the sample"),
    "distance NaN": (replaced(f"{CHAIN}/distance", np.nan), f"{CHAIN}/distance is no transformation"),
    "distance in degrees": (
        attribute(f"{CHAIN}/distance", "units", "deg"),
        f"{CHAIN}/distance is no transformation",
    ),
    "distance empty": (replaced(f"{CHAIN}/distance", np.empty(0)), f"{CHAIN}/distance is no transformation"),
    "distance without direction": (
        attribute(f"{CHAIN}/distance", "vector", None),
        f"{CHAIN}/distance is no transformation",
    ),
    "depends on nothing": (
        attribute(f"{CHAIN}/distance", "depends_on", "/entry/not/there"),
        f"{CHAIN}/distance depends on /entry/not/there, which is not there",
    ),
    "depends on a group": (
        attribute(f"{CHAIN}/distance", "depends_on", DETECTOR),
        f"{CHAIN}/distance depends on {DETECTOR}, which is not there",
    ),
    "depends on a number": (
        attribute(f"{CHAIN}/distance", "depends_on", 3),
        "depends_on of .*distance is no path",
    ),
    "depends on itself": (
        attribute(f"{CHAIN}/two_theta", "depends_on", "distance"),
        f"depends_on of {CHAIN}/two_theta leads back to {CHAIN}/distance: a circle",
    ),
    "module outside": (
        replaced(f"{MODULE}/data_origin", np.array((1, 0))),
        f"{MODULE} covers pixels from data_origin .* of an image of \\(40, 56\\)",
    ),
    "module before the image": (
        replaced(f"{MODULE}/data_origin", np.array((-1, 0))),
        f"{MODULE}/data_origin is \\[-1, 0\\], expected",
    ),
    "module of no size": (replaced(f"{MODULE}/data_size", None), f"{MODULE}/data_size .*does not exist"),
    "mask of another shape": (
        replaced(f"{DETECTOR}/pixel_mask", np.zeros((40, 55), np.uint32)),
        f"{DETECTOR}/pixel_mask has shape \\(40, 55\\), the images have \\(40, 56\\)",
    ),
    "mask never written": (without_mask_values, f"{DETECTOR}/pixel_mask was never written"),
    "mask of floats": (
        replaced(f"{DETECTOR}/pixel_mask", np.zeros((40, 56))),
        f"{DETECTOR}/pixel_mask holds float64, expected the integers",
    ),
    "mask behind a dead link": (
        replaced(f"{DETECTOR}/pixel_mask", h5py.ExternalLink("meta.h5", "/mask")),
        f"{DETECTOR}/pixel_mask links to /mask in meta.h5, which is missing",
    ),
}


@pytest.fixture
def good(write_nxmx: Write, stack: Frames) -> Path:
    """A file in which nothing is wrong."""
    return write_nxmx(
        lambda data: data.create_dataset("data", data=stack, chunks=(1, 40, 56), **hdf5plugin.Bitshuffle()),
        detector_fields={"distance": 0.2},
        mask=np.zeros((40, 56), np.uint32),
    )


def test_file_in_which_nothing_is_wrong_opens(good: Path):
    NxmxReader(good).close()


@pytest.mark.parametrize("what", BROKEN_METADATA)
def test_broken_metadata_give_one_line_with_file_and_field(good: Path, what: str):
    change, message = BROKEN_METADATA[what]
    with h5py.File(good, "r+") as file:
        change(file)
    start = time.monotonic()
    with pytest.raises((ImageReadError, GeometryError), match=rf"^{good}: .*{message}") as error:
        NxmxReader(good)
    assert time.monotonic() - start < 1
    assert "\n" not in str(error.value)


FILEWRITER: dict[str, tuple[str, float, str]] = {
    "distance negative": (
        "detector_distance",
        -0.15,
        r"puts the detector at -150 mm along the beam.*detector_dis",
    ),
    "distance 0": ("detector_distance", 0.0, "puts the detector at 0 mm along the beam"),
    "pixel size 0": ("x_pixel_size", 0.0, "/x_pixel_size is 0 mm, expected more than 0"),
    "pixel size negative": ("y_pixel_size", -7.5e-5, "/y_pixel_size is -0.075 mm, expected more than 0"),
    "beam centre NaN": ("beam_center_x", np.nan, "detector puts the detector"),
    "wavelength 0": ("../beam/incident_wavelength", 0.0, "incident_wavelength is 0 Å, expected"),
}


@pytest.mark.parametrize("what", FILEWRITER)
def test_broken_metadata_of_a_filewriter_master(
    write_filewriter: Write, write_frames: Write, stack: Frames, what: str
):
    name, value, message = FILEWRITER[what]
    write_frames("x_data_000001.h5", stack)
    master = write_filewriter(("x_data_000001.h5",))
    with h5py.File(master, "r+") as file:
        path = f"{DETECTOR}/{name}" if not name.startswith("..") else f"/entry/instrument/{name[3:]}"
        file[path][...] = value  # pyright: ignore[reportIndexIssue]
    with pytest.raises(GeometryError, match=rf"^{master}: .*{message}") as error:
        NxmxReader(master)
    assert "\n" not in str(error.value)


def with_chunk(master: Path, number: int, chunk: bytes, mask: int = 0) -> None:
    """Put other bytes in place of a frame's chunk."""
    with h5py.File(master, "r+") as file:
        dataset = file[IMAGES]
        assert isinstance(dataset, h5py.Dataset)
        dataset.id.write_direct_chunk((number, 0, 0), chunk, mask)


BROKEN_CHUNKS: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "cut": (lambda chunk: chunk[:900], 0, "is truncated or damaged"),
    "cut in the header": (lambda chunk: chunk[:5], 0, "holds 5 bytes, less than its header"),
    "garbage": (lambda chunk: bytes(range(256)) * 8, 0, "announces .* bytes of pixels, expected 4480"),
    "garbage behind the header": (lambda chunk: chunk[:12] + b"\xff" * 500, 0, "is truncated or damaged"),
    "garbage in a block": (lambda chunk: chunk[:16] + b"\xff" * (len(chunk) - 16), 0, "is damaged"),
    "announces more": (lambda chunk: (8960).to_bytes(8, "big") + chunk[8:], 0, "announces 8960 bytes"),
    "announces less": (lambda chunk: (448).to_bytes(8, "big") + chunk[8:], 0, "announces 448 bytes"),
    "blocks of 0": (
        lambda chunk: chunk[:8] + bytes(4) + chunk[12:],
        0,
        "is damaged: it announces blocks of 0 bytes",
    ),
    "wrong filter mask": (lambda chunk: chunk + b"\0", 1, r"holds \d+ bytes, expected 4480"),
}


@pytest.mark.parametrize("what", BROKEN_CHUNKS)
def test_broken_chunk_costs_its_frame_only(good: Path, stack: Frames, what: str):
    change, mask, message = BROKEN_CHUNKS[what]
    with h5py.File(good) as file:
        dataset = file[IMAGES]
        assert isinstance(dataset, h5py.Dataset)
        _, chunk = dataset.id.read_direct_chunk((3, 0, 0))
    with_chunk(good, 3, change(chunk), mask)
    reader = NxmxReader(good)
    assert reader.frames_available() == 7
    for index in (2, 4, 6):
        np.testing.assert_array_equal(reader.read(index), stack[index])
    expected = rf"^{good}: frame 3 cannot be read; frame 3 of {IMAGES} {message}"
    with pytest.raises(ImageReadError, match=expected) as error:
        reader.read(3)
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(reader.read(5), stack[5])
    reader.close()


def test_bad_frame_in_a_chunk_of_several_costs_that_chunk_only(write_nxmx: Write, stack: Frames):
    options = {"chunks": (2, 40, 56), **hdf5plugin.Bitshuffle()}
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack, **options))
    with_chunk(master, 2, b"\xff" * 400)
    reader = NxmxReader(master)
    np.testing.assert_array_equal(reader.read(1), stack[1])
    for index in (2, 3):
        with pytest.raises(ImageReadError, match=f"frame {index} cannot be read"):
            reader.read(index)
    np.testing.assert_array_equal(reader.read(4), stack[4])
    np.testing.assert_array_equal(reader.read(0), stack[0])
    reader.close()


def test_frames_packed_by_a_filter_that_is_not_installed(write_nxmx: Write, stack: Frames):
    unknown = 32767

    def add(data: h5py.Group) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 40, 56))
        plist.set_filter(unknown, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(stack.shape)
        dataset = h5py.h5d.create(data.id, b"data", h5py.h5t.NATIVE_UINT16, space, plist)
        for number, frame in enumerate(stack):
            dataset.write_direct_chunk((number, 0, 0), frame.tobytes(), 0)

    reader = NxmxReader(write_nxmx(add))
    with pytest.raises(ImageReadError, match=f"frame 0 of {IMAGES} .*(filter|plugin)") as error:
        reader.read(0)
    assert str(unknown) in str(error.value)
    assert "\n" not in str(error.value)
    reader.close()


@pytest.mark.parametrize(
    "content", [b"", b"this is no HDF5\n" * 100, b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(500)]
)
def test_file_that_only_pretends_to_be_hdf5(tmp_path: Path, content: bytes):
    path = tmp_path / "pretends.h5"
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match=rf"^{path}: ") as error:
        open_reader(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("damage", ["cut", "pixels"])
def test_file_cut_anywhere_or_with_pixels_changed_never_blocks(
    good: Path, rng: np.random.Generator, libver: str, damage: str, tmp_path: Path
):
    # Metadata are not changed: HDF5 itself can crash or go round in a circle where they have no checksums.
    path = tmp_path / "copy.nxs"
    with h5py.File(good) as source, h5py.File(path, "w", libver=libver) as file:
        source.copy("/entry", file)
        dataset = file[IMAGES]
        assert isinstance(dataset, h5py.Dataset)
        chunks = [dataset.id.get_chunk_info(number) for number in range(7)]
    content = path.read_bytes()
    pixels = np.concatenate([np.arange(chunk.size) + chunk.byte_offset for chunk in chunks])
    errors = []
    for _ in range(30):
        changed = bytearray(content)
        if damage == "cut":
            changed = changed[: int(rng.integers(100, len(content)))]
        else:
            for at in rng.choice(pixels, 40):
                changed[at] = rng.integers(256)
        path.write_bytes(changed)
        start = time.monotonic()
        errors.append(first_error(path))
        assert time.monotonic() - start < 5
    assert all(error.startswith(f"{path}: ") and "\n" not in error for error in errors)


def first_error(path: Path) -> str:
    """Error that reading all of a damaged file leads to, empty if none; any error but ours is raised."""
    try:
        reader = NxmxReader(path)
    except SsxError as error:
        return str(error)
    try:
        reader.frames_available()
        for index in range(reader.n_frames):
            reader.read(index)
    except ImageReadError as error:
        return str(error)
    finally:
        reader.close()
    return ""


@pytest.mark.parametrize(
    "name", ["FJ_P5P1_1_master.h5", "FJ_P5P1_1_meta.h5", "dectris_eiger_master.h5", "ins_8_5.nxs"]
)
def test_real_files_without_pixels_are_refused_in_one_line(real_data: Path, name: str):
    path = real_data / "format_samples" / "raw" / name
    start = time.monotonic()
    try:
        reader = NxmxReader(path)
        line = reader.missing()
        reader.close()
    except ImageReadError as error:
        line = str(error)
    assert time.monotonic() - start < 5
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
