"""Files that dxtbx reads: real images, images that are damaged, images with a geometry from elsewhere."""

import bz2
import dataclasses
import gzip
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssx_processing.errors import GeometryError, ImageReadError, SettingsError
from ssx_processing.formats.dxtbx_connection import MODE_VARIABLE
from ssx_processing.formats.dxtbx_frames import DxtbxReader
from ssx_processing.formats.dxtbx_process import DxtbxProcess
from ssx_processing.formats.frames import FrameSet, open_reader


@pytest.fixture
def samples(dxtbx_python: str, real_data: Path) -> Path:
    return real_data / "format_samples" / "raw"


@pytest.fixture
def stills(dxtbx_python: str, real_data: Path) -> list[Path]:
    return sorted((real_data / "thaumatin_grid_dls_19stills" / "raw").glob("*.cbf.bz2"))


@pytest.fixture
def plain_cbf(samples: Path, tmp_path: Path) -> Path:
    """A small uncompressed CBF that may be changed."""
    copy = tmp_path / "one_00001.cbf"
    shutil.copy(samples / "ximg2701_00001.cbf", copy)
    copy.chmod(0o644)
    return copy


def test_thaumatin_geometry_is_the_known_one(stills: list[Path]):
    reader = open_reader(stills[0])
    geometry, panel = reader.geometry, reader.geometry.panels[0]
    assert geometry.image_shape == (2527, 2463)
    assert geometry.wavelength == pytest.approx(0.96859)
    assert panel.fast_axis == pytest.approx((1, 0, 0))
    assert panel.slow_axis == pytest.approx((0, -1, 0))
    assert geometry.beam_direction == pytest.approx((0, 0, -1))
    x, y, z = panel.origin_mm
    assert (-x / 0.172, y / 0.172, z) == pytest.approx((1261.61, 1306.96, -351.0))
    assert geometry.polarisation_fraction == pytest.approx(0.999)
    assert geometry.sensor_thickness_mm == pytest.approx(0.45)
    assert reader.saturation == 115897


@pytest.mark.slow
def test_no_unmasked_pixel_of_the_thaumatin_stills_is_negative(stills: list[Path]):
    with FrameSet(stills) as frames:
        assert frames.n_frames == 19
        for frame in range(19):
            assert frames.read(frame)[~frames.bad_pixels].min() >= 0
        gaps = frames.read(0) == -1
        assert gaps.mean() > 0.08
        assert frames.bad_pixels[gaps].all()


NAMES = (
    "DLS_I03_smargon_0001.cbf.gz",
    "DLS_I23_P12M_thau_00001.cbf.gz",
    "TIMEPIX_SU_516-stdgoni_0001.img",
    "adsc_q210_lysozyme.img.bz2",
    "dlsnxs2cbf_therm_0001.cbf.gz",
    "in16c_010001.cbf",
    "l-cyst_01_00001.cbf",
    "simtbx_FormatSMVJHSim_001.img",
    "ximg2701_00001.cbf",
)
P12M = "DLS_I23_P12M_thau_00001.cbf.gz"
"""24 panels of 195 rows, 17 apart, on half a cylinder of 250 mm; its header has one distance, 10 mm."""

HEADER_PATTERNS = {
    "rows": rb"(?:X-Binary-Size-Second-Dimension: *|SIZE2=)(\d+)",
    "columns": rb"(?:X-Binary-Size-Fastest-Dimension: *|SIZE1=)(\d+)",
    "wavelength": rb"(?:# Wavelength +|WAVELENGTH=)([\d.]+)",
    "distance_m": rb"# Detector_distance +([\d.]+) m",
    "distance_mm": rb"DISTANCE=([\d.]+)",
    "pixel_m": rb"# Pixel_size +([\d.e-]+) m",
    "pixel_mm": rb"PIXEL_SIZE=([\d.]+)",
}


def header(path: Path) -> dict[str, float]:
    """What a plain search of the file's text finds."""
    with {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)(path, "rb") as file:
        content = file.read()
    found = {name: re.search(pattern, content) for name, pattern in HEADER_PATTERNS.items()}
    values = {name: float(match[1]) for name, match in found.items() if match}
    values.setdefault("distance_mm", 1000 * values.get("distance_m", 0))
    values.setdefault("pixel_mm", 1000 * values.get("pixel_m", 0))
    return values


