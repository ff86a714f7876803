"""From a request, for files or a group, to the job: looks at the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows import permissions
from flows.databases import Databases
from flows.image_paths import NUMBER_IN_TEMPLATE, files_like, with_image_paths
from flows.job import (
    DataSet,
    Job,
    ProcessRequest,
    collection_folder,
    group_folder,
    processing_settings,
    sample_folder,
)
from flows.settings import SiteSettings
from ispyb_io.records import DataCollection, DataCollectionGroup
from ssx_processing.errors import ImageReadError, SettingsError
from ssx_processing.formats.crystfel_stream import CrystfelStream, is_stream
from ssx_processing.formats.geometry_file import geometry_identity, read_geometry
from ssx_processing.formats.stream_geometry import stream_geometry
from ssx_processing.models import GeometryIdentity


def find_job(request: ProcessRequest, site: SiteSettings, databases: Databases) -> Job:
    """The job that a request asks for."""
    if request.group_id is None:
        return job_of_files(request, site)
    return job_of_group(request, databases.included(databases.group(request.group_id, site)), site)


def job_of_files(request: ProcessRequest, site: SiteSettings) -> Job:
    """Job for images without ISPyB.

    Raises
    ------
    SettingsError
        Settings are wrong.
    ImageReadError
        A file is missing.
    NotAllowedError
        A file lies outside the folders of the site's proposal.
    """
    request = _with_geometry(request, site)
    given = [path for path in (*request.files, request.folder) if path is not None]
    permissions.check_files(site, None, geometry_file=request.geometry_file, others=given)
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
    permissions.check_files(site, None, request.files, settings=settings)
    paths = tuple(path.resolve() for path in request.files)
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} ... ({len(paths)} files)"
    data_set = DataSet(name, paths, folder, None, geometry_of(request))
    return Job(name, (data_set,), settings, folder, None, sample_folder=folder)


def job_of_group(request: ProcessRequest, group: DataCollectionGroup, site: SiteSettings) -> Job:
    """Job for a data collection group of ISPyB.

    Raises
    ------
    SettingsError
        The group has no data collections, or its sample's cell contradicts its space group.
    ImageReadError
        The files of a data collection are not there.
    NotAllowedError
        A file lies outside the folders of the proposal.
    """
    request, group = _with_geometry(request, site), with_image_paths(group, site)
    directories = [d.image_directory for d in group.data_collections if d.image_directory]
    permissions.check_files(site, group.proposal, geometry_file=request.geometry_file, others=directories)
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
    of_sample = sample_folder(group, folder, site)
    images = [path for data_set in data_sets for path in data_set.paths]
    permissions.check_files(site, group.proposal, images, settings=settings, others=(folder, of_sample))
    return Job(f"group {group.group_id}", data_sets, settings, folder, group, of_sample)


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
            f"{where}: ISPyB has no imageDirectory or no fileTemplate, so no files are known; the site may "
            "say where they lie (SSX_IMAGE_PATH_TEMPLATES)"
        )
    paths = [directory / template]
    if NUMBER_IN_TEMPLATE.search(template):
        pattern = files_like(template)
        inside = directory.iterdir() if directory.is_dir() else ()
        paths = sorted(path for path in inside if pattern.fullmatch(path.name))
    if not paths or not paths[0].is_file():
        raise ImageReadError(
            f"{where}: no file {directory / template}; is it still being written, the disk mounted?"
        )
    return paths
