"""Where compiled kernels are kept between runs.

numba looks only at the file of a function to tell whether its compiled form is still right, not
at the functions it calls in other files: after an update it would go on with old ones. So the
folder is named by a hash of all sources that hold kernels.
"""

import hashlib
import os
import tempfile
from pathlib import Path

SOURCES = ("kernels/*.py", "simulation/*.py", "formats/decompression.py")


def cache_folder() -> Path:
    """Folder for compiled kernels of just these sources; below a temporary one if home cannot be written."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(file for pattern in SOURCES for file in package.glob(pattern)):
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"ssx-orchestrator/kernels-{digest.hexdigest()[:12]}"
    try:
        (home / name).mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"{name.replace('/', '-')}-{os.getuid()}"
    return home / name


def keep_compiled_kernels() -> None:
    """Tell numba, which reads it when imported, unless the user has said where."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))
