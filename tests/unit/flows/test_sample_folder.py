"""Groups of the same protein share a folder; others do not."""

from pathlib import Path

import pytest

from flows.job import sample_folder
from flows.settings import SiteSettings
from ispyb_io.records import DataCollection, DataCollectionGroup, Sample


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    monkeypatch.setenv("SSX_PROCESSING_FOLDER", f"{tmp_path}/processing/group-{{group_id}}")
    monkeypatch.delenv("SSX_SAMPLES_FOLDER", raising=False)
    return SiteSettings()


def group(group_id: int, protein: str | None, images: Path) -> DataCollectionGroup:
    sample = Sample(sample_id=group_id, name=f"chip {group_id}", protein_acronym=protein) if protein else None
    collection = DataCollection(data_collection_id=group_id, image_directory=images)
    return DataCollectionGroup(
        group_id=group_id, session_id=1, proposal="mx1234", sample=sample, data_collections=(collection,)
    )


def test_groups_of_one_protein_share_a_folder(site: SiteSettings, tmp_path: Path):
    processing = tmp_path / "processing"
    folders = [
        sample_folder(group(i, protein, tmp_path), processing / f"group-{i}", site)
        for i, protein in enumerate(["Bact/R hod", "Bact/R hod", "Lyso"])
    ]
    assert folders == [processing / "samples" / name for name in ("Bact_R_hod", "Bact_R_hod", "Lyso")]


def test_a_group_without_sample_keeps_to_itself(site: SiteSettings, tmp_path: Path):
    own = tmp_path / "processing" / "group-1"
    assert sample_folder(group(1, None, tmp_path), own, site) == own


def test_a_group_whose_results_go_elsewhere_keeps_to_itself(site: SiteSettings, tmp_path: Path):
    assert sample_folder(group(1, "Lyso", tmp_path), tmp_path / "mine", site) == tmp_path / "mine"


def test_the_site_may_say_where_samples_lie(
    site: SiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSX_SAMPLES_FOLDER", f"{tmp_path}/{{proposal}}/samples")
    found = sample_folder(group(1, "Lyso", tmp_path), tmp_path / "processing" / "group-1", SiteSettings())
    assert found == tmp_path / "mx1234" / "samples" / "Lyso"
