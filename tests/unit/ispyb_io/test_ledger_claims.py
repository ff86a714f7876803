"""Of many that want a claim at once, one gets it. Runs on both servers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from ispyb_io.ledger import Ledger
from ispyb_io.ledger_claims import Claim, Owner

KEY, PROPOSAL = "a1", "mx1"


@pytest.fixture(params=["sqlite_ispyb", "mariadb_ispyb"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    engine: Engine = request.getfixturevalue(request.param)
    ledger = Ledger(engine)
    ledger.create_tables()
    return ledger


def owner(number: int) -> Owner:
    return Owner(token=f"token {number}", host="node7", pid=number, process_start="1")


def all_take(ledger: Ledger, over: Claim | None) -> None:
    """Eight try at once: one gets it, and the others are told who."""
    owners = [owner(number) for number in range(8)]
    with ThreadPoolExecutor(len(owners)) as threads:
        others = list(threads.map(lambda one: ledger.claims.take(KEY, one, PROPOSAL, over=over), owners))
    (held,) = ledger.claims.held()
    assert held.owner in owners
    assert sorted(other is None for other in others) == [False] * 7 + [True]
    assert others[owners.index(held.owner)] is None
    assert {other.owner.token for other in others if other is not None} == {held.owner.token}


def test_of_many_at_once_one_gets_a_free_claim(ledger: Ledger):
    all_take(ledger, None)


def test_of_many_at_once_one_takes_over_the_claim_of_a_dead_owner(ledger: Ledger):
    ledger.claims.take(KEY, owner(99), PROPOSAL)
    all_take(ledger, ledger.claims.held()[0])
    assert not ledger.claims.beat(KEY, owner(99))


def test_an_owner_that_beat_since_it_was_looked_at_keeps_its_claim(ledger: Ledger):
    ledger.claims.take(KEY, owner(99), PROPOSAL)
    (seen,) = ledger.claims.held()
    assert ledger.claims.beat(KEY, owner(99))
    other = ledger.claims.take(KEY, owner(1), PROPOSAL, over=seen)
    assert other is not None
    assert other.owner == owner(99)


def test_a_claim_let_go_is_free_and_a_former_owner_cannot_let_go_of_the_next_ones(ledger: Ledger):
    ledger.claims.take(KEY, owner(1), PROPOSAL)
    ledger.claims.release(KEY, owner(1))
    assert ledger.claims.held() == []
    assert ledger.claims.take(KEY, owner(2), PROPOSAL) is None
    ledger.claims.release(KEY, owner(1))
    assert [claim.owner for claim in ledger.claims.held(proposal=PROPOSAL)] == [owner(2)]
