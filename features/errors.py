"""What can go wrong, by name; each message is one sentence that says what to do."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "CacheError",
    "CacheMismatch",
    "ClusterError",
    "DatasetError",
    "ExtractorError",
    "LesionError",
    "StorageError",
    "UnreadableImage",
    "WeightsError",
]

ImageFault = Literal["empty", "not_an_image", "truncated", "too_large", "unsupported", "unreadable"]


class LesionError(Exception):
    """Any failure that a user can cause or mend; its text is shown as it is."""


class UnreadableImage(LesionError):
    """An image file that can't be turned into pixels.

    Parameters
    ----------
    code : {"empty", "not_an_image", "truncated", "too_large", "unsupported", "unreadable"}
        The kind of fault, for programs.
    message : str
        The reason, for people.
    """

    def __init__(self, code: ImageFault, message: str) -> None:
        super().__init__(message)
        self.code: ImageFault = code

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[ImageFault, str]]:
        return type(self), (self.code, str(self))


class DatasetError(LesionError):
    """A folder or a table of labels that can't be read as a data set."""


class ExtractorError(LesionError, ValueError):
    """A network that does not exist, or an input it can't take."""


StorageFault = Literal["missing", "no_bucket", "refused", "too_large", "unreachable", "unusable"]


class StorageError(LesionError):
    """An address in the cloud that can't be read, listed or written.

    Parameters
    ----------
    kind : {"missing", "no_bucket", "refused", "too_large", "unreachable", "unusable"}
        For programs: nothing is there, not even the bucket, credentials do not do, more than is
        read, no good answer after all retries, or the address itself can't be used.
    message : str
        The reason, for people.
    """

    def __init__(self, kind: StorageFault, message: str) -> None:
        super().__init__(message)
        self.kind: StorageFault = kind

    def __reduce__(self) -> tuple[type[StorageError], tuple[StorageFault, str]]:
        return type(self), (self.kind, str(self))


class WeightsError(LesionError):
    """Weights that can't be fetched, found, or loaded into the network."""


class CacheError(LesionError):
    """A feature file that is missing, damaged, locked, or of another format."""


class CacheMismatch(CacheError):
    """A feature file made by another extractor than the one at hand."""


class ClusterError(LesionError):
    """A cluster that is not there, is not as it must be, or lost what it was to do."""
