"""Who and what makes a result, as it stands in the ledger and in ISPyB."""

import getpass
import os
import platform

from ssx_processing import __version__
from ssx_processing.settings import ALGORITHM_VERSION

PROGRAM = "ssx-orchestrator"


def user_name() -> str:
    """Who runs this; the number of a user who has no name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def versions() -> dict[str, str]:
    """What computed a result."""
    return {
        "ssx-orchestrator": __version__,
        "algorithm": ALGORITHM_VERSION,
        "python": platform.python_version(),
    }
