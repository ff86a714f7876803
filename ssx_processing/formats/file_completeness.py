"""Whether a CBF or SMV file is whole: as long as its header announces, its pixels as they were written.

dxtbx does not ask: it fills what is missing with whatever is in memory. Only the standard library is
used here, since this file also runs in the Python that has dxtbx, which may be another.
"""

import base64
import hashlib
import os
import re
from pathlib import Path

USUAL_HEADER = 1 << 14
LONGEST_HEADER = 1 << 20
"""Bytes; a CBF of many panels may have tens of kilobytes."""

_START_OF_PIXELS = b"\x0c\x1a\x04\xd5"
_SMV_BYTES = {"unsigned_short": 2, "signed_short": 2, "short": 2, "signed_long": 4, "unsigned_long": 4,
              "long": 4, "long_integer": 4, "integer": 4, "float": 4, "mad": 2}  # fmt: skip


class NotReadableError(ValueError):
    """A file cannot be read; the message says it all, but for the file's name."""


def check_complete(path, *, checksum=True):
    """Raise if a CBF or SMV file is shorter than announced, or the checksum in a CBF is another.

    Compressed files carry checksums of their own, and other formats announce nothing: they pass.
    Without ``checksum`` only the start of the file is read.

    Raises
    ------
    NotReadableError
        With what is wrong.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".gz", ".bz2"):
        return
    with Path(path).open("rb") as file:
        start = file.read(USUAL_HEADER)
        if suffix == ".cbf":
            if _START_OF_PIXELS not in start:
                start += file.read(LONGEST_HEADER - len(start))
            _check_cbf(file, start, checksum)
        elif start.startswith(b"{") and b"HEADER_BYTES" in start[:512]:
            _check_smv(start, Path(path).stat().st_size)


def _check_cbf(file, start, checksum):
    """Check the first binary section of a CBF."""
    position = start.find(_START_OF_PIXELS)
    if b"X-Binary-Size:" not in start or position < 0:
        if start.lstrip().startswith((b"###CBF", b"data_")):
            if re.search(rb"Content-Transfer-Encoding:\s*\"?(BASE64|QUOTED|X-BASE)", start, re.IGNORECASE):
                return  # pixels as text, in a section without a size in bytes
            raise NotReadableError("truncated: it has no binary section; is the detector still writing?")
        raise NotReadableError("is no CBF: it does not start with ###CBF")
    header, position = start[:position], position + len(_START_OF_PIXELS)
    expected = int(_header_value(header, rb"X-Binary-Size:\s*(\d+)"))
    found = min(expected, os.fstat(file.fileno()).st_size - position)
    if found < expected:
        raise NotReadableError(
            f"truncated: {found} bytes of pixels, its header announces {expected}; "
            "is the detector still writing?"
        )
    announced = _header_value(header, rb"Content-MD5:\s*([A-Za-z0-9+/]{22}==)")
    if not (checksum and announced):
        return
    file.seek(position)
    pixels = file.read(expected)
    if base64.b64encode(hashlib.md5(pixels, usedforsecurity=False).digest()) != announced:
        raise NotReadableError("damaged: its pixels do not have the checksum (Content-MD5) of its header")


def _check_smv(start, size):
    """Check that an SMV file has as many pixels as its header says."""
    fields = dict(re.findall(rb"(\w+)\s*=\s*([^;\n]*?)\s*;", start.split(b"}", 1)[0]))
    try:
        expected = int(fields[b"HEADER_BYTES"])
        if b"}" in start and fields.get(b"COMPRESSION", b"none").lower() == b"none":
            bytes_each = _SMV_BYTES[fields[b"TYPE"].decode().lower()]
            expected += int(fields[b"SIZE1"]) * int(fields[b"SIZE2"]) * bytes_each
    except (KeyError, ValueError):
        return  # dxtbx may still know it
    if size < expected:
        raise NotReadableError(
            f"truncated: {size} bytes, its header announces {expected}; is the detector still writing?"
        )


def _header_value(header, pattern):
    """First group of the last match, that of the section that follows; empty if there is none."""
    found = re.findall(pattern, header)
    return found[-1] if found else b""
