"""What ``ssx ispyb check`` looks at: schema, rights, pages, the latest groups."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from flows.databases import ledger_address
from flows.ispyb_pages import Shown, pages_of_group, pages_of_site
from flows.reconciliation import (
    Finding,
    files_without_record,
    findings_of_group,
    findings_of_overlooked,
)
from flows.settings import SiteSettings
from ispyb_io.asked_jobs import can_ask, read_asked_jobs
from ispyb_io.engines import open_engine, shown
from ispyb_io.flavour import Flavour
from ispyb_io.ledger_tables import LedgerBase
from ispyb_io.records import DataCollectionGroup, Offers, Record
from ispyb_io.rights import Right, rights_in, rights_on
from ispyb_io.survey import Scope, attached_files, latest_groups, templates_in
from ispyb_io.transactions import reading

NO_JOBS = "re-processing cannot be asked for: there is no table ProcessingJob"


class GroupSeen(Record):
    """One of the latest serial groups."""

    group_id: int
    proposal: str
    beamline: str
    experiment_type: str | None
    start_time: datetime.datetime | None
    n_data_collections: int
    sample: str
    pages: tuple[Shown, ...]


class LedgerSeen(Record):
    """The ledger's tables."""

    address: str
    tables: tuple[str, ...]
    missing_tables: tuple[str, ...]
    rights: tuple[Right, ...]


class IspybCheck(Record):
    """All that was looked at."""

    address: str
    """Without password."""
    offers: Offers
    rights: tuple[Right, ...]
    ledger: LedgerSeen | None
    """None: it will be made in a file when it is needed."""
    pages: tuple[Shown, ...]
    groups: tuple[GroupSeen, ...]
    findings: tuple[Finding, ...]
    asking: str
    """Whether re-processing can be asked for there, and what waits."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What stops results from being written, one sentence each."""
        rights = (*self.rights, *(self.ledger.rights if self.ledger else ()))
        refused = [
            f"no {right.action} on {right.table}: {right.reason}" for right in rights if not right.allowed
        ]
        return (*self.offers.problems, *refused)


def check_database(address: str, site: SiteSettings, scope: Scope, *, with_files: bool) -> IspybCheck:
    """Look at an ISPyB database; nothing is written.

    Parameters
    ----------
    with_files
        Look for the files of the groups, and open them.

    Raises
    ------
    UnavailableError
        It does not answer.
    RejectedError
        The address or the account is wrong.
    """
    with closing_engine(address) as engine:
        with reading(engine) as connection:
            flavour = Flavour.of(connection)
        offers = flavour.offers()
        groups, findings, asking = (), (), NO_JOBS
        if not any("there is no table" in problem for problem in offers.problems):
            with reading(engine) as connection:
                groups, findings = _look(connection, flavour, site, scope, with_files=with_files)
                if can_ask(flavour):
                    jobs = ", ".join(str(job.job_id) for job in read_asked_jobs(connection, flavour))
                    asking = f"re-processing can be asked for; jobs that wait: {jobs or 'none'}"
        return IspybCheck(
            address=shown(engine.url),
            offers=offers,
            rights=tuple(rights_in(engine, flavour, with_images=site.record_images)),
            ledger=look_at_ledger(site),
            pages=tuple(pages_of_site(offers)),
            groups=groups,
            findings=findings,
            asking=asking,
        )


@contextmanager
def closing_engine(address: str | Path) -> Iterator[Engine]:
    """Engine that is disposed of at the end."""
    engine = open_engine(address)
    try:
        yield engine
    finally:
        engine.dispose()


def _look(
    connection: Connection, flavour: Flavour, site: SiteSettings, scope: Scope, *, with_files: bool
) -> tuple[tuple[GroupSeen, ...], tuple[Finding, ...]]:
    groups, overlooked = latest_groups(connection, flavour, scope)
    ids = [d.data_collection_id for group in groups for d in group.data_collections]
    attached = attached_files(connection, flavour, ids)
    seen = tuple(_seen(group, tuple(pages_of_group(group, attached))) for group in groups)
    findings = [*findings_of_overlooked(overlooked)]
    for group in groups:
        findings += findings_of_group(group, site, with_files=with_files)
    if with_files:
        findings += files_without_record(groups, site, partial(templates_in, connection))
    return seen, tuple(findings)


def _seen(group: DataCollectionGroup, pages: tuple[Shown, ...]) -> GroupSeen:
    return GroupSeen(
        group_id=group.group_id,
        proposal=group.proposal,
        beamline=group.beamline,
        experiment_type=group.experiment_type,
        start_time=group.start_time,
        n_data_collections=len(group.data_collections),
        sample=group.sample.name if group.sample else "",
        pages=pages,
    )


def look_at_ledger(site: SiteSettings) -> LedgerSeen | None:
    """Tables of the site's ledger, and what the account may do with them; None for a file not made yet."""
    address = ledger_address(site, None)
    if isinstance(address, Path) and not address.is_file():
        return None
    with closing_engine(address) as engine:
        with reading(engine) as connection:
            there = set(inspect(connection).get_table_names())
        ours = LedgerBase.metadata.sorted_tables
        present = [table for table in ours if table.name in there]
        return LedgerSeen(
            address=shown(engine.url),
            tables=tuple(table.name for table in present),
            missing_tables=tuple(table.name for table in ours if table.name not in there),
            rights=tuple(rights_on(engine, present, ("SELECT", "INSERT", "UPDATE"))),
        )
