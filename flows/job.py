"""What to process: images named by a user, or a data collection group of ISPyB."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from flows.settings import SiteSettings
from ispyb_io.records import DataCollection, DataCollectionGroup
from ssx_processing.errors import ImageReadError, SettingsError
from ssx_processing.formats.crystfel_stream import CrystfelStream, is_stream
from ssx_processing.formats.geometry_file import GeometryIdentity, geometry_identity, read_geometry
from ssx_processing.formats.stream_geometry import stream_geometry
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import RequestedSettings, content_key

NUMBER_IN_TEMPLATE = re.compile(r"#+|%0?\d*d")


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

    @property
    def key(self) -> str:
        """Stands for members and settings: a group finished with this key need not run again."""
        members: Any = (
            [d.collection.data_collection_id for d in self.data_sets if d.collection]
            if self.group
            else [str(path) for d in self.data_sets for path in d.paths]
        )
        content = {"members": members, "settings": self.settings.model_dump()}
        geometry = sorted({d.geometry.sha256 for d in self.data_sets if d.geometry})
        return content_key(content | {"geometry": geometry} if geometry else content)


def job_of_files(request: ProcessRequest, site: SiteSettings) -> Job:
    """Job for images without ISPyB.

    Raises
    ------
    SettingsError
        Settings are wrong.
    ImageReadError
        A file is missing.
    """
    request = _with_geometry(request, site)
    for path in request.files:
        if not path.is_file():
            is_folder = path.is_dir()
            raise ImageReadError(
                f"{path}: {'is a folder; name the image files in it' if is_folder else 'no such file'}"
            )
    if request.folder is None:  # the validator has seen it
        raise SettingsError("the results need a folder; give --out DIR")
    if request.folder.exists() and not request.folder.is_dir():
        raise SettingsError(f"{request.folder}: is a file, expected a folder; give another --out DIR")
    settings = processing_settings(
        site, request, request.unit_cell, request.space_group, settings_of_geometry(request, request.files)
    )
    folder = request.folder.resolve()
    paths = tuple(path.resolve() for path in request.files)
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} ... ({len(paths)} files)"
    data_set = DataSet(name, paths, folder, None, geometry_of(request))
    return Job(name, (data_set,), settings, folder, None, sample_folder=folder)


def check_files(job: Job) -> None:
    """Raise what would stop the processing before its first frame."""
    for data_set in job.data_sets:
        make_plan(data_set.paths, job.settings, data_set.geometry_file)


def job_of_group(request: ProcessRequest, group: DataCollectionGroup, site: SiteSettings) -> Job:
    """Job for a data collection group of ISPyB.

    Raises
    ------
    SettingsError
        The group has no data collections, or its sample's cell contradicts its space group.
    ImageReadError
        The files of a data collection are not there.
    """
    request = _with_geometry(request, site)
    where = f"group {group.group_id} ({group.proposal})"
    if not group.data_collections:
        raise SettingsError(f"{where} has no data collections yet")
    sample = group.sample
    cell = request.unit_cell or (sample.unit_cell if sample else None)
    space_group = request.space_group or (sample.space_group if sample else None)
    of_geometry = (
        settings_of_geometry(request, files_of(group.data_collections[0])) if request.geometry_file else {}
    )
    settings = processing_settings(site, request, cell, space_group, of_geometry)
    folder = (request.folder or group_folder(group, site)).resolve()
    geometry = geometry_of(request)
    data_sets = tuple(
        DataSet(
            f"data collection {collection.data_collection_id}",
            tuple(files_of(collection)),
            collection_folder(folder, collection),
            collection,
            geometry,
        )
        for collection in group.data_collections
    )
    return Job(
        f"group {group.group_id}", data_sets, settings, folder, group, sample_folder(group, folder, site)
    )


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


def _with_geometry(request: ProcessRequest, site: SiteSettings) -> ProcessRequest:
    """Request with the site's geometry file, if it names none; a stream of CrystFEL has its own."""
    if request.files and is_stream(request.files[0]):
        return request
    return request.model_copy(update={"geometry_file": request.geometry_file or site.geometry_file})


def geometry_of(request: ProcessRequest) -> GeometryIdentity | None:
    """The geometry file that a request names, as it is now."""
    return geometry_identity(request.geometry_file) if request.geometry_file else None


def settings_of_geometry(request: ProcessRequest, files: Sequence[Path]) -> dict[str, Any]:
    """Settings that the geometry file knows, for these images: counts per photon."""
    if is_stream(files[0]):
        gain = stream_geometry(CrystfelStream(files[0]), request.geometry_file).given.gain
    elif request.geometry_file is not None:
        gain = read_geometry(request.geometry_file, files[0]).gain
    else:
        return {}
    return {"spots": {"gain": gain}} if gain is not None else {}


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
    directory = group.data_collections[0].image_directory
    if directory is None:
        raise SettingsError(
            f"data collection {group.data_collections[0].data_collection_id} has no imageDirectory in ISPyB; "
            f"name the images: ssx process FILE ... --cell ... --space-group ..."
        )
    return _site_folder(site.processing_folder, group, directory)


def sample_folder(group: DataCollectionGroup, folder: Path, site: SiteSettings) -> Path:
    """Folder that the groups of one protein share; the group's own where it lies elsewhere or names none.

    Parameters
    ----------
    folder
        Where the results of the group go.
    """
    directory = group.data_collections[0].image_directory
    protein = group.sample.protein_acronym.strip() if group.sample else ""
    if not protein or directory is None or folder != group_folder(group, site).resolve():
        return folder
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", protein)
    samples = (
        _site_folder(site.samples_folder, group, directory)
        if site.samples_folder
        else folder.parent / "samples"
    )
    return samples.resolve() / name


def _site_folder(template: str, group: DataCollectionGroup, directory: Path) -> Path:
    text = template.format(
        image_directory=directory,
        proposal=group.proposal,
        visit=group.visit_number,
        beamline=group.beamline,
        group_id=group.group_id,
    )
    return Path(text)


def files_of(collection: DataCollection) -> list[Path]:
    """Image files of a data collection, in order.

    ``#`` or ``%05d`` in the template stands for numbers.

    Raises
    ------
    ImageReadError
        The record names no files, or they are not there.
    """
    where = f"data collection {collection.data_collection_id}"
    directory, template = collection.image_directory, collection.file_template
    if directory is None or not template:
        raise ImageReadError(
            f"{where}: ISPyB has no imageDirectory or no fileTemplate, so no files are known"
        )
    paths = [directory / template]
    if NUMBER_IN_TEMPLATE.search(template):
        parts = NUMBER_IN_TEMPLATE.split(template)
        pattern = re.compile(r"\d+".join(map(re.escape, parts)))
        inside = directory.iterdir() if directory.is_dir() else ()
        paths = sorted(path for path in inside if pattern.fullmatch(path.name))
    if not paths or not paths[0].is_file():
        raise ImageReadError(
            f"{where}: no file {directory / template}; is it still being written, the disk mounted?"
        )
    return paths
