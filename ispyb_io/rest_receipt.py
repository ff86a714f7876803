"""Which result py-ispyb was told of: a small file beside the result's own.

py-ispyb adds a row with each POST and cannot be asked for it by a key of ours. Its statistics show a
row only while its server can read our files. So what was told is kept here too.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

RECEIPT_NAME = ".ispyb_rest.json"


class Receipt:
    """The file, locked: one writer at a time looks, tells and notes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        file.seek(0)
        self._told = _entries(file.read())

    def find(self, url: str, data_collection_id: int) -> dict[str, Any] | None:
        """What was noted for a data collection at an address; None if nothing."""
        for entry in self._told:
            if (entry.get("url"), entry.get("dataCollectionId")) == (url, data_collection_id):
                return entry
        return None

    def add(self, url: str, data_collection_id: int, program_id: int | None) -> None:
        """Note that a data collection's result was told; its id if it is known."""
        entry = {"url": url, "dataCollectionId": data_collection_id, "autoProcProgramId": program_id}
        self._told.append(entry)
        self._file.seek(0)
        self._file.truncate()
        json.dump(self._told, self._file)
        self._file.flush()


def _entries(content: str) -> list[dict[str, Any]]:
    """None where the file is new, or was being written when its writer was killed."""
    try:
        entries = json.loads(content)
    except ValueError:
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


@contextmanager
def locked_receipt(folder: Path) -> Iterator[Receipt]:
    """Receipt of a folder, made if it is missing; waits for another writer to finish."""
    with (folder / RECEIPT_NAME).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Receipt(file)
