import json
import subprocess
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import nxmx
import pytest

from ssx_processing.simulation.chip import SimulatedChip
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.detector import gap_mask
from ssx_processing.simulation.scene import Scene

READ_WITH_DXTBX = """
import json, sys, dxtbx
image = dxtbx.load(sys.argv[1])
panel, beam = image.get_detector()[0], image.get_beam()
mask = image.get_static_mask()[0]
json.dump({
    "n_images": image.get_num_images(), "wavelength": beam.get_wavelength(), "s0": beam.get_s0(),
    "origin": panel.get_origin(), "fast": panel.get_fast_axis(), "slow": panel.get_slow_axis(),
    "beam_centre_px": panel.get_beam_centre_px(beam.get_s0()), "image_size": panel.get_image_size(),
    "trusted": panel.get_trusted_range(), "thickness": panel.get_thickness(), "n_masked": mask.count(False),
}, sys.stdout)
"""


def opened(file: h5py.File, name: str) -> Any:
    """A data set; h5py's annotations allow groups too."""
    return file[name]


def test_virtual_data_set_joins_the_data_files(chip: SimulatedChip):
    with h5py.File(chip.master) as master:
        data = opened(master, "entry/data/data")
        assert data.is_virtual
        joined = data[...]
    parts = []
    for path in chip.data_files:
        with h5py.File(path) as file:
            parts.append(opened(file, "entry/data/data")[...])
    assert len(parts) == 2
    assert np.array_equal(joined, np.concatenate(parts))


def test_frames_are_single_bitshuffle_chunks(chip: SimulatedChip, settings: ChipSettings):
    with h5py.File(chip.data_files[0]) as file:
        data = opened(file, "entry/data/data")
        assert data.chunks == (1, settings.detector.n_slow, settings.detector.n_fast)
        assert [data.id.get_create_plist().get_filter(0)[0]] == [hdf5plugin.Bitshuffle.filter_id]
        assert data.dtype == np.uint16


def test_frames_are_read_back_as_rendered(chip: SimulatedChip, settings: ChipSettings):
    scene = Scene(settings)
    with h5py.File(chip.master) as master, h5py.File(chip.truth) as truth:
        for frame in (0, 19, 20, 39):
            rendered = scene.render(frame, int(opened(truth, "frames/n_crystals")[frame]))
            assert np.array_equal(opened(master, "entry/data/data")[frame], rendered.image)


def test_gap_is_masked_and_holds_the_largest_value(chip: SimulatedChip, settings: ChipSettings):
    with h5py.File(chip.master) as master:
        mask = opened(master, "entry/instrument/detector/pixel_mask")[...]
        frame = opened(master, "entry/data/data")[5]
    assert np.array_equal(mask == 1, gap_mask(settings.detector))
    assert (frame[mask == 1] == 65535).all()
    assert frame[mask == 0].max() <= settings.detector.saturation


def test_metadata_are_read_by_nxmx(chip: SimulatedChip, settings: ChipSettings):
    detector, (beam_x, beam_y) = settings.detector, settings.detector.stated_beam_centre_px
    with h5py.File(chip.master) as master:
        entry: Any = nxmx.NXmx(master).entries[0]
        found, beam = entry.instruments[0].detectors[0], entry.instruments[0].beams[0]
        assert entry.samples[0].name == "chip"
        assert beam.incident_wavelength.to("angstrom").magnitude == settings.beam.wavelength
        assert found.distance.to("mm").magnitude == pytest.approx(detector.distance_mm)
        assert (found.beam_center_x.magnitude, found.beam_center_y.magnitude) == (beam_x, beam_y)
        assert (found.saturation_value, found.sensor_material) == (detector.saturation, "Si")
        module = found.modules[0]
        axes = nxmx.get_dependency_chain(module.fast_pixel_direction.depends_on)
        corner = nxmx.get_cumulative_transformation(axes)[0, :3, 3]
        assert module.fast_pixel_direction[()].to("mm").magnitude == detector.pixel_mm
    # McStas: x to the left when looking along the beam, so the corner is on the positive side
    expected = (beam_x * detector.pixel_mm, beam_y * detector.pixel_mm, detector.distance_mm)
    assert corner == pytest.approx(expected)


def test_dxtbx_reads_the_stated_geometry(chip: SimulatedChip, settings: ChipSettings, dxtbx_python: str):
    command = [dxtbx_python, "-c", READ_WITH_DXTBX, str(Path(chip.master))]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    detector, (beam_x, beam_y) = settings.detector, settings.detector.stated_beam_centre_px
    assert found["n_images"] == settings.n_frames
    assert found["wavelength"] == pytest.approx(settings.beam.wavelength)
    assert found["s0"] == pytest.approx((0, 0, -1 / settings.beam.wavelength))
    origin = (-beam_x * detector.pixel_mm, beam_y * detector.pixel_mm, -detector.distance_mm)
    assert found["origin"] == pytest.approx(origin)
    assert (found["fast"], found["slow"]) == ([1, 0, 0], [0, -1, 0])
    assert found["beam_centre_px"] == pytest.approx((beam_x, beam_y))
    assert found["image_size"] == [detector.n_fast, detector.n_slow]
    assert found["trusted"][1] == detector.saturation
    assert found["thickness"] == pytest.approx(detector.thickness_mm)
    assert found["n_masked"] == gap_mask(detector).sum()
