"""``ssx ispyb check`` as a user runs it, on embedded databases with the faults that beamlines leave."""

import datetime
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from typer.testing import Result

from flows.ispyb_pages import pages_of_group, pages_of_site
from ispyb_io import tables
from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.column_types import table
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.engines import open_engine
from ispyb_io.protocol import RejectedError
from ispyb_io.records import DataCollection, DataCollectionGroup, Event, EventChain, Offers, Sample
from ssx_processing.errors import SettingsError
from ssx_processing.simulation.chip import SimulatedChip

START = datetime.datetime(2026, 11, 21, 9, 0, 0)
Given = Callable[..., Result]
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def ispyb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr("flows.prefect_environment.prepare", lambda *_, **__: None)
    monkeypatch.setenv("SSX_ISPYB_URL", f"sqlite:///{tmp_path}/ispyb.db")
    return create_embedded_ispyb(tmp_path / "ispyb.db")


@pytest.fixture
def check(given: Given) -> Check:
    """What the command prints as JSON; it must end well."""

    def run(*words: str) -> dict[str, Any]:
        done = given("ispyb", "check", "--json", *words)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def collected(master: Path, **values: Any) -> CollectedChip:
    known = {
        "proposal": "mx1234",
        "beamline": "ID29",
        "session_start": START,
        "protein_acronym": "lyso",
        "sample_name": "chip",
        "unit_cell": (79.1, 79.1, 37.9, 90.0, 90.0, 90.0),
        "space_group": "P43212",
        "image_directory": master.parent,
        "file_template": master.name,
        "n_images": 12,
        "wavelength": 1.0,
        "detector_distance_mm": 100.0,
        "beam_centre_mm": (1.0, 1.0),
        "exposure_s": 0.01,
        "start_time": START,
        "end_time": START,
    }
    return CollectedChip.model_validate(known | values)


def kinds(checked: dict[str, Any]) -> list[str]:
    return [finding["kind"] for finding in checked["findings"]]


def test_a_group_that_is_in_order_has_no_findings(ispyb: Engine, check: Check, chip: SimulatedChip):
    write_collected_chip(ispyb, collected(chip.master))
    checked = check()
    assert checked["findings"] == []
    assert [group["sample"] for group in checked["groups"]] == ["chip"]


@pytest.mark.parametrize(
    ("model", "values", "kind"),
    [
        (tables.DataCollection, {"numberOfImages": 11}, "number-of-images"),
        (tables.DataCollection, {"numberOfImages": None}, "number-of-images"),
        (tables.DataCollection, {"endTime": None}, "no-end-time"),
        (tables.DataCollection, {"imageDirectory": None}, "no-path"),
        (tables.DataCollection, {"fileTemplate": "lost.h5"}, "files"),
        (tables.DataCollectionGroup, {"blSampleId": None}, "no-sample"),
        (tables.DataCollectionGroup, {"experimentType": "SSX-CHIP"}, "misspelt-type"),
        (tables.DataCollectionGroup, {"experimentType": "OSC"}, "wrong-type"),
        (tables.DataCollectionGroup, {"experimentType": None}, "wrong-type"),
        (tables.Crystal, {"cell_a": 0}, "no-cell"),
        (tables.Crystal, {"spaceGroup": None}, "no-space-group"),
    ],
)
def test_each_fault_is_found(
    model: type[tables.Base],
    values: dict[str, Any],
    kind: str,
    ispyb: Engine,
    check: Check,
    chip: SimulatedChip,
):
    write_collected_chip(ispyb, collected(chip.master))
    with ispyb.begin() as connection:
        connection.execute(update(table(model)).values(values))
    found = check()["findings"]
    assert [finding["kind"] for finding in found] == [kind]
    assert found[0]["advice"]


def test_event_chains_that_cannot_be_are_found(ispyb: Engine, check: Check, chip: SimulatedChip):
    laser = Event(event_type="LaserExcitation", offset=0.0, duration=0.1)
    write_collected_chip(ispyb, collected(chip.master, event_chains=(EventChain(name="a", events=(laser,)),)))
    (found,) = check()["findings"]
    assert found["kind"] == "event-chain"
    assert "ssx events 1" in found["advice"]


