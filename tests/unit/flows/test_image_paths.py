"""Where images lie whose record does not say, by the site's templates."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from flows.image_paths import with_image_paths
from flows.job_of_request import files_of
from flows.settings import SiteSettings
from ispyb_io.records import DataCollection, DataCollectionGroup, Sample
from ssx_processing.errors import ImageReadError, SettingsError

NOON = datetime.datetime(2026, 11, 21, 12)


def group(**collection: Any) -> DataCollectionGroup:
    given = {"data_collection_id": 3, "image_prefix": "lyso-7", "number": 2} | collection
    return DataCollectionGroup(
        group_id=1, session_id=1, proposal="mx1234", beamline="ID29", session_start=NOON,
        sample=Sample(sample_id=1, name="chip [7]", protein_acronym="lyso"),
        data_collections=(DataCollection.model_validate(given),),
    )  # fmt: skip


def site(*templates: str | Path) -> SiteSettings:
    return SiteSettings(image_path_templates=tuple(map(str, templates)))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def resolved(site: SiteSettings, **collection: Any) -> list[Path]:
    (found,) = with_image_paths(group(**collection), site).data_collections
    return files_of(found)


@pytest.mark.parametrize(
    "template",
    [
        "{proposal}/{beamline}/{session_date:%Y%m%d}/raw/{sample}/{prefix}_{number:02d}_master.h5",
        "mx1234/*/20261121/raw/{sample}/{prefix}_*_master.h5",
    ],
)
def test_a_template_leads_to_the_file(tmp_path: Path, template: str):
    master = tmp_path / "mx1234/ID29/20261121/raw/chip [7]/lyso-7_02_master.h5"
    touch(master, tmp_path / "mx1234/ID29/20261121/raw/chip 7/lyso-7_02_master.h5")
    assert resolved(site(tmp_path / "other" / "{prefix}.h5", tmp_path / template)) == [master]


def test_numbered_files_are_one_template(tmp_path: Path):
    images = [tmp_path / "run2" / f"lyso-7_{i:05d}.cbf" for i in range(3)]
    touch(*images)
    assert resolved(site(tmp_path / "run*" / "{prefix}_#####.cbf")) == images


def test_a_record_that_names_its_files_needs_no_template(tmp_path: Path):
    touch(tmp_path / "a.h5")
    found = resolved(site("/nowhere/{prefix}.h5"), image_directory=tmp_path, file_template="a.h5")
    assert found == [tmp_path / "a.h5"]


def test_what_no_template_leads_to_is_said_for_each(tmp_path: Path):
    templates = (tmp_path / "{prefix}.h5", tmp_path / "{visit}" / "x.h5", tmp_path / "{sample}.h5")
    reason = (
        f"data collection 3: .*; {templates[0]} gave {tmp_path}/lyso-7.h5: no such file; "
        f"{templates[1]}: the record has no visit; {templates[2]} gave {tmp_path}/chip [7].h5: no such file; "
    )
    parts = reason.split(".*")
    with pytest.raises(ImageReadError, match=".*".join(map(re.escape, parts)) + "is it still being written"):
        resolved(site(*templates))


def test_several_files_are_not_guessed_between(tmp_path: Path):
    touch(tmp_path / "lyso-7_1.h5", tmp_path / "lyso-7_2.h5")
    with pytest.raises(SettingsError, match=r"are 2 files, such as .*lyso-7_1.h5; expected one"):
        resolved(site(tmp_path / "{prefix}_*.h5"))


@pytest.mark.parametrize("prefix", ["../../secret", "..", "a/b"])
def test_a_record_cannot_lead_out_of_the_template(tmp_path: Path, prefix: str):
    touch(tmp_path / "secret.h5")
    with pytest.raises(ImageReadError, match=re.escape(f"prefix is {prefix!r}, which is no part of a path")):
        resolved(site(tmp_path / "a" / "{prefix}" / "secret.h5"), image_prefix=prefix)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("/data/{image}", r"\{image\} is not known; it may use \{proposal\}"),
        ("/data/{prefix", "expected '}' before end"),
        ("data/{prefix}", "expected an absolute path"),
        ("/data/{prefix:04d}", "Unknown format code 'd'"),
        ("/data/{sample.name}", "no attribute 'name'"),
    ],
)
def test_templates_are_checked_when_settings_are_read(template: str, reason: str):
    with pytest.raises(SettingsError, match=f"image_path_templates .*{reason}"):
        site(template)
