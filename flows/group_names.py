"""Names of processing groups: which may be given, and which group is meant."""

import re

from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import ProcessingGroup
from ssx_processing.errors import SettingsError

POSSIBLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,99}")
OF_COLLECTED = re.compile(r"group \d+")


def check_name(name: str) -> None:
    """Raise if no group may be called so.

    Raises
    ------
    SettingsError
        It could not be told from a number, or is the name of a group of ISPyB, or no name of a folder.
    """
    if not POSSIBLE.fullmatch(name) or name.endswith((" ", ".")):
        problem = (
            "has letters, digits, spaces and _ . + - only, at most 100, and begins with one of the first two"
        )
    elif name.isdigit():
        problem = "is more than a number, which would be that of a group of the ledger"
    elif OF_COLLECTED.fullmatch(name.lower()):
        problem = "is none of ISPyB's own groups, which are called so"
    else:
        return
    raise SettingsError(f"group {name!r}: a name {problem}; give another")


def group_named(name: str | int, ledger: Ledger) -> ProcessingGroup:
    """The processing group of this name, or with this number in the ledger.

    Raises
    ------
    SettingsError
        There is none, or one in each of several proposals.
    """
    found = ledger.find_groups(int(name) if str(name).isdigit() else name)
    if not found:
        raise SettingsError(f"there is no processing group {name}; ssx groups lists them")
    if len(found) > 1:
        each = ", ".join(f"{group.group_id} ({group.proposal})" for group in found)
        raise SettingsError(f"several processing groups are called {name}; give the number of one: {each}")
    return found[0]


def folder_name(name: str, number: int) -> str:
    """Name of a group's folder; one that had to be changed has the group's number, so that none is shared.

    Examples
    --------
    >>> folder_name("lyso-dark", 7), folder_name("lyso dark", 8)
    ('lyso-dark', 'lyso_dark-8')
    """
    changed = re.sub("[^A-Za-z0-9_.+-]", "_", name)
    return changed if changed == name else f"{changed}-{number}"