def test_files_that_no_record_names_are_found(
    ispyb: Engine, check: Check, chip: SimulatedChip, tmp_path: Path
):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("chip1_master.h5", "dark_master.h5", "chip1_data_000001.h5", "notes.txt"):
        (raw / name).touch()
    write_collected_chip(ispyb, collected(raw / "chip1_master.h5"))
    (found,) = [f for f in check()["findings"] if f["kind"] == "no-record"]
    assert found["what"].endswith("that no record names: dark_master.h5")
    write_collected_chip(ispyb, collected(raw / "dark_master.h5", sample_name="other", beamline="ID23"))
    assert "no-record" not in kinds(check("--beamline", "ID29"))


def test_without_files_none_is_looked_for(ispyb: Engine, check: Check, tmp_path: Path):
    write_collected_chip(ispyb, collected(tmp_path / "lost.h5"))
    assert kinds(check()) == ["files"]
    assert kinds(check("--no-files")) == []


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("--groups", "10"), "--groups"),
        (("--since", "2026-11-21", "--beamline", "ID29"), "--since, --beamline"),
        (("--no-files",), "--files/--no-files"),
    ],
)
def test_a_py_ispyb_is_not_asked_what_only_a_database_can_tell(
    words: tuple[str, ...], options: str, given: Given, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flows.prefect_environment.prepare", lambda *_, **__: None)
    done = given("ispyb", "check", "https://ispyb.site.eu/ispyb/api/v1", *words)
    assert isinstance(done.exception, RejectedError)
    assert str(done.exception).startswith(f"only for databases: {options}; ")


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ((), ["late", "early"]),
        (("--groups", "1"), ["late"]),
        (("--since", "2026-11-22"), ["late"]),
        (("--beamline", "ID29"), ["early"]),
        (("--groups", "0"), []),
    ],
)
def test_which_groups_are_looked_at(
    words: tuple[str, ...], seen: list[str], ispyb: Engine, check: Check, tmp_path: Path
):
    later = START + datetime.timedelta(days=2)
    write_collected_chip(ispyb, collected(tmp_path / "a.h5", sample_name="early"))
    write_collected_chip(
        ispyb, collected(tmp_path / "b.h5", sample_name="late", start_time=later, beamline="I24")
    )
    assert [group["sample"] for group in check("--no-files", *words)["groups"]] == seen


