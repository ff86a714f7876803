"""The demonstration: a simulated chip in an embedded ISPyB, found and processed by the watcher."""

import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine

from flows.console import print_lines, print_looks, print_outcome, print_places
from flows.looks import GroupLook, Verdict
from flows.outcome import read_outcome
from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.records import Event, EventChain, SsxDetails
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.truth import read_truth

HKL = ["h", "k", "l"]


@dataclass(frozen=True)
class DemoFolder:
    """Where everything of the demonstration is."""

    path: Path

    @property
    def raw(self) -> Path:
        """Images, as a beamline would write them."""
        return self.path / "raw"

    @property
    def ispyb(self) -> Path:
        """The embedded ISPyB."""
        return self.path / "ispyb.sqlite"

    @property
    def ledger(self) -> Path:
        """Which chunks and processings there are."""
        return self.path / "ledger.sqlite"

    @property
    def environment(self) -> dict[str, str]:
        """Site settings: a real ISPyB that may be configured is left alone."""
        return {
            "SSX_ISPYB_URL": f"sqlite:///{self.ispyb}",
            "SSX_LEDGER_URL": f"sqlite:///{self.ledger}",
            "SSX_DATA_HOME": str(self.path),
        }

    def use(self) -> None:
        """Make this process work in the folder; before settings are read and Prefect is imported."""
        os.environ.pop("SSX_SETTINGS_FILE", None)
        os.environ.pop("SSX_PROCESSING_FOLDER", None)  # results go beside the images, as by default
        os.environ.update(self.environment)


def make_demo(demo: DemoFolder, settings: ChipSettings) -> SimulatedChip:
    """Simulate the chip and enter it into the embedded ISPyB; nothing is done twice."""
    with simulation_progress(settings) as progress:
        chip = simulate_chip(demo.raw, settings, progress)
    engine = create_embedded_ispyb(demo.ispyb)
    try:
        enter_chip(engine, chip, settings)
    finally:
        engine.dispose()
    return chip


@contextmanager
def simulation_progress(settings: ChipSettings) -> Iterator[Callable[[int, int], None]]:
    """Bar on the terminal while frames are simulated; none if the chip is there already."""
    bar = Progress(console=Console(stderr=True))
    task = bar.add_task("simulating", total=settings.n_frames)

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def enter_chip(engine: Engine, chip: SimulatedChip, settings: ChipSettings) -> CollectedIds:
    """Write the rows that a beamline writes around the collection of a chip."""
    detector, crystals = settings.detector, settings.crystals
    x_px, y_px = detector.stated_beam_centre_px
    start = settings.start_time.replace(tzinfo=None)
    seconds = settings.n_frames * settings.exposure_s
    exposure = Event(
        event_type="XrayDetection",
        name="one well",
        offset=0.0,
        duration=settings.exposure_s,
        repetition=1,
    )
    return write_collected_chip(
        engine,
        CollectedChip(
            proposal="mx1",
            beamline="demo",
            session_start=start,
            protein_acronym="SIM",
            protein_name="simulated protein",
            sample_name=settings.name,
            unit_cell=crystals.unit_cell,
            space_group=crystals.space_group,
            image_directory=chip.master.parent.resolve(),
            file_template=chip.master.name,
            n_images=settings.n_frames,
            wavelength=settings.beam.wavelength,
            detector_distance_mm=detector.distance_mm,
            beam_centre_mm=(x_px * detector.pixel_mm, y_px * detector.pixel_mm),
            exposure_s=settings.exposure_s,
            start_time=start,
            end_time=start + datetime.timedelta(seconds=seconds),
            detector="simulated",
            ssx=SsxDetails(repetition_rate=1 / settings.exposure_s, chip_model="simulated"),
            event_chains=(EventChain(name="wells", events=(exposure,)),),
        ),
    )


def cc_to_truth(mtz_path: Path, truth_path: Path) -> tuple[float, int]:
    """Correlation of merged with simulated intensities, and over how many reflections."""
    mtz = gemmi.read_mtz_file(str(mtz_path))
    merged = pd.DataFrame(np.array(mtz), columns=mtz.column_labels())
    merged.columns = [name.lower() if name in "HKL" else name for name in merged.columns]
    truth = read_truth(truth_path).reflections
    known = pd.DataFrame(truth.hkl, columns=HKL).assign(truth=truth.intensity)
    both = merged.astype(dict.fromkeys(HKL, int)).merge(known, on=HKL).dropna(subset=["IMEAN", "truth"])
    return float(np.corrcoef(both["IMEAN"], both["truth"])[0, 1]), len(both)


def print_demo(demo: DemoFolder, chip: SimulatedChip, looks: Sequence[GroupLook]) -> None:
    """Print the demonstration's results beside the simulated truth, and where to look further."""
    print_looks(looks)
    if all(look.verdict is Verdict.DONE for look in looks):
        print_lines(Console(), ["all was done before: nothing is simulated, processed or recorded again"])
    for look in looks:
        if look.folder is None:
            continue
        outcome = read_outcome(look.folder)
        cc, n = cc_to_truth(outcome.merge.folder / "merged.mtz", chip.truth)
        rows = [("CC to the truth", f"{cc:.3f} ({n} reflections)")]
        print_outcome(outcome, rows, now=look.verdict is Verdict.PROCESSED)
    console = Console()
    print_places(console, [("ISPyB", demo.ispyb), ("ledger", demo.ledger), ("truth", chip.truth)])
    ssx = Path(sys.argv[0])
    print_lines(console, [f"Prefect UI: {ssx} ui --folder {demo.path}"])
