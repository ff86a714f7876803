"""Where the results of one data set lie."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Names inside the output folder of one data set; nothing is created here."""

    path: Path

    @property
    def plan(self) -> Path:
        """Inputs, settings, versions."""
        return self.path / "plan.json"

    @property
    def calibrations(self) -> Path:
        """One folder per calibration, named by its key."""
        return self.path / "calibration"

    @property
    def cells(self) -> Path:
        """One folder per search for an unknown cell, named by its key."""
        return self.path / "cells"

    @property
    def hot_pixels(self) -> Path:
        """One folder per calibration, one file in it per chunk that found hot pixels."""
        return self.path / "hot_pixels"

    @property
    def chunks(self) -> Path:
        """One folder per chunk, named by its key."""
        return self.path / "chunks"

    @property
    def spots(self) -> Path:
        """One file per stage of spot finding, named by its key, which says which chunk has them."""
        return self.path / "spots"

    @property
    def events(self) -> Path:
        """What ISPyB's event chains say of each frame: laser, delay, dose, reaction trigger."""
        return self.path / "events.parquet"

    @property
    def merged(self) -> Path:
        """One folder per merge, named by its key."""
        return self.path / "merged"

    @property
    def prepared(self) -> Path:
        """Files from which the chunks merged last are read faster."""
        return self.path / "prepared"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def ssx_stats(self) -> Path:
        """Hits, indexed, lattice, resolution, as ISPyB pages read them."""
        return self.path / "ssx_stats.json"

    @property
    def ssx_cells(self) -> Path:
        """Unit cells, as ISPyB pages read them."""
        return self.path / "ssx_cells.json"
