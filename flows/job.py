"""What to process: images named by a user, or a data collection group of ISPyB."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from flows.settings import SiteSettings
from ispyb_io.ledger_records import ProcessingGroup
from ispyb_io.records import DataCollection, DataCollectionGroup
from ssx_processing.errors import SettingsError
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import GeometryIdentity, UnitCell
from ssx_processing.settings import RequestedSettings, content_key


class ProcessRequest(BaseModel):
    """Parameters of the ``process`` flow; either files or a group."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    group_id: int | None = None
    """dataCollectionGroupId in ISPyB."""
    files: tuple[Path, ...] = ()
    """Images, or CrystFEL streams, without ISPyB; as one data set."""
    unit_cell: UnitCell | None = None
    """a, b, c in Å, alpha, beta, gamma in degrees; by default the sample's in ISPyB, else it is sought."""
    space_group: str | None = None
    """Symbol, number or Laue class; by default the sample's in ISPyB, else as the lattice allows."""
    cell_cluster: int = 1
    """Which of the cells found is taken where none is known; 1 indexes most hits."""
    settings: dict[str, Any] = {}
    """Settings that differ from the site's, e.g. {"spots": {"min_snr": 4}}."""
    folder: Path | None = None
    """Where results go; for files required, for a group by default as the site says."""
    geometry_file: Path | None = None
    """CrystFEL's .geom or DIALS's .expt for files that carry no geometry or a wrong one; else the site's."""

    automatic: bool = False
    """Nobody asked for it: chunks that killed their workers before are not tried again."""
    confirmed: bool = False
    """Begin it however long it takes."""
    asked_by: str | None = None
    """Who wants it; None: the account that the command runs in."""

    @property
    def title(self) -> str:
        """Name of the flow run."""
        return f"group {self.group_id}" if self.group_id is not None else self.files[0].name

    @model_validator(mode="after")
    def _files_or_group(self) -> Self:
        if (self.group_id is None) == (not self.files):
            raise ValueError("give either image files or the id of a group")
        if self.files and self.folder is None:
            raise ValueError("the results of files need a folder; give --out DIR")
        return self


@dataclass(frozen=True)
class DataSet:
    """Images that are planned, calibrated and cut in chunks together."""

    name: str
    paths: tuple[Path, ...]
    folder: Path
    collection: DataCollection | None
    """Its record in ISPyB; None for files without."""
    geometry: GeometryIdentity | None = None
    """Geometry file that stands in for that of the images."""

    @property
    def geometry_file(self) -> Path | None:
        """Where that is."""
        return self.geometry.path if self.geometry else None


A_DAY_S = 86400.0


@dataclass(frozen=True)
class Job:
    """Data sets that are merged together, and how."""

    name: str
    data_sets: tuple[DataSet, ...]
    settings: RequestedSettings
    folder: Path
    group: DataCollectionGroup | None
    sample_folder: Path
    """What all merges of the same sample share: how it is indexed, where there are several ways."""
    chosen: ProcessingGroup | None = None
    """Group that somebody chose, whose members are processed in groups of their own."""
    collected: tuple[DataCollectionGroup, ...] = ()
    """Groups of ISPyB that its members are in, those excluded too."""

    @property
    def key(self) -> str:
        """Stands for members and settings: a group finished with this key need not run again."""
        members: Any = (
            [d.collection.data_collection_id for d in self.data_sets if d.collection]
            if self.group or self.chosen
            else [str(path) for d in self.data_sets for path in d.paths]
        )
        content = {"members": members, "settings": self.settings.model_dump()}
        if self.chosen is not None:
            content["chosen"] = [self.chosen.proposal, self.chosen.name]
        geometry = sorted({d.geometry.sha256 for d in self.data_sets if d.geometry})
        return content_key(content | {"geometry": geometry} if geometry else content)

    @property
    def may_have_events(self) -> bool:
        """Whether event chains have a say; what reads them takes long to import."""
        is_of_ispyb = self.group is not None or self.chosen is not None
        return is_of_ispyb or self.settings.merging.subset_by is not None

    def group_of(self, data_collection_id: int | None) -> DataCollectionGroup | None:
        """Group of ISPyB that a data collection is in; members of a collected group are all in that."""
        if self.group is not None or data_collection_id is None:
            return self.group
        for group in self.collected:
            if any(c.data_collection_id == data_collection_id for c in group.data_collections):
                return group
        return None

    def seconds_since_last_frame(self) -> float | None:
        """From the end of the collection until now; None where ISPyB does not say, or it is days ago."""
        ends = [d.collection.end_time for d in self.data_sets if d.collection and d.collection.end_time]
        if not ends:
            return None
        seconds = (datetime.datetime.now() - max(ends)).total_seconds()
        return seconds if 0 <= seconds < A_DAY_S else None

    def page(self, data_set: DataSet) -> Path:
        """Report of a data set; that of its own processing stays as it is when a chosen group is merged."""
        if self.chosen is None:
            return RunFolder(data_set.folder).report
        return self.folder / f"report-{data_set.folder.name}.html"


def collection_folder(folder: Path, collection: DataCollection) -> Path:
    """Folder of one data collection below that of its group."""
    return folder / f"collection-{collection.data_collection_id}"


def processing_settings(
    site: SiteSettings,
    request: ProcessRequest,
    unit_cell: UnitCell | None,
    space_group: str | None,
    of_geometry: Mapping[str, Any] | None = None,
) -> RequestedSettings:
    """Defaults, then those of the geometry file, then the site's, then the request's."""
    known = {"unit_cell": unit_cell, "space_group": space_group, "cell_cluster": request.cell_cluster}
    sample = {"sample": known}
    return RequestedSettings.model_validate(
        reduce(merged_mappings, (of_geometry or {}, site.processing, request.settings, sample))
    )


def merged_mappings(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other.

    Examples
    --------
    >>> merged_mappings({"spots": {"gain": 2, "min_snr": 5}}, {"spots": {"min_snr": 4}})
    {'spots': {'gain': 2, 'min_snr': 4}}
    """
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[name] = merged_mappings(old, value)
        else:
            result[name] = value
    return result


def group_folder(group: DataCollectionGroup, site: SiteSettings) -> Path:
    """Where the site wants the results of a group."""
    return site_folder(site.processing_folder, group)


def sample_folder(group: DataCollectionGroup, folder: Path, site: SiteSettings) -> Path:
    """Folder that the groups of one protein share; the group's own where it lies elsewhere or names none.

    Parameters
    ----------
    folder
        Where the results of the group go.
    """
    is_placed = group.data_collections[0].image_directory is not None
    protein = group.sample.protein_acronym.strip() if group.sample else ""
    if not protein or not is_placed or folder != group_folder(group, site).resolve():
        return folder
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", protein)
    samples = site_folder(site.samples_folder, group) if site.samples_folder else folder.parent / "samples"
    return samples.resolve() / name


def site_folder(template: str, group: DataCollectionGroup, name: str = "") -> Path:
    """Folder by a template of the site; ``name`` is that of a chosen group.

    Raises
    ------
    SettingsError
        Nothing says where the images of the group are.
    """
    first = group.data_collections[0]
    directory = first.image_directory
    if directory is None:
        raise SettingsError(
            f"data collection {first.data_collection_id} has no imageDirectory in ISPyB; "
            "say where they lie (SSX_IMAGE_PATH_TEMPLATES), or name the images: ssx process FILE ..."
        )
    text = template.format(
        image_directory=directory,
        proposal=group.proposal,
        visit=group.visit_number,
        beamline=group.beamline,
        group_id=group.group_id,
        name=name,
    )
    return Path(text)
