"""Integration against the truth: errors, photons recovered, summation and profile fitting.

    python benchmarks/integration.py [n_frames]

Three tables. Empty reflections on even backgrounds: mean and standard deviation of I / sigma, which
should be 0 and 1. Photons recovered of those put into simulated stills, by distance from the beam
and bandwidth. Root mean square errors of both methods by true photons, and correlation of merged
intensities with the truth.
"""

import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import gemmi
import numpy as np
import pandas as pd

from ssx_processing.kernels.integration import integrate_reflections
from ssx_processing.kernels.integration_table import FLAGS, INTENSITY, REJECTED_FLAGS, SIGMA
from ssx_processing.kernels.spot_mask import MASK_SIGMAS
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.calibration import Calibration, calibrated_processor
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import ChunkJob, process_chunk
from ssx_processing.settings import CalibrationSettings, IntegrationSettings, ProcessingSettings
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings, SimulatedBeam
from ssx_processing.simulation.detector import true_beam_centre_px
from ssx_processing.simulation.scene import Scene
from ssx_processing.simulation.truth import read_truth

METHODS: tuple[Literal["summation"], Literal["profile"]] = ("summation", "profile")
RINGS = (60, 200, 350, 500, 720)
PHOTONS = (0, 5, 20, 60, 200, 1000, 1e9)
BANDWIDTHS = (0.0, 1e-3, 5e-3)


def empty_reflections(rng: np.random.Generator) -> None:
    print("empty reflections, I / sigma\nphotons/px" + "".join(f"{m:>12s} mean   sd" for m in METHODS))
    n, covariance = 500, np.full(3, 1.0) * [1.0, 0.0, 1.0]
    grid = np.stack(np.meshgrid(*[np.arange(15.0, n - 15, 15)] * 2), -1).reshape(-1, 2)
    for background in (0.02, 0.1, 0.5, 2.0, 10.0, 50.0):
        pulls: list[list[np.ndarray]] = [[], []]
        for _ in range(20):
            image = rng.poisson(background, (n, n)).astype(np.uint32)
            x, y = (grid + rng.uniform(0, 1, grid.shape)).T.copy()
            for method in range(2):
                r = integrate_reflections(
                    image, np.zeros((n, n), bool), x, y, np.zeros(len(x), np.int64), np.array([[0, 0, n, n]]),
                    np.tile(covariance, (len(x), 1)), np.arange(len(x)) // 40, (0.0, 1.5, 3.0), method == 1,
                    1.0, 1e9, 0.8, np.zeros((n, n), np.uint8),
                )  # fmt: skip
                pulls[method].append(r[:, INTENSITY] / r[:, SIGMA])
        both = [np.concatenate(p) for p in pulls]
        print(f"{background:10.2f}" + "".join(f"{p.mean():17.3f} {p.std():.3f}" for p in both))


def against_photons(
    chip: ChipSettings, settings: ProcessingSettings, c: Calibration, radius: float | None
) -> Iterator[np.ndarray]:
    """(n, 5) true photons, distance from the beam, intensity by each method and good, of each frame."""
    processors = [
        calibrated_processor(
            c,
            settings.model_copy(
                update={
                    "integration": settings.integration.model_copy(
                        update={"method": method, "peak_radius_px": radius}
                    )
                }
            ),
        )
        for method in METHODS
    ]
    p, scene, beam = processors[0], Scene(chip), true_beam_centre_px(chip.detector)
    for frame in range(chip.n_frames):
        rendered = scene.render(frame, 1)
        spots = p.hits.find(rendered.image)
        lattices = p.index(spots).lattices
        if len(lattices) != 1:
            continue
        seen = p.predict(lattices[0], np.linalg.norm(p.scattering_vectors(spots), axis=1))
        turn = np.linalg.solve(rendered.crystals[0].a_matrix, lattices[0].a_matrix)
        if np.abs(turn - np.rint(turn)).max() > 0.05:
            continue
        photons = dict(
            zip(map(tuple, rendered.spots[0].hkl.tolist()), rendered.spots[0].photons, strict=True)
        )
        hkl = np.rint(seen[:, :3] @ np.rint(turn).T).astype(int)
        true = np.array([photons.get(tuple(h), 0.0) for h in hkl.tolist()]) / seen[:, 8]
        results = [one.integrate(rendered.image, (seen,))[0] for one in processors]
        good = (results[0][:, FLAGS].astype(int) & REJECTED_FLAGS) == 0
        yield np.column_stack(
            [true, np.hypot(seen[:, 3] - beam[0], seen[:, 4] - beam[1])] + [r[:, INTENSITY] for r in results]
        )[good]


