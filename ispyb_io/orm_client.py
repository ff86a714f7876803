"""ISPyB through SQLAlchemy, for the schemas of ESRF and MAX IV and for the embedded database."""

import datetime
from collections.abc import Callable, Collection

from sqlalchemy import Connection, Engine

from ispyb_io.asked import Answer, AskedJob
from ispyb_io.asked_jobs import put_answer, read_asked_jobs
from ispyb_io.flavour import Flavour
from ispyb_io.group_reader import find_group_ids, read_groups
from ispyb_io.image_rows import BATCH, read_images
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES, NotFoundError
from ispyb_io.records import DataCollectionGroup, Offers, Relation
from ispyb_io.related_groups import find_ids_of_groups_with, find_related_ids
from ispyb_io.result_writer import ResultWriter
from ispyb_io.results import CollectionResult, ImageQuality, MergedResult
from ispyb_io.transactions import reading, writing


class OrmClient:
    """IspybClient on a database; safe to use from several threads.

    Parameters
    ----------
    engine
        From ``open_engine`` or ``create_embedded_ispyb``. It is the caller's to dispose of.
    clock
        Local time, for ISPyB's recordTimeStamp.
    """

    def __init__(
        self, engine: Engine, clock: Callable[[], datetime.datetime] = datetime.datetime.now
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._known_flavour: Flavour | None = None

    def _flavour(self, connection: Connection) -> Flavour:
        """Look up what the database has; once, at the first use, as it may be down before."""
        if self._known_flavour is None:
            self._known_flavour = Flavour.of(connection)
        return self._known_flavour

    def find_groups(
        self,
        newer_than: int = 0,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
        limit: int = 100,
    ) -> list[DataCollectionGroup]:
        """Find groups that got a data collection with an id above ``newer_than``, oldest first."""
        with reading(self._engine) as connection:
            flavour = self._flavour(connection)
            ids = find_group_ids(connection, flavour, newer_than, experiment_types, limit)
            return read_groups(connection, flavour, ids)

    def group(self, group_id: int) -> DataCollectionGroup:
        """One data collection group with its data collections."""
        with reading(self._engine) as connection:
            groups = read_groups(connection, self._flavour(connection), [group_id])
        if not groups:
            raise NotFoundError(f"there is no data collection group {group_id} in ISPyB")
        return groups[0]

    def related_groups(
        self,
        group_id: int,
        relation: Relation,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
    ) -> list[DataCollectionGroup]:
        """Find the groups that have sample, protein or sample group in common with one, and itself."""
        with reading(self._engine) as connection:
            flavour = self._flavour(connection)
            ids = find_related_ids(connection, flavour, group_id, relation, experiment_types)
            return read_groups(connection, flavour, ids)

    def groups_with(
        self, *, data_collection_ids: Collection[int] = (), sample_ids: Collection[int] = ()
    ) -> list[DataCollectionGroup]:
        """Find the groups that hold one of these data collections, or have one of these samples."""
        with reading(self._engine) as connection:
            flavour = self._flavour(connection)
            ids = find_ids_of_groups_with(connection, flavour, data_collection_ids, sample_ids)
            return read_groups(connection, flavour, ids)

    def record_collection_result(self, result: CollectionResult) -> int:
        """Write what processing one data collection gave; returns the autoProcProgramId."""
        self._require_flavour()
        with writing(self._engine, f"collection {result.data_collection_id}") as connection:
            return self._writer(connection).write_collection_result(result)

    def record_merged_result(self, result: MergedResult) -> int:
        """Write what merging data collections gave; returns the autoProcProgramId."""
        self._require_flavour()
        with writing(self._engine, f"merge {result.name}") as connection:
            return self._writer(connection).write_merged_result(result)

    def record_image_quality(self, quality: ImageQuality) -> int:
        """Write what was seen on each image of a data collection; returns its result's autoProcProgramId."""
        self._require_flavour()
        images = read_images(quality.tables)
        program_id = 0
        for start in range(0, max(len(images), 1), BATCH):
            with writing(self._engine, f"collection {quality.data_collection_id}") as connection:
                part = images.iloc[start : start + BATCH]
                program_id = self._writer(connection).write_images(quality, part)
        return program_id

    def asked_jobs(self) -> list[AskedJob]:
        """What somebody asks for in ISPyB and that is not answered for good, oldest first."""
        with reading(self._engine) as connection:
            return read_asked_jobs(connection, self._flavour(connection))

    def answer_job(self, answer: Answer) -> int:
        """Write what becomes of a job; returns the autoProcProgramId of the one program that answers it."""
        self._require_flavour()
        with writing(self._engine, f"asked job {answer.job_id}") as connection:
            return put_answer(connection, self._flavour(connection), answer, self._clock())

    def offers(self) -> Offers:
        """Say what this ISPyB has, lacks and can take; looked up anew each time."""
        with reading(self._engine) as connection:
            return Flavour.of(connection).offers()

    def _require_flavour(self) -> None:
        """Look before the lock is taken: inspecting takes longer than writing."""
        if self._known_flavour is None:
            with reading(self._engine) as connection:
                self._flavour(connection)
        if self._known_flavour is not None:
            self._known_flavour.require()

    def _writer(self, connection: Connection) -> ResultWriter:
        return ResultWriter(connection, self._flavour(connection), self._clock())
