"""``ssx events``: the table of frames before anything is merged, or why there is none."""

import datetime
import shutil
from pathlib import Path

import pandas as pd
import pytest

from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.records import Event, EventChain
from ssx_processing.simulation.chip import SimulatedChip
from tests.unit.flows.conftest import Given

START = datetime.datetime(2026, 11, 21, 9, 0, 0)
SHOT = Event(event_type="XrayDetection", duration=0.01, period=0.01, repetition=2)
PUMP = Event(event_type="LaserExcitation", name="pump", offset=0.01, duration=0.001)
WELLS = EventChain(name="wells", events=(SHOT, PUMP))


@pytest.fixture
def enter(chip: SimulatedChip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Enter a data collection of the chip's twelve frames with these chains; returns its group."""
    monkeypatch.setenv("SSX_ISPYB_URL", f"sqlite:///{tmp_path}/ispyb.sqlite")

    def enter_collection(*chains: EventChain, template: str = "", n_images: int = 12) -> int:
        engine = create_embedded_ispyb(tmp_path / "ispyb.sqlite")
        collected = CollectedChip(
            proposal="mx1", beamline="ID29", session_start=START, protein_acronym="SIM", sample_name="chip",
            image_directory=chip.master.parent, file_template=template or chip.master.name,
            n_images=n_images, wavelength=1.0, detector_distance_mm=100.0, beam_centre_mm=(70.0, 70.0),
            exposure_s=0.01, start_time=START, event_chains=chains,
        )  # fmt: skip
        ids = write_collected_chip(engine, collected)
        engine.dispose()
        return ids.group_id

    return enter_collection


def test_the_timeline_assumptions_frames_and_counts_are_shown(enter, given: Given):
    group_id = enter(WELLS)
    done = given("events", group_id, "--rows", "3")
    assert done.exit_code == 0
    assert "data collection 1: 12 frames (in the files)" in done.stdout
    assert "LaserExcitation 'pump' |································" in done.stdout
    assert "assumed: event chain 'wells' runs 6 times, with 2 frames each" in done.stdout
    assert "first 3 of 12 frames" in done.stdout
    assert "laser: off 6, on 6" in done.stdout
    assert "delay_s: 0 s (6)" in done.stdout
    assert "dose_index: 0 (6), 1 (6)" in done.stdout
    assert "warning" not in done.stdout


def test_the_table_of_all_frames_is_written_for_merging(enter, given: Given, tmp_path: Path):
    group_id = enter(WELLS)
    assert given("events", group_id, "--csv", "events.csv").exit_code == 0
    table = pd.read_csv(tmp_path / "events.csv")
    assert list(table) == ["frame", "laser", "delay_s", "reaction_trigger", "dose_index"]
    assert table["laser"].tolist() == ["off", "on"] * 6


def test_the_frames_of_several_data_collections_are_told_apart_by_their_files(
    enter, given: Given, tmp_path: Path, chip: SimulatedChip
):
    group_id = enter(WELLS)
    assert enter(WELLS, template="not_there.h5", n_images=10) == group_id
    done = given("events", group_id, "--csv", "events.csv")
    assert "10 frames (numberOfImages in ISPyB, as the files cannot be read" in done.stdout
    assert "files of data collection 2 cannot be read" in str(done.exception)
    assert not (tmp_path / "events.csv").exists()
    second = Path(shutil.copy(chip.master, chip.master.with_name("not_there.h5")))
    try:
        assert given("events", group_id, "--csv", "events.csv").exit_code == 0
    finally:
        second.unlink()
    files = pd.read_csv(tmp_path / "events.csv")["file"]
    assert files.tolist() == [str(chip.master.resolve())] * 12 + [str(second.resolve())] * 12


def test_a_laser_that_never_toggles_is_warned_of(enter, given: Given):
    before = PUMP.model_copy(update={"offset": -0.001})
    done = given("events", enter(EventChain(name="wells", events=(SHOT, before))))
    assert done.exit_code == 0
    assert "warning: laser never toggles: it is on in all 12 frames" in done.stdout


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ((), "no event chain is recorded"),
        ((EventChain(name="wells", events=(SHOT.model_copy(update={"repetition": 5}),)),), "multiple of 5"),
    ],
)
def test_what_cannot_be_consistent_is_refused_with_the_reason(enter, given: Given, chains, reason: str):
    done = given("events", enter(*chains))
    assert done.exit_code == 1
    assert "data collection 1" in str(done.exception)
    assert reason in str(done.exception)


def test_a_data_collection_of_another_group_is_said(enter, given: Given):
    done = given("events", enter(WELLS), "--collection", "7")
    assert str(done.exception) == "group 1 has no data collection 7; it has 1"
