"""What event chains say of each frame, and what they are refused for."""

import math
from typing import Any

import numpy as np
import pytest

from ssx_processing.errors import EventChainError
from ssx_processing.pipeline.event_chain import ChainEvent, EventChain
from ssx_processing.pipeline.event_table import EventTable, event_table, never_toggles


def shot(offset: float | None = 0.0, **more: Any) -> ChainEvent:
    settings: dict[str, Any] = {"duration_s": 0.01} | more
    return ChainEvent("XrayDetection", offset, **settings)


def laser(offset: float | None = 0.0, **more: Any) -> ChainEvent:
    return ChainEvent("LaserExcitation", offset, **more)


def chain(*events: ChainEvent, name: str = "") -> EventChain:
    return EventChain(name, events)


def states(table: EventTable) -> str:
    return "".join("L" if state == "on" else "d" for state in table.frames["laser"])


def delays(table: EventTable) -> list[float]:
    return table.frames["delay_s"].tolist()


PER_WELL = {"period_s": 0.01, "repetition": 3.0}
ENDLESS = {"period_s": 0.01}


def test_pump_then_probe_on_a_chip_lights_every_shot_of_a_well_with_growing_delay():
    table = event_table([chain(shot(**PER_WELL), laser(-0.005, duration_s=0.001, repetition=1))], 6)
    assert states(table) == "LLLLLL"
    assert delays(table) == pytest.approx([0.005, 0.015, 0.025] * 2)
    assert table.frames["dose_index"].tolist() == [0, 1, 2, 0, 1, 2]
    assert table.frames["frame"].tolist() == list(range(6))
    assert table.n_runs == 2
    assert "event chain runs 2 times, with 3 frames each" in table.assumptions
    assert never_toggles([table]).startswith("laser never toggles: it is on in all 6 frames")


def test_pump_within_probe_leaves_the_shots_before_it_dark():
    table = event_table([chain(shot(**PER_WELL), laser(0.012))], 6)
    assert states(table) == "dLLdLL"
    assert delays(table)[1:3] == pytest.approx([-0.002, 0.008])
    assert any("starts during 1 of 3 frames" in line for line in table.assumptions)
    assert never_toggles([table]) == ""


@pytest.mark.parametrize(
    ("pulse", "expected", "delay"),
    [
        (laser(0.0, period_s=0.02), "LdLdLd", 0.0),
        (laser(-0.1, period_s=0.02), "LdLdLd", 0.1),
        (laser(0.009, period_s=0.02), "LdLdLd", -0.009),
        (laser(0.01, period_s=0.02), "dLdLdL", 0.0),
        (laser(0.00999999978, period_s=0.0199999996), "dLdLdL", 0.0),
        (laser(0.0, period_s=0.02, repetition=2), "LdLddd", 0.0),
        (laser(0.0), "Lddddd", 0.0),
        (laser(0.0, repetition=0), "dddddd", math.nan),
    ],
)
def test_frames_of_a_chain_that_runs_once_are_lit_pulse_by_pulse(
    pulse: ChainEvent, expected: str, delay: float
):
    for table in (
        event_table([chain(shot(**ENDLESS), pulse)], 6),
        event_table([chain(shot(period_s=0.01, repetition=6), pulse)], 6),
    ):
        assert states(table) == expected
        lit = table.frames.loc[table.frames["laser"] == "on", "delay_s"]
        assert lit.tolist() == pytest.approx([delay] * len(lit), abs=1e-8)
        assert table.frames["dose_index"].isna().all()


def test_single_precision_does_not_drift_over_a_million_frames():
    period = float(np.float32(1 / 300))
    pulses = laser(0.0, period_s=float(np.float32(2 / 300)))
    table = event_table([chain(shot(duration_s=period, period_s=period), pulses)], 1_000_000)
    assert (table.frames["laser"].to_numpy()[::2] == "on").all()
    assert (table.frames["laser"].to_numpy()[1::2] == "off").all()


def test_a_long_illumination_lights_all_frames_within_it():
    table = event_table([chain(shot(**ENDLESS), laser(0.02, duration_s=0.025))], 6)
    assert states(table) == "ddLLLd"
    assert delays(table)[2:5] == pytest.approx([0, 0.01, 0.02])


def test_in_a_jet_each_frame_is_another_crystal():
    cycle = [chain(shot(period_s=0.01, repetition=2), laser(-0.001))]
    assert states(event_table(cycle, 6, is_jet=True)) == "LdLdLd"
    assert event_table(cycle, 6, is_jet=True).frames["dose_index"].tolist() == [0] * 6
    assert states(event_table(cycle, 6)) == "LLLLLL"