def test_a_bound_command_sees_its_own_groups_only(
    ispyb: Engine, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_collected_chip(ispyb, collected(tmp_path / "a.h5", sample_name="mine"))
    write_collected_chip(ispyb, collected(tmp_path / "b.h5", sample_name="theirs", proposal="mx9876"))
    monkeypatch.setenv("SSX_PROPOSAL", "MX1234")
    assert "theirs" not in json.dumps(check())
    assert len(check()["groups"]) == 1


def test_files_outside_the_roots_are_not_opened(
    ispyb: Engine, check: Check, chip: SimulatedChip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_collected_chip(ispyb, collected(chip.master))
    monkeypatch.setenv("SSX_ALLOWED_ROOTS", f'["{tmp_path}/{{proposal}}"]')
    (found,) = check()["findings"]
    assert "outside the folders of this proposal" in found["what"]


def test_the_tables_are_printed_with_the_verdict(ispyb: Engine, given: Given, chip: SimulatedChip):
    write_collected_chip(ispyb, collected(chip.master, n_images=99))
    done = given("ispyb", "check")
    for words in ("mx1234", "Results can be written.", "numberOfImages says 99, the files have 12 frames",
                  "py-ispyb-ui: not shown", "write 7 of 7"):  # fmt: skip
        assert words in done.stdout


def test_what_stops_results_is_an_error(ispyb: Engine, given: Given):
    with ispyb.begin() as connection:
        connection.exec_driver_sql("DROP TABLE AutoProcProgramAttachment")
    done = given("ispyb", "check")
    assert isinstance(done.exception, RejectedError)
    assert "Results cannot be written" in done.stdout
    assert "AutoProcProgramAttachment" in str(done.exception)


def test_init_makes_a_database_once_and_says_how_to_use_it(given: Given, tmp_path: Path):
    for word in ("made", "was there"):
        assert word in given("ispyb", "init", "new/ispyb.db").stdout
    assert open_engine(tmp_path / "new" / "ispyb.db").url.database


@pytest.mark.parametrize("words", [("check",), ("ledger-sql", "--account", "nobody")])
def test_wrong_requests_are_errors(words: tuple[str, ...], given: Given, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSX_ISPYB_URL", raising=False)
    monkeypatch.setattr("flows.prefect_environment.prepare", lambda *_, **__: None)
    done = given("ispyb", *words)
    assert isinstance(done.exception, SettingsError | RejectedError)


SAMPLE = Sample(sample_id=1, name="chip", protein_acronym="lyso")
OURS = Counter({"ssx_stats.json": 1, "ssx_cells.json": 1})
TWICE = Counter({"ssx_stats.json": 2, "ssx_cells.json": 1})


def shown(
    experiment_type: str | None, sample: Sample | None, n_images: int | None, files: Counter[str]
) -> list[str]:
    collections = (DataCollection(data_collection_id=1, n_images=n_images),)
    group = DataCollectionGroup(
        group_id=1,
        session_id=1,
        proposal="mx1",
        experiment_type=experiment_type,
        sample=sample,
        data_collections=collections,
    )
    return [
        f"{'+' if page.shown else '-'} {page.page}: {page.what}" for page in pages_of_group(group, {1: files})
    ]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (("SSX-Chip", SAMPLE, 10, OURS), "+ py-ispyb-ui: hit rates and cells of 1 of 1 data collections"),
        (("SSX-Jet", SAMPLE, 10, Counter()), "- py-ispyb-ui: hit rates and cells of 0 of 1 data collections"),
        (("SSX-Chip", None, 10, OURS), "- py-ispyb-ui: the group has no sample: its SSX page stays empty"),
        (("SSX-Chip", SAMPLE, None, OURS), "- py-ispyb-ui: 1 of 1 data collections have no numberOfImages"),
        (("SSX-Chip", SAMPLE, 10, TWICE), "- py-ispyb-ui: 1 data collections have several ssx_stats.json"),
        (("Serial Jet", SAMPLE, 10, OURS), "+ py-ispyb-ui: Serial Jet is shown on the common page"),
        (("Serial Jet", SAMPLE, 10, OURS), "+ SynchWeb: merged results, and rates in the program's message"),
        (("SSX-Chip", SAMPLE, 10, OURS), "- SynchWeb: SSX-Chip is drawn as a grid scan, without processing"),
        ((None, SAMPLE, 10, OURS), "- SynchWeb: no experimentType: no processing unless it rotates"),
    ],
)  # fmt: skip
def test_each_rule_of_the_pages(record: tuple[Any, ...], line: str):
    assert any(found.startswith(line) for found in shown(*record))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "+ hit rates and cell histograms"),
        ({"missing_columns": ("AutoProcProgram.dataCollectionId",)}, "- AutoProcProgram has no"),
        ({"experiment_types": ("OSC", "Serial Jet")}, "- experimentType knows no SSX-Chip"),
        ({"experiment_types": ("OSC", "SSX-Jet")}, "- experimentType knows no Serial Fixed"),
        ({"tables": ("AutoProcProgramMessage",)}, "+ hit and indexing rates as text"),
    ],
)  # fmt: skip
def test_each_rule_of_the_schema(change: dict[str, Any], line: str):
    known = {
        "dialect": "mysql",
        "server_version": "",
        "tables": (),
        "missing_tables": (),
        "missing_columns": (),
    }
    offers = Offers.model_validate(known | {"experiment_types": None, "problems": ()} | change)
    assert any(f"{'+' if p.shown else '-'} {p.what}".startswith(line) for p in pages_of_site(offers))
