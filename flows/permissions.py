"""What a run for one proposal may read and write, and which records a command may see.

Two limits, both off unless the site's settings say otherwise. ``proposal`` binds every command to the
records of one proposal. ``allowed_roots`` binds files: whatever a run opens or makes must lie, symbolic
links followed, below a root of the run's own proposal. Both say the same whether something is there or
not, so that nothing is learnt of other proposals.
"""

import glob
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from flows.settings import SiteSettings
from ispyb_io.records import DataCollectionGroup
from ssx_processing.errors import SsxError
from ssx_processing.settings import RequestedSettings

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


class NotAllowedError(SsxError, ValueError):
    """The site's settings do not let this proposal's run do that."""


def is_own(site: SiteSettings, proposal: str | None) -> bool:
    """Whether a command may see the records of a proposal."""
    return site.proposal is None or (proposal or "").lower() == site.proposal.lower()


def check_proposal(site: SiteSettings, proposal: str | None, what: str) -> None:
    """Raise if a command is bound to another proposal than that of the record.

    Parameters
    ----------
    what
        The record, e.g. ``group 7``.

    Raises
    ------
    NotAllowedError
        The message is the same as for a record that does not exist in the command's own proposal.
    """
    if not is_own(site, proposal):
        raise NotAllowedError(
            f"there is no {what} in proposal {site.proposal}, to which this command is bound (SSX_PROPOSAL)"
        )


def check_group(site: SiteSettings, group: DataCollectionGroup) -> None:
    """``check_proposal`` for a data collection group."""
    check_proposal(site, group.proposal, f"group {group.group_id}")


def check_across(site: SiteSettings, own: str, others: Collection[str]) -> None:
    """Raise if data of other proposals would be processed together with those of ``own``.

    Parameters
    ----------
    others
        Proposals of the members.

    Raises
    ------
    NotAllowedError
        The site has no set of ``shared_proposals`` that holds all of them.
    """
    strangers = set(others) - {own}
    if strangers and not any({own, *strangers} <= set(shared) for shared in site.shared_proposals):
        raise NotAllowedError(
            f"a group of proposal {own} cannot take in data of other proposals; where all of them agree, the "
            "site can allow it by naming them together in SSX_SHARED_PROPOSALS"
        )


def check_files(
    site: SiteSettings,
    proposal: str | None,
    images: Iterable[Path] = (),
    *,
    settings: RequestedSettings | None = None,
    geometry_file: Path | None = None,
    others: Iterable[Path] = (),
) -> None:
    """Raise if a run of a proposal would open or make files outside its roots.

    Parameters
    ----------
    proposal
        Whose run it is; None for files without a record, where the site's own counts.
    images
        With all that HDF5 files among them refer to, and what these refer to.
    settings
        May name references and tables.
    geometry_file
        With the masks that it names.
    others
        More files and folders; they need not be there.

    Raises
    ------
    NotAllowedError
        One of them lies elsewhere, or no proposal is known that would fill the template of a root.
    ImageReadError
        An HDF5 file cannot be opened.
    """
    if not site.allowed_roots:
        return
    roots = allowed_roots(site, proposal)
    for path in (*others, *_of_settings(settings)):
        _refuse_outside(path, roots, str(path))
    if geometry_file is not None:
        from ssx_processing.formats.geometry_file import mask_files_of  # takes long, most sites need it not

        _refuse_outside(geometry_file, roots, str(geometry_file))
        images = (*images, *mask_files_of(geometry_file))
    _check_images(images, roots)


def allowed_roots(site: SiteSettings, proposal: str | None) -> list[Path]:
    """Folders, symbolic links followed, below which a proposal's files must lie.

    Raises
    ------
    NotAllowedError
        No proposal is known, or its name is no plain one, and a root depends on it.
    """
    name = proposal or site.proposal or ""
    bound = any("{proposal}" in template for template in site.allowed_roots)
    if bound and not PLAIN_NAME.fullmatch(name):
        raise NotAllowedError(
            "this site lets a run open the files of its own proposal only (SSX_ALLOWED_ROOTS), and "
            + (f"{name!r} is no name of a proposal" if name else "which proposal that is, is not known")
            + "; set SSX_PROPOSAL or give ssx --proposal NAME"
        )
    # ISPyB may have MX1234 where the folder is mx1234
    places = {
        template.format(proposal=spelt) for template in site.allowed_roots for spelt in (name, name.lower())
    }
    # a root may itself be a symbolic link, made by those who own the folder above it
    return [root.resolve() for place in sorted(places) for root in _matching(place)]


def _matching(place: str) -> list[Path]:
    return list(Path("/").glob(place.lstrip("/"))) if glob.has_magic(place) else [Path(place)]


def _refuse_outside(path: Path, roots: Collection[Path], what: str) -> None:
    # Not strict: a missing file inside has its own error later, one outside must not tell that it is missing.
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # a circle of symbolic links
        raise NotAllowedError(f"{what}: leads nowhere ({type(error).__name__})") from error
    if not any(real.is_relative_to(root) for root in roots):
        raise NotAllowedError(
            f"{what}: lies outside the folders of this proposal, symbolic links followed; "
            "the site's settings say which these are (SSX_ALLOWED_ROOTS)"
        )


def _check_images(images: Iterable[Path], roots: Collection[Path]) -> None:
    """Images, and file by file what they refer to; none is opened before it is known to lie inside."""
    from ssx_processing.formats.nxmx_frames import is_hdf5

    waiting = [(path, str(path)) for path in images]
    seen: set[Path] = set()
    while waiting:
        path, what = waiting.pop()
        _refuse_outside(path, roots, what)
        real = path.resolve()
        if real in seen or not real.is_file() or not is_hdf5(path):
            continue
        seen.add(real)
        waiting += _referred(path)


def _referred(path: Path) -> Iterator[tuple[Path, str]]:
    """Files that an HDF5 file refers to, in all places where one is; a link as wide as it is written."""
    from ssx_processing.formats.hdf5_references import references

    for where, places in references(path):
        written, *elsewhere = places
        yield written, f"{path}: what {where} refers to"
        yield from ((place, f"{path}: what {where} refers to") for place in elsewhere if place.is_file())


def _of_settings(settings: RequestedSettings | None) -> list[Path]:
    merging = settings.merging if settings else None
    named = (merging.reference, merging.subset_table, merging.setting_reference) if merging else ()
    return [path for path in named if path is not None]
