"""Where images lie whose record in ISPyB does not say: the site's templates, tried in order.

py-ispyb's SSX endpoint drops imageDirectory and fileTemplate, so records made with it never have them.
"""

import glob
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.settings import SiteSettings
from ispyb_io.records import DataCollection, DataCollectionGroup
from ssx_processing.errors import ImageReadError, SettingsError

NUMBER_IN_TEMPLATE = re.compile(r"#+|%0?\d*d")


def files_like(template: str) -> re.Pattern[str]:
    """Names of the files that a template stands for.

    Examples
    --------
    >>> bool(files_like("a_####.cbf").fullmatch("a_0001.cbf"))
    True
    """
    return re.compile(r"\d+".join(map(re.escape, NUMBER_IN_TEMPLATE.split(template))))


def with_image_paths(group: DataCollectionGroup, site: SiteSettings) -> DataCollectionGroup:
    """The group with directory and file template of each data collection, as far as the site knows them.

    Raises
    ------
    ImageReadError
        A record names no files, and no template leads to any.
    SettingsError
        A template leads to several files.
    """
    if not site.image_path_templates:
        return group
    collections = tuple(_with_path(collection, group, site) for collection in group.data_collections)
    return group.model_copy(update={"data_collections": collections})


def _with_path(collection: DataCollection, group: DataCollectionGroup, site: SiteSettings) -> DataCollection:
    if collection.image_directory is not None and collection.file_template:
        return collection
    where, tried = f"data collection {collection.data_collection_id}", []
    values = template_values(collection, group)
    for template in site.image_path_templates:
        try:
            pattern = _filled(template, values)
        except SettingsError as error:
            tried.append(f"{template}: {error}")
            continue
        found = _matches(pattern)
        if len(found) > 1:
            raise SettingsError(
                f"{where}: image_path_templates {template!r} gave {pattern}, which are {len(found)} files, "
                f"such as {found[0]}; expected one, or numbered ones written as #####"
            )
        if found:
            path = Path(found[0])
            return collection.model_copy(update={"image_directory": path.parent, "file_template": path.name})
        tried.append(f"{template} gave {glob_text(pattern)}: no such file")
    raise ImageReadError(
        f"{where}: ISPyB has no imageDirectory or no fileTemplate, and of the site's image_path_templates "
        f"none leads to a file; {'; '.join(tried)}; is it still being written, the disk mounted?"
    )


def template_values(collection: DataCollection, group: DataCollectionGroup) -> dict[str, Any]:
    """What a template may use; None or empty where ISPyB does not say."""
    sample = group.sample
    return {
        "proposal": group.proposal,
        "visit": group.visit_number,
        "beamline": group.beamline,
        "session_date": group.session_start,
        "group_id": group.group_id,
        "collection_id": collection.data_collection_id,
        "number": collection.number,
        "start_time": collection.start_time,
        "prefix": collection.image_prefix,
        "sample": sample.name if sample else None,
        "protein": sample.protein_acronym if sample else None,
    }


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """Pattern for glob; what comes from a record stands for itself.

    Raises
    ------
    SettingsError
        A value that the template uses is not in the record, or is no part of a path.
    """
    used = {name: value for name, value in values.items() if re.search(rf"{{{name}[}}:!.\[]", template)}
    for name, value in used.items():
        if value is None or value == "":
            raise SettingsError(f"the record has no {name}")
        if isinstance(value, str) and (value in (".", "..") or "/" in value or "\0" in value):
            raise SettingsError(f"{name} is {value!r}, which is no part of a path")
    return template.format(**{n: glob.escape(v) if isinstance(v, str) else v for n, v in used.items()})


def _matches(pattern: str) -> list[str]:
    """Files that a pattern leads to; numbered ones as one, with their number as it is in the pattern."""
    folder, _, name = pattern.rpartition("/")
    if not NUMBER_IN_TEMPLATE.search(name):
        return sorted(str(path) for path in Path("/").glob(pattern.lstrip("/")) if path.is_file())
    numbered = NUMBER_IN_TEMPLATE.sub("[0-9]*", name)
    folders = {str(path.parent) for path in Path("/").glob(f"{folder}/{numbered}".lstrip("/"))}
    return sorted(f"{found}/{glob_text(name)}" for found in folders)


def glob_text(pattern: str) -> str:
    """A pattern as people write it, without the escapes for what came from a record."""
    return re.sub(r"\[([*?[])\]", r"\1", pattern)