def test_every_sample_is_in_the_list(samples: Path):
    assert sorted(path.name for path in samples.iterdir() if path.suffix not in (".h5", ".nxs")) == [*NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_real_formats_are_read_as_their_headers_say(samples: Path, name: str):
    says = header(samples / name)
    rows, distance = (says["rows"], says["distance_mm"]) if name != P12M else (24 * 195, 250.0)
    reader = open_reader(samples / name)
    pixels, geometry = reader.read(0), reader.geometry
    assert pixels.shape == reader.bad_pixels.shape == geometry.image_shape == (rows, says["columns"])
    assert geometry.wavelength == pytest.approx(says["wavelength"], abs=1e-6)
    for panel in geometry.panels:
        assert panel.pixel_size_mm == pytest.approx((says["pixel_mm"], says["pixel_mm"]), rel=1e-3)
        normal = np.cross(panel.fast_axis, panel.slow_axis)
        tolerance = 10.0 if name == P12M else 0.01  # its panels are flat, and not quite in place
        assert abs(np.dot(normal, panel.origin_mm)) == pytest.approx(distance, abs=tolerance)
    good = pixels[~reader.bad_pixels]
    assert good.min() >= reader.underload == 0
    assert reader.saturation > good.max() > good.min()
    assert reader.frames_available() == reader.n_frames == 1
    assert reader.missing() == ""


def test_stacked_panels_share_out_the_rows(samples: Path):
    panels = open_reader(samples / "DLS_I23_P12M_thau_00001.cbf.gz").geometry.panels
    assert [panel.slow_start for panel in panels] == [195 * number for number in range(24)]


def test_pixels_do_not_depend_on_the_compression(samples: Path, plain_cbf: Path):
    packed = plain_cbf.with_suffix(".cbf.bz2")
    packed.write_bytes(bz2.compress(plain_cbf.read_bytes()))
    np.testing.assert_array_equal(open_reader(packed).read(0), open_reader(plain_cbf).read(0))


def test_name_without_a_number_is_read(plain_cbf: Path):
    nameless = plain_cbf.rename(plain_cbf.with_name("still.cbf"))
    assert open_reader(nameless).read(0).shape == (619, 487)


def damaged(path: Path, change: Callable[[bytes], bytes], folder: Path, *, inside: bool = False) -> Path:
    """Copy a file with its bytes, or those it has when decompressed, changed."""
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open) if inside else open
    with opener(path, "rb") as file:
        content = file.read()
    copy = folder / path.name
    with opener(copy, "wb") as file:
        file.write(change(content))
    return copy


def cut(content: bytes) -> bytes:
    return content[: len(content) * 9 // 10]


def cut_in_header(content: bytes) -> bytes:
    return content[:300]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def noise(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(5000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [cut, cut_in_header, noise])
def test_truncated_and_senseless_files_are_errors(
    samples: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes]
):
    with pytest.raises(ImageReadError, match=rf"^[^\n]*{name}: [^\n]*$") as caught:
        open_reader(damaged(samples / name, change, tmp_path))
    reason = str(caught.value).split(f"{name}: ")[1]
    expected = ("damaged: ", "is no CBF", "no format known") if change is noise else ("truncated: ",)
    assert reason.startswith(expected)


@pytest.mark.parametrize("name", ["dlsnxs2cbf_therm_0001.cbf.gz", "adsc_q210_lysozyme.img.bz2"])
@pytest.mark.parametrize("change", [cut, cut_in_header])
def test_file_that_was_truncated_before_it_was_compressed_is_an_error(
    samples: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes]
):
    with pytest.raises(ImageReadError, match=rf"{name}: truncated: .*is the detector still writing\?$"):
        open_reader(damaged(samples / name, change, tmp_path, inside=True))


WITHOUT_A_CHECKSUM = (".img",)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(WITHOUT_A_CHECKSUM)])
def test_a_changed_byte_is_an_error_where_the_file_has_a_checksum(samples: Path, tmp_path: Path, name: str):
    with pytest.raises(ImageReadError, match=rf"{name}: damaged: "):
        open_reader(damaged(samples / name, flip, tmp_path))


def test_damaged_file_among_good_ones_costs_its_frame_only(plain_cbf: Path, tmp_path: Path):
    paths = [Path(shutil.copy(plain_cbf, tmp_path / f"run_{number:05d}.cbf")) for number in range(1, 5)]
    expected = open_reader(plain_cbf).read(0).copy()
    paths[1].write_bytes(cut(plain_cbf.read_bytes()))
    paths[2].write_bytes(flip(plain_cbf.read_bytes()))
    with FrameSet(paths) as frames:
        for frame in (1, 2):
            with pytest.raises(ImageReadError, match=rf"run_0000{frame + 1}\.cbf: (truncated|damaged)"):
                frames.read(frame)
        for frame in (0, 3):
            np.testing.assert_array_equal(frames.read(frame), expected)


