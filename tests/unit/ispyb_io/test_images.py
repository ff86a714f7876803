"""ImageQualityIndicators in bulk: once, only what changed, others' rows left alone; on every database."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, insert

from ispyb_io import image_rows
from ispyb_io.beamline import CollectedIds
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import RejectedError
from ispyb_io.result_tables import AutoProcProgram, ImageQualityIndicators
from ispyb_io.results import ImageQuality
from ispyb_io.transactions import reading, writing

from .made_results import LATER, collection_result
from .rows import rows

N = 40
BATCH = 15


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ispyb_io.orm_client.BATCH", BATCH)


def write_tables(folder: Path, n: int = N, **changes: Any) -> tuple[Path, ...]:
    """Frames in two tables, the second first: nothing depends on their order. Frame 3 was unreadable."""
    folder.mkdir(exist_ok=True)
    frames = pd.DataFrame({"frame": range(n), "status": "no_hit", "n_spots": range(n)})
    frames["total_intensity"] = 100.5 * frames["n_spots"]
    frames["resolution_estimate"] = 1.6 + frames["frame"] / 7
    frames.loc[0, ["resolution_estimate", "total_intensity"]] = (float("nan"), float("inf"))
    frames.loc[3, "status"] = "unreadable"
    frames = frames.assign(**changes)
    paths = (folder / "second.parquet", folder / "first.parquet")
    for path, part in zip(paths, (frames[n // 2 :], frames[: n // 2]), strict=True):
        part.to_parquet(path)
    return paths


@pytest.fixture
def quality(ispyb: Engine, collected: CollectedIds, tmp_path: Path) -> ImageQuality:
    """Images of a result that ISPyB has."""
    OrmClient(ispyb).record_collection_result(collection_result(collected.data_collection_id))
    tables = write_tables(tmp_path / "key1")
    return ImageQuality(key="key1", data_collection_id=collected.data_collection_id, tables=tables)


def image_rows_in(engine: Engine) -> list[dict[str, Any]]:
    return sorted(rows(engine, ImageQualityIndicators), key=lambda row: row["imageNumber"])


def has_a_row_for_each_program(engine: Engine) -> bool:
    with reading(engine) as connection:
        return Flavour.of(connection).has("ImageQualityIndicators", image_rows.ID)


def test_each_image_has_a_row_with_what_was_seen_and_repeating_changes_nothing(
    ispyb: Engine, quality: ImageQuality, monkeypatch: pytest.MonkeyPatch
):
    program_id = OrmClient(ispyb).record_image_quality(quality)
    found = image_rows_in(ispyb)
    assert [row["imageNumber"] for row in found] == [n for n in range(1, N + 1) if n != 4]
    assert {row["autoProcProgramId"] for row in found} == {program_id}
    assert {row["dataCollectionId"] for row in found} == {quality.data_collection_id}
    first, last = found[0], found[-1]
    assert (first["spotTotal"], first["method1Res"], first["totalIntegratedSignal"]) == (0, None, None)
    assert last["spotTotal"] == N - 1
    assert last["method1Res"] == pytest.approx(1.6 + (N - 1) / 7, rel=1e-5)
    assert last["totalIntegratedSignal"] == 100.5 * (N - 1)

    for statement in ("insert", "update"):  # not one is written again
        monkeypatch.setattr(image_rows, statement, None)
    monkeypatch.setattr(image_rows.ImageRows, "_upsert", None)
    assert OrmClient(ispyb).record_image_quality(quality) == program_id
    assert image_rows_in(ispyb) == found


def test_rows_of_the_same_result_that_changed_are_brought_up_to_date(
    ispyb: Engine, quality: ImageQuality, tmp_path: Path
):
    client = OrmClient(ispyb)
    client.record_image_quality(quality)
    before = image_rows_in(ispyb)
    write_tables(tmp_path / "key1", n=N + 2, n_spots=[*range(N - 1), 999, 7, 8])
    client.record_image_quality(quality)
    after = image_rows_in(ispyb)
    assert [row["spotTotal"] for row in after[-3:]] == [999, 7, 8]
    assert after[: len(before) - 1] == before[:-1]
    assert after[len(before) - 1].get(image_rows.ID) == before[-1].get(image_rows.ID)


def test_a_later_result_and_an_earlier_one_that_comes_late(
    ispyb: Engine, quality: ImageQuality, tmp_path: Path
):
    client, id_ = OrmClient(ispyb), quality.data_collection_id
    later = client.record_collection_result(collection_result(id_, key="key2", started=LATER))
    tables = write_tables(tmp_path / "key2", n_spots=5)
    for one in (quality, ImageQuality(key="key2", data_collection_id=id_, tables=tables), quality):
        client.record_image_quality(one)
    of_later = [row for row in image_rows_in(ispyb) if row["autoProcProgramId"] == later]
    assert [row["spotTotal"] for row in of_later] == [5] * (N - 1)
    n_programs = 2 if has_a_row_for_each_program(ispyb) else 1
    assert len(image_rows_in(ispyb)) == n_programs * (N - 1)


@pytest.mark.parametrize("came", ["before", "at the same time"])
def test_rows_of_other_programs_stay(
    ispyb: Engine, quality: ImageQuality, came: str, monkeypatch: pytest.MonkeyPatch
):
    """Also if one comes between our look and our write."""
    with writing(ispyb, "another") as connection:
        result = connection.execute(insert(table(AutoProcProgram)).values(processingPrograms="pia"))
        (other,) = result.inserted_primary_key or (None,)
        values = {"dataCollectionId": quality.data_collection_id, "imageNumber": 2, "spotTotal": 77}
        images = table(ImageQualityIndicators)
        connection.execute(insert(images).values(**values, autoProcProgramId=other))
    if came == "at the same time":
        looked = image_rows.ImageRows._there  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(image_rows.ImageRows, "_there", lambda *what: looked(*what).iloc[:0])
    OrmClient(ispyb).record_image_quality(quality)
    second = [row for row in image_rows_in(ispyb) if row["imageNumber"] == 2]
    assert (other, 77) in [(row["autoProcProgramId"], row["spotTotal"]) for row in second]
    assert len(second) == (2 if has_a_row_for_each_program(ispyb) else 1)


def test_eight_writers_write_each_row_once(ispyb: Engine, quality: ImageQuality):
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: OrmClient(ispyb).record_image_quality(quality), range(8)))
    assert len(set(ids)) == 1
    assert len(image_rows_in(ispyb)) == N - 1


def test_images_of_an_unknown_result_or_a_lost_table_are_refused(
    ispyb: Engine, quality: ImageQuality, tmp_path: Path
):
    client = OrmClient(ispyb)
    with pytest.raises(RejectedError, match="has no result key9 in ISPyB"):
        client.record_image_quality(quality.model_copy(update={"key": "key9"}))
    with pytest.raises(RejectedError, match=r"lost\.parquet: the table of frames cannot be read"):
        client.record_image_quality(quality.model_copy(update={"tables": (tmp_path / "lost.parquet",)}))
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(RejectedError, match="process the images again"):
        client.record_image_quality(quality.model_copy(update={"tables": (tmp_path / "bad.parquet",)}))
    assert image_rows_in(ispyb) == []
