"""The databases of a site: ISPyB where there is one, what is on its way there, and the ledger."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL

from flows.permissions import check_group
from flows.secret_values import reveal
from flows.settings import SiteSettings
from ispyb_io.engines import destination_of, open_engine
from ispyb_io.group_copies import GroupCopies
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import Processing, newest_result
from ispyb_io.outbox import Outbox
from ispyb_io.protocol import IspybClient, UnavailableError
from ispyb_io.records import DataCollectionGroup
from ispyb_io.rest_address import is_rest, parse_rest_address
from ispyb_io.retrying import RetryingClient
from ssx_processing.errors import SettingsError

logger = logging.getLogger(__name__)

LEDGER_FILE = "ssx-ledger.sqlite"
OUTBOX_FILE = "ssx-outbox.sqlite"


@dataclass(frozen=True)
class Databases:
    """The ledger, and ISPyB where there is one, with its outbox and copies of what was read there."""

    ledger: Ledger
    ispyb: IspybClient | None
    outbox: Outbox | None = None
    copies: GroupCopies | None = None
    notices: list[str] = field(default_factory=list)
    """What must be known of that which was read here."""

    def require_ispyb(self) -> IspybClient:
        """The client; an error where the site has none."""
        if self.ispyb is None:
            raise SettingsError("no ISPyB is configured; set SSX_ISPYB_URL, or name image files")
        return self.ispyb

    def require_outbox(self) -> Outbox:
        """The outbox; an error where the site has no ISPyB."""
        if self.outbox is None:
            raise SettingsError("no ISPyB is configured, so there is no outbox; set SSX_ISPYB_URL")
        return self.outbox

    def group(self, group_id: int, site: SiteSettings) -> DataCollectionGroup:
        """Read a data collection group that a command of this site may see.

        While ISPyB is away, a group that was read before is as it was then.

        Raises
        ------
        UnavailableError
            ISPyB does not answer, and the group was not read before.
        NotFoundError
            There is none.
        NotAllowedError
            It is of another proposal than that to which the command is bound.
        """
        try:
            group = self.require_ispyb().group(group_id)
        except UnavailableError as error:
            group = self._copy(group_id, error)
        else:
            if self.copies is not None:
                self.copies.keep(group)
        check_group(site, group)
        return group

    def _copy(self, group_id: int, error: UnavailableError) -> DataCollectionGroup:
        found = None if self.copies is None else self.copies.find(group_id)
        if found is None:
            raise UnavailableError(
                f"group {group_id} cannot be read now, and was never read on this computer, so its files "
                f"are not known: {error}"
            ) from error
        group, read_at = found
        notice = f"ISPyB did not answer; its record of the group is as of {read_at:%Y-%m-%d %H:%M:%S}"
        logger.warning("group %d: %s: %s", group_id, notice, error)
        self.notices.append(notice)
        return group

    def included(self, group: DataCollectionGroup) -> DataCollectionGroup:
        """Leave out the data collections that somebody excluded from this group.

        Raises
        ------
        SettingsError
            All of them are.
        """
        excluded = self.ledger.excluded(group.group_id)
        kept = tuple(c for c in group.data_collections if c.data_collection_id not in excluded)
        if group.data_collections and not kept:
            reasons = "; ".join(f"{id_}: {reason}" for id_, reason in excluded.items())
            raise SettingsError(
                f"group {group.group_id} ({group.proposal}): all its data collections are excluded "
                f"({reasons}); ssx groups include takes one back"
            )
        return group.model_copy(update={"data_collections": kept})


@contextmanager
def open_databases(
    site: SiteSettings, ledger_folder: Path | None = None, *, create: bool = True
) -> Iterator[Databases]:
    """Connect to the site's ISPyB and ledger.

    Parameters
    ----------
    ledger_folder
        Where the ledger is if the site does not say.
    create
        Make the ledger where it is missing; else that is an error.
    """
    with ExitStack() as stack:
        ispyb = outbox = copies = None
        if site.ispyb_url is not None:
            ispyb = stack.enter_context(open_ispyb(reveal(site.ispyb_url)))
        address = ledger_address(site, ledger_folder, create=create)
        ledger_engine = open_engine(address, create=create)
        stack.callback(ledger_engine.dispose)
        ledger = Ledger(ledger_engine, proposal=site.proposal)
        if create:
            ledger.create_tables()
        if site.ispyb_url is not None and create and ledger_folder is None:
            outbox_engine = open_engine(outbox_file(site, ledger_engine.url), create=True, durable=True)
            stack.callback(outbox_engine.dispose)
            destination = place_of(reveal(site.ispyb_url))
            outbox = Outbox(outbox_engine, destination, proposal=site.proposal)
            outbox.create_tables()
            copies = GroupCopies(outbox_engine, destination)
        yield Databases(ledger, ispyb, outbox, copies)


@contextmanager
def open_ispyb(url: str) -> Iterator[IspybClient]:
    """Client for ISPyB's database, or for py-ispyb where the address is one of the web."""
    if is_rest(url):
        from ispyb_io.rest_client import open_rest  # httpx takes its time to import

        with closing(open_rest(url)) as client:
            yield client
        return
    from ispyb_io.orm_client import OrmClient  # and the tables of all sites

    engine = open_engine(url)
    try:
        yield RetryingClient(OrmClient(engine))
    finally:
        engine.dispose()


def ledger_address(site: SiteSettings, ledger_folder: Path | None, *, create: bool = True) -> str | Path:
    """The site's ledger; else a file in the folder given, else in the user's data.

    Where nothing may be made and the folder has no ledger, its results may be those of a group of ISPyB.
    """
    if site.ledger_url is not None:
        return reveal(site.ledger_url)
    of_site = site.data_home / LEDGER_FILE
    if ledger_folder is None:
        return of_site
    of_folder = ledger_folder / LEDGER_FILE
    is_of_site = not create and not of_folder.is_file() and of_site.is_file()
    return of_site if is_of_site else of_folder


def place_of(ispyb_url: str) -> str:
    """Name of an ISPyB that tells no account and no password."""
    return parse_rest_address(ispyb_url).url if is_rest(ispyb_url) else destination_of(ispyb_url)


def outbox_file(site: SiteSettings, ledger: URL) -> Path:
    """Beside the ledger if that is a file, so that all who use it share the outbox; else in data_home."""
    if ledger.get_backend_name() == "sqlite" and ledger.database:
        return Path(ledger.database).absolute().with_name(OUTBOX_FILE)
    return site.data_home / OUTBOX_FILE


def processing_of(ledger: Ledger, group_id: int | None, folder: Path | None) -> Processing:
    """The newest processing with a result of a group, or of the files processed into a folder.

    Raises
    ------
    SettingsError
        There is none.
    """
    processings = ledger.processings(data_collection_group_id=group_id)
    if folder is not None:
        processings = [processing for processing in processings if processing.folder == folder]
    newest = newest_result(processings)
    if newest is None:
        what = folder or f"group {group_id}"
        raise SettingsError(f"{what} has no result; see ssx status, run ssx process first")
    return newest
