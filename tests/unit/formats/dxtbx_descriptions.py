"""What readers say of files with dxtbx, in both ways of running it; a script for the Python that has dxtbx.

    python dxtbx_descriptions.py FILE...

prints one line of JSON. The Python needs numpy, hdf5plugin and our package on its path.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from ssx_processing.errors import SsxError
from ssx_processing.formats.dxtbx_connection import IN_PROCESS, MODE_VARIABLE, SIDE_PROCESS
from ssx_processing.formats.dxtbx_frames import DxtbxReader


def description(path: Path) -> dict[str, Any]:
    """All that a reader says of a file; pixels and mask as hashes of their bytes."""
    try:
        reader = DxtbxReader(path)
        return {
            "n_frames": reader.n_frames,
            "frames": [
                hashlib.sha256(reader.read(index).tobytes()).hexdigest()
                for index in range(reader.n_frames)[:3]
            ],
            "mask": hashlib.sha256(reader.bad_pixels.tobytes()).hexdigest(),
            "n_bad": int(reader.bad_pixels.sum()),
            "type": reader.pixel_type.str,
            "limits": [reader.saturation, reader.underload],
            "geometry": repr(reader.geometry),
        }
    except SsxError as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    answers: dict[str, Any] = {}
    for mode in (SIDE_PROCESS, IN_PROCESS):
        os.environ[MODE_VARIABLE] = mode
        answers[mode] = {path: description(Path(path)) for path in sys.argv[1:]}
        answers[f"imported after {mode}"] = "dxtbx" in sys.modules
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
