"""What the watcher and the ledger of a site say."""

from flows.databases import open_databases
from flows.looks import GroupLook, look_at_groups
from flows.settings import SiteSettings
from ispyb_io.ledger_records import Processing


def look(site: SiteSettings) -> list[GroupLook]:
    """What the watcher thinks of the site's groups."""
    with open_databases(site) as databases:
        return list(look_at_groups(site, databases))


def only_processing(site: SiteSettings) -> Processing:
    """The one processing in the site's ledger."""
    with open_databases(site) as databases:
        (processing,) = databases.ledger.processings()
    return processing
