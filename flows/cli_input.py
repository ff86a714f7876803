"""What users write on the command line, as values."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from ssx_processing.models import UnitCell


def parse_cell(text: str | None) -> "UnitCell | None":
    """Unit cell from six numbers separated by commas.

    Examples
    --------
    >>> parse_cell("79.1,79.1,37.9,90,90,90")
    (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
    """
    if text is None:
        return None
    try:
        a, b, c, alpha, beta, gamma = (float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(
            f"--cell {text}: expected six numbers, a,b,c,alpha,beta,gamma in Å and degrees"
        ) from error
    return a, b, c, alpha, beta, gamma


def parse_settings(texts: Iterable[str] | None) -> dict[str, Any]:
    """Nested settings from ``section.name=value``.

    Examples
    --------
    >>> parse_settings(["spots.min_snr=4", "merging.d_min=none", "frames_per_chunk=100"])
    {'spots': {'min_snr': '4'}, 'merging': {'d_min': None}, 'frames_per_chunk': '100'}
    """
    result: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        *sections, last = name.strip().split(".")
        if not equals or not last or not all(sections) or "sample" in sections:
            raise SettingsError(
                f"--set {text}: expected section.name=value, e.g. spots.min_snr=4; "
                "the sample is given by --cell and --space-group"
            )
        into = result
        for section in sections:
            into = into.setdefault(section, {})
            if not isinstance(into, dict):
                raise SettingsError(f"--set {text}: {section} has a value already")
        into[last] = None if value.strip().lower() == "none" else value.strip()
    return result


def parse_result(text: str) -> tuple[int | None, Path | None]:
    """Id of a group of ISPyB, or the folder of a result; the name of a processing group stands for either.

    Raises
    ------
    SettingsError
        It is no folder, and no group of this name has a result.
    NotAllowedError
        The folder lies where the site's settings allow no reading.

    Examples
    --------
    >>> parse_result("7")
    (7, None)
    """
    if text.isdigit():
        return int(text), None
    from flows.permissions import check_files
    from flows.settings import SiteSettings

    folder = Path(text).absolute()
    if "/" not in text and not folder.exists():
        from flows.result_folders import result_of_name

        return result_of_name(text)
    check_files(SiteSettings(), None, others=[folder])
    return None, folder
