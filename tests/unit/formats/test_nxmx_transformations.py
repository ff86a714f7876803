"""Chains of transformations against the same product written down here, and against dxtbx."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.formats.nxmx_frames import NxmxReader
from ssx_processing.formats.nxmx_transformations import placing

Write = Callable[..., Path]
Matrix = NDArray[np.float64]

CHAINS: dict[str, list[dict[str, Any]]] = {
    # from the module down to the laboratory
    "an arm that turns, its distance on it": [
        {"translation": (0, 0, 1), "value": 0.2, "units": "m"},
        {"rotation": (-1, 0, 0), "value": 25.0, "units": "deg"},
    ],
    "a stage that moves, the arm's turn on it": [
        {"rotation": (-1, 0, 0), "value": 0.4, "units": "rad"},
        {"translation": (0, 0, 1), "value": 200.0, "units": "mm"},
    ],
    "offsets on both kinds, units mixed": [
        {
            "translation": (0, 1, 0),
            "value": 12.5,
            "units": "mm",
            "offset": (0.001, -0.002, 0.003),
            "offset_units": "m",
        },
        {
            "rotation": (0, 0, 1),
            "value": -7.0,
            "units": "degrees",
            "offset": (5.0, 6.0, 7.0),
            "offset_units": "mm",
        },
        {"rotation": (0, 1, 0), "value": 0.1, "units": "radian"},
        {
            "translation": (0.6, 0.0, 0.8),
            "value": 15.0,
            "units": "cm",
            "offset": (0.0, 0.0, 30.0),
            "offset_units": "mm",
        },
    ],
    "offset in the units of the value": [
        {"translation": (0, 0, 1), "value": 0.15, "units": "m", "offset": (0.01, 0.02, 0.03)},
    ],
    "axes that move from frame to frame": [
        {"translation": (0, 0, 1), "value": [210.0, 220.0, 230.0], "units": "mm"},
        {"rotation": (-1, 0, 0), "value": [10.0, 20.0], "units": "deg"},
    ],
}
IN_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
IN_RADIANS = {"deg": np.pi / 180, "degrees": np.pi / 180, "rad": 1.0, "radian": 1.0}


def written_down(step: dict[str, Any]) -> Matrix:
    """Matrix of one step, from NeXus's definition and Rodrigues's formula."""
    matrix = np.eye(4)
    value = np.ravel(step["value"])[0]
    if "rotation" in step:
        x, y, z = np.array(step["rotation"]) / np.linalg.norm(step["rotation"])
        angle = value * IN_RADIANS[step["units"]]
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    else:
        matrix[:3, 3] = value * IN_MM[step["units"]] * np.array(step["translation"])
    units = step.get("offset_units", step["units"])
    matrix[:3, 3] += np.array(step.get("offset", (0, 0, 0))) * IN_MM.get(units, 1.0)
    return matrix


def add_chain(group: h5py.Group, chain: list[dict[str, Any]]) -> h5py.Dataset:
    """Write a chain, each step depending on the next by a relative path, and return its first."""
    for number, step in enumerate(chain):
        kind = "rotation" if "rotation" in step else "translation"
        axis = group.create_dataset(f"step{number}", data=step["value"])
        axis.attrs["transformation_type"] = kind
        axis.attrs["vector"] = np.array(step[kind], float)
        axis.attrs["depends_on"] = f"step{number + 1}" if number + 1 < len(chain) else "."
        axis.attrs.update({name: step[name] for name in ("units", "offset", "offset_units") if name in step})
    first = group["step0"]
    assert isinstance(first, h5py.Dataset)
    return first


@pytest.mark.parametrize("name", CHAINS)
def test_chain_is_the_product_of_its_matrices(tmp_path: Path, name: str):
    with h5py.File(tmp_path / "chain.h5", "w") as file:
        found = placing(add_chain(file.create_group("chain"), CHAINS[name]))
    expected = np.eye(4)
    for step in CHAINS[name]:
        expected = written_down(step) @ expected
    np.testing.assert_allclose(found, expected, atol=1e-12)


DXTBX = """
import sys
from dxtbx.model.experiment_list import ExperimentListFactory
detector = ExperimentListFactory.from_filenames([sys.argv[1]])[0].detector
for panel in detector:
    print(*panel.get_origin(), *panel.get_fast_axis(), *panel.get_slow_axis(), *panel.get_pixel_size())
"""


@pytest.mark.parametrize("name", [name for name in CHAINS if "frame to frame" not in name])
def test_panels_are_where_dxtbx_has_them(dxtbx_python: str, write_nxmx: Write, name: str):
    places = [{"offset": (1.0, 2.0, 0.1), "angle": 3.0}, {"offset": (-2.0, 1.0, 0.0), "angle": -1.0}]
    master = write_nxmx(
        lambda data: data.create_dataset("data", data=np.zeros((2, 40, 56), "u2")),
        modules=((0, 0, 20, 56), (20, 0, 20, 56)),
        places=places,
    )
    with h5py.File(master, "r+") as file:
        chain = file["entry/instrument/transformations"]
        assert isinstance(chain, h5py.Group)
        first = add_chain(chain, CHAINS[name])
        for number in range(2):
            offset = file[f"entry/instrument/detector/module{number}/module_offset"]
            offset.attrs["depends_on"] = str(first.name)
        file["entry/instrument/detector/depends_on"] = str(first.name)
        file["entry/instrument/detector/saturation_value"] = 60000
        sample = file.create_group("entry/sample")
        sample.attrs["NX_class"] = "NXsample"
        sample["depends_on"] = "."
    reader = NxmxReader(master)
    panels = reader.geometry.panels
    reader.close()
    run = subprocess.run(
        [dxtbx_python, "-c", DXTBX, str(master)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-600:]
    expected = np.loadtxt(run.stdout.splitlines())
    found = [(*panel.origin_mm, *panel.fast_axis, *panel.slow_axis, *panel.pixel_size_mm) for panel in panels]
    np.testing.assert_allclose(found, expected, atol=1e-9)
