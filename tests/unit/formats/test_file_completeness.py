"""Lengths and checksums that CBF and SMV files announce."""

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest

from ssx_processing.formats.file_completeness import NotReadableError, check_complete

PIXELS = np.arange(200, dtype="<u2").tobytes()


def cbf(pixels: bytes, *, size: int = len(PIXELS), md5: bytes | None = None) -> bytes:
    checksum = base64.b64encode(hashlib.md5(PIXELS, usedforsecurity=False).digest()) if md5 is None else md5
    return (
        b"###CBF: VERSION 1.5\n_array_data.data\n;\n--CIF-BINARY-FORMAT-SECTION--\n"
        b"Content-Transfer-Encoding: BINARY\nX-Binary-Size: %d\nContent-MD5: %s\n\n"
        % (size, checksum)
        + b"\x0c\x1a\x04\xd5"
        + pixels
    )


def smv(n_pixels: int, kind: bytes = b"unsigned_short", more: bytes = b"") -> bytes:
    header = b"{\nHEADER_BYTES=  512;\nTYPE=%s;\nSIZE1=20;\nSIZE2=10;\n%s}" % (kind, more)
    return header.ljust(512) + PIXELS[: 2 * n_pixels]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.cbf", cbf(PIXELS)),
        ("a.cbf", cbf(PIXELS + b"\r\n--CIF-BINARY-FORMAT-SECTION----\n;\n")),
        ("a.cbf", cbf(PIXELS, md5=b"none")),
        ("a.cbf", b"###CBF: VERSION 1.5\nContent-Transfer-Encoding: BASE64\nAAECAwQF\n"),
        ("a.img", smv(200)),
        ("a.img", smv(10, more=b"COMPRESSION=TY5;\n")),
        ("a.img", smv(10, kind=b"something else")),
        ("a.mccd", b"anything"),
        ("a.cbf.gz", b"anything"),
    ],
)
def test_whole_files_and_files_that_announce_nothing_pass(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    check_complete(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.cbf", cbf(PIXELS[:-1]), "truncated: 399 bytes of pixels, its header announces 400"),
        ("a.cbf", cbf(PIXELS)[:60], "truncated: it has no binary section"),
        ("a.cbf", b"no image", "is no CBF"),
        ("a.cbf", cbf(PIXELS[:-1] + b"\1"), "damaged: its pixels do not have the checksum"),
        ("a.img", smv(199), "truncated: 910 bytes, its header announces 912"),
        ("a.img", smv(200, kind=b"long_integer"), "truncated: 912 bytes, its header announces 1312"),
        ("a.img", smv(200)[:40], "truncated: 40 bytes, its header announces 512"),
    ],
)
def test_files_that_are_not_whole_are_found(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotReadableError, match=f"^{message}"):
        check_complete(str(tmp_path / name))


def test_length_alone_can_be_checked(tmp_path: Path):
    path = tmp_path / "a.cbf"
    path.write_bytes(cbf(PIXELS[:-1] + b"\1"))
    check_complete(path, checksum=False)
    path.write_bytes(cbf(PIXELS[:-1]))
    with pytest.raises(NotReadableError, match="truncated"):
        check_complete(path, checksum=False)