def photons_recovered(folder: Path, n_frames: int) -> None:
    print("\nphotons recovered, good reflections, by distance from the beam in px")
    print("bandwidth  radius method     " + "".join(f"{a:>5d}-{b:<5d}" for a, b in itertools.pairwise(RINGS)))
    for bandwidth in BANDWIDTHS:
        chip = ChipSettings(
            n_frames=n_frames,
            n_files=1,
            hit_fraction=1.0,
            two_crystal_fraction=0.0,
            beam=SimulatedBeam(bandwidth=bandwidth, ice_fraction=0.0),
        )
        files = simulate_chip(folder / f"{bandwidth}", chip)
        settings = ProcessingSettings(
            sample=files.sample, calibration=CalibrationSettings(n_frames=n_frames, bandwidth=bandwidth)
        )
        c = calibrate(make_plan([files.master], settings), settings, folder / f"{bandwidth}")
        for radius in (None, 1.8, 3.0):
            table = np.concatenate(list(against_photons(chip, settings, c, radius)))
            ring = np.digitize(table[:, 1], RINGS) - 1
            for method, values in zip(METHODS, table.T[2:], strict=True):
                part = [values[ring == i].sum() / table[ring == i, 0].sum() for i in range(len(RINGS) - 1)]
                print(
                    f"{bandwidth:9.4f} {radius or c.peak_radius_px:6.2f}{' ' if radius else '*'}{method:11s}"
                    + "".join(f"{x:11.3f}" for x in part)
                )
            if radius is None:
                _by_photons(table)
    print("* of the calibration")


def _by_photons(table: np.ndarray) -> None:
    size = np.digitize(table[:, 0], PHOTONS) - 1
    for i in range(len(PHOTONS) - 1):
        true, *values = table[size == i][:, [0, 2, 3]].T
        errors = [np.sqrt(np.mean((v - true) ** 2)) for v in values]
        print(
            f"    {PHOTONS[i]:6.0f} photons and more ({len(true):6d}): "
            + ", ".join(
                f"{m} rms error {e:6.2f}, sum/true {v.sum() / true.sum():.3f}"
                for m, e, v in zip(METHODS, errors, values, strict=True)
            )
        )


def merged(folder: Path, n_frames: int) -> None:
    print("\nmerged against the truth")
    for photons_at_4a in (60.0, 200.0):
        base = ChipSettings(n_frames=n_frames, hit_fraction=1.0)
        chip = base.model_copy(
            update={"crystals": base.crystals.model_copy(update={"photons_at_4a": photons_at_4a})}
        )
        files = simulate_chip(folder / f"chip{photons_at_4a:.0f}", chip)
        truth = read_truth(files.truth).reflections
        for method in METHODS:
            settings = ProcessingSettings(
                sample=files.sample, frames_per_chunk=n_frames, integration=IntegrationSettings(method=method)
            )
            plan = make_plan([files.master], settings)
            out = folder / f"chip{photons_at_4a:.0f}"
            c = calibrate(plan, settings, out)
            chunks = [
                process_chunk(ChunkJob(plan.paths, plan.identity, frames, settings, c.folder, out)).folder
                for frames in plan.ranges
            ]
            summary = merge_chunks(
                chunks, settings, out, chunks_expected=len(chunks), wavelength=plan.wavelength
            )
            table = gemmi.read_mtz_file(str(summary.folder / "merged.mtz"))
            ours = pd.DataFrame(np.array(table), columns=table.column_labels())
            both = ours.merge(
                pd.DataFrame(truth.hkl, columns=["H", "K", "L"]).assign(truth=truth.intensity),
                on=["H", "K", "L"],
            )
            d = gemmi.UnitCell(*files.sample.unit_cell).calculate_d_array(
                both[["H", "K", "L"]].to_numpy(np.int32)
            )
            line = [f"{photons_at_4a:.0f} photons at 4 Å, {method:10s} {len(both)} unique"]
            for limit in (np.inf, 2.2, 1.8):
                shell = both[d < limit]
                if len(shell) > 50:
                    cc = np.corrcoef(shell["IMEAN"], shell["truth"])[0, 1]
                    line.append(f"CC (d < {limit:.1f}) {cc:.4f}")
            print(", ".join(line), f", CC1/2 {summary.overall.cc_half:.4f}")


def main(n_frames: int) -> None:
    print(f"masks of {MASK_SIGMAS} sigmas")
    empty_reflections(np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as folder:
        photons_recovered(Path(folder), n_frames)
        merged(Path(folder), 3 * n_frames)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