def test_exposures_without_a_frame_count_as_dose_and_those_of_the_frames_do_not_count_twice():
    burn = ChainEvent("XrayExposure", -1.0, 0.1, period_s=0.2, repetition=4)
    own = ChainEvent("XrayExposure", 0.002, 0.001, period_s=0.01, repetition=3)
    table = event_table([chain(shot(**PER_WELL), burn, own, laser(0.0))], 3 * 4)
    assert table.frames["dose_index"].tolist()[:3] == [4, 5, 6]
    assert delays(table)[:3] == pytest.approx([0.002, 0.012, 0.022])


def test_a_reaction_once_triggered_goes_on_and_tells_the_delay_where_no_laser_does():
    trigger = ChainEvent("ReactionTrigger", 0.02)
    table = event_table([chain(shot(**ENDLESS), trigger)], 4)
    assert table.frames["reaction_trigger"].tolist() == ["off", "off", "on", "on"]
    assert delays(table)[2:] == pytest.approx([0, 0.01])
    assert set(table.frames["laser"]) == {"off"}


def test_chains_whose_offsets_tell_them_apart_alternate():
    light = chain(shot(0.0, period_s=0.02), laser(-0.001, period_s=0.02), name="light")
    dark = chain(shot(0.01, period_s=0.02), name="dark")
    table = event_table([dark, light], 6)
    assert states(table) == "LdLdLd"
    assert table.frames["chain"].tolist() == ["light", "dark"] * 3
    assert table.frames["dose_index"].isna().all()


def test_a_chain_recorded_twice_counts_once_and_unknown_events_are_left_out():
    one = chain(shot(), ChainEvent("MagicWand", 0.0))
    table = event_table([one, one], 3)
    assert table.warnings == (
        "1 of 2 event chains are recorded twice",
        "MagicWand is of an unknown kind and left out",
    )
    assert table.frames["dose_index"].tolist() == [0, 0, 0]


def test_a_period_that_nothing_depends_on_may_be_missing():
    table = event_table([chain(shot(repetition=3))], 6)
    assert table.frames["dose_index"].tolist() == [0, 1, 2, 0, 1, 2]


def test_pulses_that_reach_no_frame_are_said():
    table = event_table([chain(shot(), laser(0.05))], 4)
    assert states(table) == "dddd"
    assert table.warnings == (
        "LaserExcitation: 1 of 1 in each run of the chain come after the last frame that they could reach",
    )


@pytest.mark.parametrize(
    ("chains", "n_frames", "reason"),
    [
        ([], 4, "no event chain is recorded"),
        ([chain(laser())], 4, "expected an XrayDetection, got none .LaserExcitation."),
        ([chain(shot(duration_s=0.0, period_s=0.0, repetition=0))], 4, "a placeholder that says nothing"),
        ([chain(shot(**PER_WELL))], 8, "multiple of 3 frames.*got 8; one frame too many or too few"),
        ([chain(shot(**PER_WELL))], 7, "off by one; look at the first frames"),
        ([chain(shot(period_s=0.01, repetition=5))], 12, "got 12; the collection may have been stopped"),
        ([chain(shot())], 0, "has no frames"),
        ([chain(shot(repetition=3), laser())], 3, "XrayDetection: happens 3 times but has no period"),
        ([chain(shot(), laser(math.nan))], 3, "LaserExcitation: offset is nan, expected a number"),
        ([chain(shot(None))], 3, "XrayDetection: has no offset"),
        ([chain(shot(repetition=1.5))], 3, "repetition is 1.5, expected a whole number"),
        ([chain(shot(period_s=-1.0))], 3, "period is -1, expected nothing negative"),
        ([chain(shot(), name="a"), chain(shot(), laser(), name="b")], 4, "'a'.*'b': two frames at 0 s"),
        ([chain(shot(**ENDLESS), laser(period_s=0.015))], 4, "every 0.015 s, which fits no whole number"),
        ([chain(shot(repetition=3.0), shot(9.0, **ENDLESS))], 4, "has no period"),
        ([chain(shot(period_s=1, repetition=3), shot(9.0, **ENDLESS))], 2, "at least 3 frames, got 2"),
        ([chain(shot(period_s=1e-9, repetition=1e9))], 10**9, "expected at most 50000000"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(chains: list[EventChain], n_frames: int, reason: str):
    with pytest.raises(EventChainError, match=reason):
        event_table(chains, n_frames)
