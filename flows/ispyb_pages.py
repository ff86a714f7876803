"""What the web pages of the facilities show of a group, and why not; one small rule each.

The rules were read in py-ispyb-ui (f7b0d4bb, 2024-01) and SynchWeb (340a7bc9, 2026-06); a site may have
changed its own. They go by the record, not by the site: each page is asked about each group.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from ispyb_io.protocol import plain_label
from ispyb_io.records import DataCollectionGroup, Offers, Record
from ispyb_io.ssx_files import CELLS_NAME, STATS_NAME

SSX_PAGE = frozenset({"SSX-Chip", "SSX-Jet"})
SERIAL = frozenset({"Serial Fixed", "Serial Jet"})
MOST_RUNS = 100
"""Data collections of a group that py-ispyb-ui's SSX page asks for."""


class Shown(Record):
    """One thing that a page shows, or does not."""

    page: str
    shown: bool
    what: str
    """A sentence."""


def pages_of_site(offers: Offers) -> list[Shown]:
    """What the pages can show at all with this database."""
    return [*_py_ispyb_of_site(offers), *_synchweb_of_site(offers)]


def _py_ispyb_of_site(offers: Offers) -> Iterator[Shown]:
    page = "py-ispyb-ui"
    types = offers.experiment_types
    if types is not None and not SSX_PAGE & set(types):
        yield Shown(
            page=page, shown=False, what="experimentType knows no SSX-Chip and no SSX-Jet: no SSX page"
        )
    if "AutoProcProgram.dataCollectionId" in offers.missing_columns:
        yield Shown(
            page=page,
            shown=False,
            what="AutoProcProgram has no dataCollectionId: no hit rates and no cell histograms",
        )
    else:
        yield Shown(
            page=page,
            shown=True,
            what="hit rates and cell histograms on the SSX page, if the server has the SSX web services",
        )
    yield Shown(
        page=page, shown=False, what="merged results of SSX-Chip and SSX-Jet groups: its SSX page has none"
    )


def _synchweb_of_site(offers: Offers) -> Iterator[Shown]:
    page = "SynchWeb"
    types = offers.experiment_types
    if types is not None and not SERIAL & set(types):
        yield Shown(page=page, shown=False, what="experimentType knows no Serial Fixed and no Serial Jet")
        return
    yield Shown(page=page, shown=True, what="merged results of Serial Fixed and Serial Jet groups")
    messages = " and its list of messages" if "AutoProcProgramMessage" in offers.tables else ""
    where = f"the message of the program{messages}"
    yield Shown(
        page=page, shown=True, what=f"hit and indexing rates as text, in {where}; nowhere as a figure"
    )


def pages_of_group(group: DataCollectionGroup, attached: Mapping[int, Counter[str]]) -> list[Shown]:
    """What the pages show of a group as it is recorded.

    Parameters
    ----------
    attached
        Of each data collection, how often a file name is attached to programs of its own.
    """
    return [*_py_ispyb(group, attached), *_synchweb(group)]


def _py_ispyb(group: DataCollectionGroup, attached: Mapping[int, Counter[str]]) -> Iterator[Shown]:
    page = "py-ispyb-ui"
    if group.experiment_type not in SSX_PAGE:
        what = f"{group.experiment_type} is shown on the common page: merged results, no hit rates"
        yield Shown(page=page, shown=True, what=what)
        return
    if group.sample is None:
        yield Shown(page=page, shown=False, what="the group has no sample: its SSX page stays empty")
        return
    collections = group.data_collections
    if len(collections) > MOST_RUNS:
        yield Shown(page=page, shown=False, what=f"only {MOST_RUNS} of {len(collections)} data collections")
    unknown = sum(not collection.n_images for collection in collections)
    if unknown:
        what = f"{unknown} of {len(collections)} data collections have no numberOfImages: rates are wrong"
        yield Shown(page=page, shown=False, what=what)
    counts = [attached.get(d.data_collection_id, Counter()) for d in collections]
    with_files = sum(count[STATS_NAME] > 0 and count[CELLS_NAME] > 0 for count in counts)
    what = f"hit rates and cells of {with_files} of {len(collections)} data collections"
    yield Shown(page=page, shown=with_files > 0, what=what)
    if twice := sum(count[STATS_NAME] > 1 for count in counts):
        what = f"{twice} data collections have several {STATS_NAME}: their hits count double"
        yield Shown(page=page, shown=False, what=what)


def _synchweb(group: DataCollectionGroup) -> Iterator[Shown]:
    page = "SynchWeb"
    label = group.experiment_type or ""
    if label in SERIAL:
        yield Shown(page=page, shown=True, what="merged results, and rates in the program's message")
    elif plain_label(label) in {plain_label(name) for name in SSX_PAGE}:
        yield Shown(page=page, shown=False, what=f"{label} is drawn as a grid scan, without processing")
    else:
        yield Shown(
            page=page, shown=False, what=f"{label or 'no experimentType'}: no processing unless it rotates"
        )
