"""What ISPyB's event chains say of frames tells the subsets of a merge; what they cannot say is noticed."""

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from flows.job import ProcessRequest
from flows.merge import MergeRequest, run_merge
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import SettingsError

BY_LASER = {"merging": {"subset_by": "laser", "d_min": 3.0}}


def change(ispyb: Engine, *statements: str) -> None:
    with ispyb.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_subsets_are_told_by_the_events_of_ispyb(group_id: int, ispyb: Engine, site: SiteSettings):
    laser = "(SELECT eventTypeId FROM EventType WHERE name = 'LaserExcitation')"
    change(
        ispyb,
        "UPDATE Event SET repetition = 2, period = 0.01, duration = 0.01",
        'INSERT INTO Event (eventChainId, eventTypeId, "offset") '  # noqa: S608
        f"SELECT eventChainId, {laser}, 0.01 FROM EventChain",
    )
    first = run_process(ProcessRequest(group_id=group_id, settings=BY_LASER), site)
    assert [subset.label for subset in first.merge.subsets] == ["off", "on"]
    assert first.notices == ()
    lattices = pd.read_parquet(first.merge.folder / "lattices.parquet")
    assert (lattices["subset"] == lattices["frame"].mod(2).map({0: "off", 1: "on"})).all()

    change(ispyb, 'UPDATE Event SET "offset" = -0.01 WHERE duration IS NULL')
    always = run_merge(MergeRequest(group_id=group_id, settings=BY_LASER))
    assert always.notices == (
        "laser never toggles: it is on in all 80 frames, there is no dark to compare with",
    )
    assert always.merge.key != first.merge.key
    assert [subset.label for subset in always.merge.subsets] == ["on"]

    change(ispyb, "UPDATE Event SET repetition = 7 WHERE repetition = 2")
    reason = "data collection 1: event chain 'wells': expected a multiple of 7 frames"
    with pytest.raises(SettingsError, match=f"merging.subset_by 'laser' needs the events.*{reason}"):
        run_merge(MergeRequest(group_id=group_id, settings=BY_LASER))
    without = run_merge(MergeRequest(group_id=group_id, settings={"merging": {"subset_by": None}}))
    assert without.status is WorkStatus.SUCCESS
    assert [notice.startswith(reason) for notice in without.notices] == [True]
    assert reason in without.message
