"""Membership with its history, groups made by a rule, ledgers of the former version; on both servers."""

import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import GroupKind, Member, Rule
from ispyb_io.ledger_sql import ledger_sql
from ispyb_io.ledger_tables import SsxProcessingGroupHistory
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.records import Relation

from .rows import count

FORMER = Path(__file__).parents[2] / "data" / "ledger"
SAME_SAMPLE = Rule(relation=Relation.SAMPLE, data_collection_group_id=5)


def execute(engine: Engine, statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements.split(";\n"):
            if statement.strip():
                connection.execute(text(statement))


@pytest.fixture(params=["sqlite_ispyb", "mariadb_ispyb"])
def former(request: pytest.FixtureRequest) -> Engine:
    """A ledger from before there was a history, with a group of two members."""
    engine: Engine = request.getfixturevalue(request.param)
    execute(engine, (FORMER / f"first_version_{engine.dialect.name}.sql").read_text())
    execute(
        engine,
        "INSERT INTO SsxProcessingGroup "
        "VALUES (1, 'mx1', 'lyso', 'collected', 5, 'ann', '2026-01-02 03:04:05');\n"
        "INSERT INTO SsxProcessingGroupMember VALUES (1, 1, 11, 1, '', 'ann', '2026-01-02 03:04:05');\n"
        "INSERT INTO SsxProcessingGroupMember VALUES (2, 1, 12, 0, 'dry', 'bob', '2026-01-03 03:04:05');\n",
    )
    return engine


def changes(ledger: Ledger, group_id: int) -> list[tuple[int, bool, str, str]]:
    return [
        (c.member.data_collection_id, c.member.included, c.member.reason, c.changed_by)
        for c in ledger.history(group_id)
    ]


def test_every_change_is_kept_and_none_is_edited(ledger: Ledger):
    group_id = ledger.ensure_group("mx1", "lyso", kind=GroupKind.CHOSEN).group_id
    assert ledger.add_members(group_id, [12, 11], changed_by="ann") == [11, 12]
    ledger.set_member(group_id, Member(data_collection_id=12, included=False, reason="dry"), changed_by="bob")
    first = changes(ledger, group_id)
    ledger.set_member(group_id, Member(data_collection_id=12, reason="it was 13"), changed_by="ann")
    assert first == [(11, True, "", "ann"), (12, True, "", "ann"), (12, False, "dry", "bob")]
    assert changes(ledger, group_id) == [*first, (12, True, "it was 13", "ann")]


def test_what_is_so_already_is_no_change(ledger: Ledger):
    group_id = ledger.ensure_group("mx1", "lyso").group_id
    for changed_by in ("ann", "bob"):
        ledger.add_members(group_id, [11], changed_by=changed_by)
        ledger.set_member(group_id, Member(data_collection_id=11), changed_by=changed_by)
    assert changes(ledger, group_id) == [(11, True, "", "ann")]
    assert ledger.add_members(group_id, [11]) == []


def test_members_change_all_or_none(ledger: Ledger):
    group_id = ledger.ensure_group("mx1", "lyso").group_id
    wrong = Member(data_collection_id=12).model_copy(update={"reason": None})
    with pytest.raises(RejectedError):
        ledger.set_members(group_id, [Member(data_collection_id=11), wrong])
    assert (ledger.members(group_id), ledger.history(group_id)) == ([], [])


def test_a_group_made_by_a_rule_knows_it(ledger: Ledger):
    made = ledger.ensure_group("mx1", "all lyso", kind=GroupKind.RULE, rule=SAME_SAMPLE)
    assert made.rule == SAME_SAMPLE
    assert ledger.groups() == ledger.find_groups("all lyso") == ledger.find_groups(made.group_id) == [made]
    assert ledger.ensure_group("mx1", "all lyso", kind=GroupKind.RULE, rule=SAME_SAMPLE) == made
    other = Rule(relation=Relation.PROTEIN, data_collection_group_id=5)
    with pytest.raises(RejectedError, match="choose another name"):
        ledger.ensure_group("mx1", "all lyso", kind=GroupKind.RULE, rule=other)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [(GroupKind.RULE, None), (GroupKind.CHOSEN, SAME_SAMPLE), (GroupKind.COLLECTED, SAME_SAMPLE)],
)
def test_only_groups_made_by_a_rule_have_one(ledger: Ledger, kind: GroupKind, rule: Rule | None):
    with pytest.raises(RejectedError, match="only kind rule has one"):
        ledger.ensure_group("mx1", "lyso", kind=kind, rule=rule)


def test_who_is_kept_out_of_a_group_of_ispyb(ledger: Ledger):
    collected = ledger.ensure_group("mx1", "group 5", data_collection_group_id=5).group_id
    chosen = ledger.ensure_group("mx1", "lyso", kind=GroupKind.CHOSEN).group_id
    ledger.set_member(collected, Member(data_collection_id=11))
    ledger.set_member(collected, Member(data_collection_id=12, included=False, reason="dry"))
    ledger.set_member(chosen, Member(data_collection_id=11, included=False, reason="too big"))
    assert ledger.excluded(5) == {12: "dry"}
    assert ledger.excluded(6) == {}


@pytest.mark.parametrize("by_owner", [False, True], ids=["in place", "by the SQL for the owner"])
def test_a_former_ledger_is_brought_up_to_date(former: Engine, by_owner: bool):
    for _ in range(2):
        if by_owner:
            execute(former, ledger_sql(dialect=former.dialect.name))
        else:
            Ledger(former).create_tables()
    ledger = Ledger(former)
    assert changes(ledger, 1) == [(11, True, "", "ann"), (12, False, "dry", "bob")]
    assert ledger.history(1)[1].changed_at == datetime.datetime(2026, 1, 3, 3, 4, 5)
    assert [(group.name, group.rule) for group in ledger.groups()] == [("lyso", None)]
    ledger.set_member(1, Member(data_collection_id=12), changed_by="ann")
    assert changes(ledger, 1)[2:] == [(12, True, "", "ann")]
    assert count(former, SsxProcessingGroupHistory) == 3


def test_a_change_in_no_group_is_not_found(ledger: Ledger):
    with pytest.raises(NotFoundError, match="no group 99"):
        ledger.add_members(99, [1])
