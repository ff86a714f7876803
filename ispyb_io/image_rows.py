"""ImageQualityIndicators: what was seen on each image, compared in bulk; what is new or other is written.

ESRF and MAX IV have a row for each program and image, without a unique key. Diamond has one for each
image, whoever wrote it: there the rows of other programs, and of later results of ours, stay as they are.
"""

import datetime
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, bindparam, func, insert, literal_column, select, update
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.functions import Function

from ispyb_io import result_tables as results_in
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.protocol import RejectedError

if TYPE_CHECKING:
    import pandas as pd

IMAGES = table(results_in.ImageQualityIndicators)
ID = "imageQualityIndicatorsId"
BATCH = 5000
"""Images written in one transaction: others wait for the lock no longer than that takes."""
COLUMNS = {
    "spotTotal": "n_spots",
    "method1Res": "resolution_estimate",
    "totalIntegratedSignal": "total_intensity",
}
"""ISPyB's columns, and those of the tables of frames."""
SAME = 1e-5
"""Relative; MariaDB shows six digits of a float."""


def read_images(tables: Iterable[Path]) -> "pd.DataFrame":
    """Read tables of frames into ISPyB's columns, by image number; frames that were unreadable are left out.

    Raises
    ------
    RejectedError
        A table cannot be read.
    """
    import pandas as pd  # takes its time to import

    parts = []
    for path in tables:
        try:
            parts.append(pd.read_parquet(path, columns=["frame", "status", *COLUMNS.values()]))
        except (OSError, ValueError, KeyError) as error:
            raise RejectedError(
                f"{path}: the table of frames cannot be read ({error}); process the images again"
            ) from error
    frames = pd.concat(parts, ignore_index=True)
    frames = frames[frames["status"] != "unreadable"].sort_values("frame")
    images = frames[list(COLUMNS.values())].set_axis(list(COLUMNS), axis="columns")
    images = images.replace([float("inf"), float("-inf")], float("nan"))
    return images.set_index((frames["frame"] + 1).rename("imageNumber"))


class ImageRows:
    """Puts the rows of images through one connection, inside a transaction of ``transactions.writing``."""

    def __init__(self, connection: Connection, flavour: Flavour, now: datetime.datetime) -> None:
        if not flavour.has(IMAGES.name):
            raise RejectedError(f"there is no table {IMAGES.name} in this database; record no images here")
        self._connection = connection
        self._now = now
        self._has_id = flavour.has(IMAGES.name, ID)
        self._columns = [name for name in COLUMNS if flavour.has(IMAGES.name, name)]

    def put(
        self, data_collection_id: int, program_id: int, earlier: Collection[int], images: "pd.DataFrame"
    ) -> None:
        """Make the rows of images hold what was seen.

        Parameters
        ----------
        earlier
            Programs whose rows this one's take the place of, where an image has only one.
        images
            From `read_images`, or a part of it.
        """
        if images.empty:
            return
        ours = sorted({program_id, *earlier})
        there = self._there(data_collection_id, program_id, images)
        theirs = there.index[~there["autoProcProgramId"].isin(ours)]
        images = images.loc[~images.index.isin(theirs), self._columns]
        images = images[self._differs(images, there, program_id)]
        key = {"dataCollectionId": data_collection_id, "autoProcProgramId": program_id}
        new = images[~images.index.isin(there.index)] if self._has_id else images
        if rows := [{**key, **row} for row in self._rows(new)]:
            statement = insert(IMAGES) if self._has_id else self._upsert(ours)
            self._connection.execute(statement, rows)
        if len(images) > len(new):
            changed = images[images.index.isin(there.index)].join(there[ID])
            named = [{**row, "its_id": row.pop(ID)} for row in self._rows(changed)]
            self._connection.execute(update(IMAGES).where(IMAGES.c[ID] == bindparam("its_id")), named)

    def _there(self, data_collection_id: int, program_id: int, images: "pd.DataFrame") -> "pd.DataFrame":
        """Rows that these images have, by image number; the oldest of several."""
        import pandas as pd

        ids = [ID] if self._has_id else []
        names = [*ids, "imageNumber", "autoProcProgramId", *self._columns]
        of = (
            IMAGES.c.autoProcProgramId == program_id
            if self._has_id
            else IMAGES.c.dataCollectionId == data_collection_id
        )
        images_here = IMAGES.c.imageNumber.between(int(images.index.min()), int(images.index.max()))
        query: Select[Any] = select(*(IMAGES.c[name] for name in names)).where(of, images_here)
        found = self._connection.execute(query.order_by(IMAGES.c[names[0]])).all()
        rows = pd.DataFrame([tuple(row) for row in found], columns=names)
        return rows.drop_duplicates("imageNumber").set_index("imageNumber")

    def _differs(self, images: "pd.DataFrame", there: "pd.DataFrame", program_id: int) -> Any:
        """Mask of the images whose row is missing, is of another program, or holds other values."""
        import numpy as np

        rows = there.reindex(images.index)
        values = rows[self._columns].astype("float64").to_numpy()
        same = np.isclose(images.to_numpy("float64"), values, rtol=SAME, atol=0, equal_nan=True).all(axis=1)
        return ~(same & (rows["autoProcProgramId"] == program_id).to_numpy())

    def _rows(self, images: "pd.DataFrame") -> list[dict[str, Any]]:
        """Rows as dictionaries, with None for what is not known."""
        values = images.reset_index().astype("object")
        values = values.where(values.notna(), None).assign(recordTimeStamp=self._now)
        return values.to_dict("records")  # pyright: ignore[reportReturnType]  # columns are texts

    def _upsert(self, ours: Collection[int]) -> mysql.Insert:
        """Insert; a row of an image that is there changes if it is ours, also if it came a moment ago."""
        statement = mysql.insert(IMAGES)
        # in the text, not as parameters: PyMySQL then sends many rows at a time
        is_ours = IMAGES.c.autoProcProgramId.in_([literal_column(str(int(id_))) for id_ in ours])

        def new_if_ours(name: str) -> Function[Any]:
            return func.IF(is_ours, statement.inserted[name], IMAGES.c[name])

        names = [*self._columns, "recordTimeStamp", "autoProcProgramId"]  # each sees those set before it
        return statement.on_duplicate_key_update([(name, new_if_ours(name)) for name in names])
