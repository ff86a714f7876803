"""The environment Prefect finds when it is imported: it reads its settings only once.

What the user has set is left alone. The reasons are measurements with Prefect 3.9: see
docs/explanations/decisions/0004-prefect-waits-for-an-executor.md.
"""

import logging
import os
import sys
from pathlib import Path

OUR_LOGGERS = ("ssx_processing", "ispyb_io", "flows")
SETTINGS = {
    # no telemetry, no look-up of host names outside, no banners
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # by default every task run is recorded by itself; an embedded server then loses those not
    # recorded when the process ends
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    # a busy machine takes longer than the 20 s that are allowed by default
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    # the default, cloudpickle, lets whoever can write a result run code in the reader
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # our log lines appear with the task they belong to
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(OUR_LOGGERS),
    # and outside a flow, e.g. while the watcher looks, they go without Prefect
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}

QUIET_CONSOLE = {
    # the terminal shows our progress; the log is in the Prefect UI
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}


def default_data_home() -> Path:
    """Folder of the user for our databases, apart from the ``~/.prefect`` of other uses."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "ssx-orchestrator"


def prepare(home: Path | None = None, *, quiet: bool = False) -> None:
    """Set what the user has not set; to be called before Prefect is imported.

    Parameters
    ----------
    home
        PREFECT_HOME, by default in ``default_data_home()``.
    quiet
        Nothing of Prefect on the terminal.

    Raises
    ------
    RuntimeError
        Prefect has been imported, so it is too late.
    """
    if "prefect" in sys.modules:
        raise RuntimeError("Prefect was imported before its environment was prepared")
    os.environ.setdefault("PREFECT_HOME", str(home or default_data_home() / "prefect"))
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect makes the last folder only
    for name, value in (SETTINGS | (QUIET_CONSOLE if quiet else {})).items():
        os.environ.setdefault(name, value)


def log_from_info() -> None:
    """Let the lines of our loggers through from INFO on; Prefect leaves the root logger at WARNING."""
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


def server_is_configured() -> bool:
    """Whether Prefect's settings name a server.

    Prefect is asked, whose import takes seconds, only if it was imported before, or if a place it reads
    settings from may name one.
    """
    if "prefect" not in sys.modules and not _may_name_a_server():
        return False
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() is not None


def _may_name_a_server() -> bool:
    if any(name in os.environ for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")):
        return True
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    files = {
        home / "profiles.toml": "API_URL",
        Path("prefect.toml"): "url",
        Path("pyproject.toml"): "tool.prefect",
        Path(".env"): "PREFECT_",
    }
    return any(path.is_file() and word in path.read_text(errors="replace") for path, word in files.items())
