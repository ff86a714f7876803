"""The databases of a site: ISPyB where there is one, and the ledger."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.permissions import check_group
from flows.secret_values import reveal
from flows.settings import SiteSettings
from ispyb_io.engines import open_engine
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import Processing
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import IspybClient
from ispyb_io.records import DataCollectionGroup
from ispyb_io.rest_address import is_rest
from ssx_processing.errors import SettingsError

LEDGER_FILE = "ssx-ledger.sqlite"


@dataclass(frozen=True)
class Databases:
    """The ledger, and ISPyB where there is one."""

    ledger: Ledger
    ispyb: IspybClient | None

    def require_ispyb(self) -> IspybClient:
        """The client; an error where the site has none."""
        if self.ispyb is None:
            raise SettingsError("no ISPyB is configured; set SSX_ISPYB_URL, or name image files")
        return self.ispyb

    def group(self, group_id: int, site: SiteSettings) -> DataCollectionGroup:
        """Read a data collection group that a command of this site may see.

        Raises
        ------
        NotFoundError
            There is none.
        NotAllowedError
            It is of another proposal than that to which the command is bound.
        """
        group = self.require_ispyb().group(group_id)
        check_group(site, group)
        return group


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
        ispyb = None
        if site.ispyb_url is not None:
            ispyb = stack.enter_context(open_ispyb(reveal(site.ispyb_url)))
        address = ledger_address(site, ledger_folder)
        ledger_engine = open_engine(address, create=create)
        stack.callback(ledger_engine.dispose)
        ledger = Ledger(ledger_engine, proposal=site.proposal)
        if create:
            ledger.create_tables()
        yield Databases(ledger, ispyb)


@contextmanager
def open_ispyb(url: str) -> Iterator[IspybClient]:
    """Client for ISPyB's database, or for py-ispyb where the address is one of the web."""
    if is_rest(url):
        from ispyb_io.rest_client import open_rest  # httpx takes its time to import

        with closing(open_rest(url)) as client:
            yield client
        return
    engine = open_engine(url)
    try:
        yield OrmClient(engine)
    finally:
        engine.dispose()


def ledger_address(site: SiteSettings, ledger_folder: Path | None) -> str | Path:
    """The site's ledger; else a file in the folder given, else in the user's data."""
    if site.ledger_url is not None:
        return reveal(site.ledger_url)
    return (ledger_folder or site.data_home) / LEDGER_FILE


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
    with_result = [processing for processing in processings if processing.status.has_result]
    if not with_result:
        what = folder or f"group {group_id}"
        raise SettingsError(f"{what} has no result; see ssx status, run ssx process first")
    return max(with_result, key=lambda processing: str(processing.ended))
