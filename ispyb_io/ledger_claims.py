"""Who works on what: one claim for each processing, whose owner shows with a growing number that it lives.

No clock has a say: clocks of computers differ and jump. Whether a claim stands is judged by its number,
see docs/explanations/decisions/0017-claims-beat.md.
"""

from typing import Any

from sqlalchemy import Connection, Engine, Row, inspect, select

from ispyb_io import ledger_tables
from ispyb_io.column_types import table
from ispyb_io.records import Record
from ispyb_io.transactions import put, reading, writing

CLAIM = table(ledger_tables.SsxClaim)


class Owner(Record):
    """A process that works on something."""

    token: str
    """Of this one piece of work."""
    host: str
    pid: int
    process_start: str
    """Tells it from a later process with the same number."""


class Claim(Record):
    """A piece of work that somebody does."""

    key: str
    """Of the processing."""
    proposal: str
    owner: Owner
    beat: int
    """Grows as long as the owner lives."""


class Claims:
    """The claims in the ledger behind an engine; every method may be repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_there = False

    def held(self, *, key: str | None = None, proposal: str | None = None) -> list[Claim]:
        """List the claims that somebody holds, or held when it died."""
        query = select(CLAIM).where(CLAIM.c.isHeld).order_by(CLAIM.c.ssxClaimId)
        if key is not None:
            query = query.where(CLAIM.c.claimKey == key)
        if proposal is not None:
            query = query.where(CLAIM.c.proposal == proposal)
        with reading(self._engine) as connection:
            if not self._has_table(connection):
                return []
            return [_claim_from(row) for row in connection.execute(query)]

    def take(self, key: str, owner: Owner, proposal: str, *, over: Claim | None = None) -> Claim | None:
        """Take a claim that is free, or take one over; returns that of another who was first, else None.

        Parameters
        ----------
        over
            A claim whose owner was seen to be gone; it is taken if it still is as it was then.
        """
        with writing(self._engine, f"claim {key}") as connection:
            if not self._has_table(connection):
                return None
            row = connection.execute(select(CLAIM).where(CLAIM.c.claimKey == key)).first()
            if row is not None and row.isHeld and _claim_from(row) != over:
                return _claim_from(row)
            values = {
                "proposal": proposal,
                "token": owner.token,
                "host": owner.host,
                "pid": owner.pid,
                "processStart": owner.process_start,
                "beat": 0,
                "isHeld": True,
            }
            put(connection, CLAIM, {"claimKey": key}, values)
            return None

    def beat(self, key: str, owner: Owner) -> bool:
        """Show that the owner lives; False if the claim is another's by now."""
        return self._change(key, owner, {"beat": CLAIM.c.beat + 1})

    def release(self, key: str, owner: Owner) -> None:
        """Let go of a claim; one that is another's by now stays."""
        self._change(key, owner, {"isHeld": False})

    def _has_table(self, connection: Connection) -> bool:
        """Whether there is the table, which a ledger of a former version lacks; asked until there is."""
        self._is_there = self._is_there or inspect(connection).has_table(CLAIM.name)
        return self._is_there

    def _change(self, key: str, owner: Owner, values: dict[str, Any]) -> bool:
        mine = (CLAIM.c.claimKey == key, CLAIM.c.token == owner.token)
        with writing(self._engine, f"claim {key}") as connection:
            if not self._has_table(connection):
                return True
            return connection.execute(CLAIM.update().where(*mine).values(values)).rowcount == 1


def _claim_from(row: Row[Any]) -> Claim:
    owner = Owner(token=row.token, host=row.host, pid=row.pid, process_start=row.processStart)
    return Claim(key=row.claimKey, proposal=row.proposal, owner=owner, beat=row.beat)
