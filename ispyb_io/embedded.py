"""An ISPyB in one SQLite file, with ESRF's tables as far as we touch them: for the demo and the tests."""

from pathlib import Path

from sqlalchemy import URL, Engine

from ispyb_io import result_tables as _result_tables  # noqa: F401  registers its tables with Base
from ispyb_io.column_types import table
from ispyb_io.engines import open_engine
from ispyb_io.tables import Base, ComponentType, ConcentrationType, EventType
from ispyb_io.transactions import put, writing

EVENT_TYPES = ("XrayDetection", "XrayExposure", "LaserExcitation", "ReactionTrigger")
COMPONENT_TYPES = ("Ligand", "Buffer", "JetMaterial")
CONCENTRATION_TYPES = {"Molar": "M", "Millimolar": "mM", "Percentage Weight / Volume": "%(w/v)"}
"""Name to symbol."""


def create_embedded_ispyb(url: str | Path | URL) -> Engine:
    """Open an embedded ISPyB, made first if it is not there; may be called at any time.

    Parameters
    ----------
    url
        Path of an SQLite file, or the address of an empty MariaDB database.
    """
    engine = open_engine(url, create=True)
    create_ispyb_tables(engine)
    return engine


def create_ispyb_tables(engine: Engine) -> None:
    """Make the tables that are not there, and fill those that hold words."""
    with writing(engine, "create ISPyB's tables") as connection:
        Base.metadata.create_all(connection)
        for name in EVENT_TYPES:
            put(connection, table(EventType), {"name": name}, {})
        for name in COMPONENT_TYPES:
            put(connection, table(ComponentType), {"name": name}, {})
        for name, symbol in CONCENTRATION_TYPES.items():
            put(connection, table(ConcentrationType), {"name": name}, {"symbol": symbol})
