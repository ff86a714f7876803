"""Where a browser finds files of the results."""

from pathlib import Path
from urllib.parse import quote


def url_of(path: Path, file_url: str) -> str:
    """Address of a file.

    Parameters
    ----------
    file_url
        As the site says, with {path}.

    Examples
    --------
    >>> url_of(Path("/data/chip 7/report.html"), "https://files.example.org{path}")
    'https://files.example.org/data/chip%207/report.html'
    """
    return file_url.format(path=quote(str(path)))