def test_file_of_no_known_format_is_an_error(dxtbx_python: str, tmp_path: Path):
    (tmp_path / "notes_001.txt").write_text("not an image\n" * 100)
    with pytest.raises(ImageReadError, match=r"notes_001\.txt: no format known to dxtbx"):
        open_reader(tmp_path / "notes_001.txt")


def test_file_that_was_written_again_is_read_again(plain_cbf: Path, samples: Path):
    before = DxtbxReader(plain_cbf).read(0).copy()
    plain_cbf.write_bytes((samples / "in16c_010001.cbf").read_bytes())
    after = DxtbxReader(plain_cbf).read(0)
    np.testing.assert_array_equal(after, open_reader(samples / "in16c_010001.cbf").read(0))
    assert not np.array_equal(before, after)


def test_file_that_is_being_written_again_has_no_frames_until_it_is_whole(plain_cbf: Path):
    content = plain_cbf.read_bytes()
    reader = DxtbxReader(plain_cbf)
    plain_cbf.write_bytes(content[:200_000])
    assert reader.frames_available() == 0
    assert "one_00001.cbf: truncated: " in reader.missing()
    plain_cbf.write_bytes(content)
    os.utime(plain_cbf, ns=(0, 0))
    assert reader.frames_available() == 1
    assert reader.missing() == ""
    plain_cbf.unlink()
    assert reader.missing() == f"{plain_cbf}: No such file or directory"


def test_given_geometry_replaces_that_of_the_file(plain_cbf: Path):
    own = DxtbxReader(plain_cbf)
    given = dataclasses.replace(own.geometry, wavelength=0.5)
    reader = DxtbxReader(plain_cbf, given)
    assert reader.geometry is given
    np.testing.assert_array_equal(reader.read(0), own.read(0))
    np.testing.assert_array_equal(reader.bad_pixels, own.bad_pixels)


def test_given_geometry_of_another_shape_is_an_error(plain_cbf: Path):
    given = dataclasses.replace(DxtbxReader(plain_cbf).geometry, image_shape=(620, 487))
    with pytest.raises(
        GeometryError, match=r"one_00001\.cbf: its images have 619 x 487 .*geometry 620 x 487"
    ):
        DxtbxReader(plain_cbf, given)


def with_wavelength(samples: Path, wavelength: bytes, folder: Path) -> Path:
    """Copy an SMV file with another wavelength in its header."""
    name = "TIMEPIX_SU_516-stdgoni_0001.img"
    return damaged(samples / name, lambda content: content.replace(b"=0.025100;", b"=" + wavelength), folder)


def test_wavelength_that_makes_no_sense_is_an_error_unless_one_is_given(samples: Path, tmp_path: Path):
    good = DxtbxReader(samples / "TIMEPIX_SU_516-stdgoni_0001.img")
    path = with_wavelength(samples, b"nan     ;", tmp_path)
    with pytest.raises(GeometryError, match=r"TIMEPIX.*\.img: wavelength nan Å, .*--geometry FILE"):
        DxtbxReader(path)
    np.testing.assert_array_equal(DxtbxReader(path, good.geometry).read(0), good.read(0))


def test_error_of_dxtbx_that_says_nothing_is_explained_by_the_line_that_failed(samples: Path, tmp_path: Path):
    path = with_wavelength(samples, b"0.000000;", tmp_path)
    with pytest.raises(
        ImageReadError, match=r"FormatSMVTimePix_SU_516x516 cannot read it: assert wavelength"
    ):
        DxtbxReader(path)


def test_frame_that_does_not_exist_is_an_error(plain_cbf: Path):
    with pytest.raises(ImageReadError, match=r"one_00001\.cbf: no frame 1, expected 0 to 0"):
        DxtbxReader(plain_cbf).read(1)


def test_unknown_way_to_run_dxtbx_is_an_error(plain_cbf: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(MODE_VARIABLE, "outside")
    with pytest.raises(SettingsError, match="SSX_DXTBX is 'outside', expected side-process or in-process"):
        DxtbxReader(plain_cbf)


def test_no_temporary_file_is_left(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = DxtbxProcess()
    answer, _ = process.request(lambda _: None, op="open", path=str(samples / "dlsnxs2cbf_therm_0001.cbf.gz"))
    assert answer["n_frames"] == 1
    assert list(tmp_path.iterdir()) == []
    process.close()
