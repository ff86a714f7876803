"""Errors raised on purpose.

* SsxError                 catch this to catch them all
    - SettingsError        settings contradict each other or the data
    - ImageReadError       a file is missing, truncated, or of no known format
    - DxtbxProcessError    the process that runs dxtbx is lost again and again, whatever the file
    - GeometryError        the geometry in the file cannot be used
    - ChunkError           a chunk folder is incomplete or from another version
    - MergeError           there is nothing that can be merged
    - EventChainError      recorded events do not tell of each frame what happened to it
    - ReferenceFileError   a file cannot be used as reference

Every message says what is wrong, where, what was got and expected, and what to do.
"""


class SsxError(Exception):
    """Base of all errors that this package raises on purpose."""


class SettingsError(SsxError, ValueError):
    """Settings contradict each other or the data."""


class ImageReadError(SsxError, OSError):
    """A file is missing, truncated, or of no known format."""


class DxtbxProcessError(SsxError, RuntimeError):
    """The process that runs dxtbx dies or hangs again and again: no file is to blame, so try again later."""


class GeometryError(SsxError, ValueError):
    """The geometry in a file cannot be used."""


class ChunkError(SsxError, ValueError):
    """A chunk folder is incomplete or from another version."""


class MergeError(SsxError, ValueError):
    """There is nothing that can be merged."""


class ReferenceFileError(SsxError, ValueError):
    """A file to compare with cannot be used."""


class EventChainError(SsxError, ValueError):
    """Recorded events do not tell of each frame what happened to it."""
