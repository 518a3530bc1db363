"""The kinds of problem that the service answers, and the exception that carries one."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

from features.errors import LesionError

__all__ = ["KINDS", "SECONDS_TO_RETRY", "Kind", "Problem"]

# Loading a bundle takes about as long.
SECONDS_TO_RETRY: Final = 5


class Kind(NamedTuple):
    """A kind of problem: the HTTP status of its answer, and when it is answered."""

    status: int
    meaning: str


KINDS: Final = MappingProxyType(
    {
        "bad_request": Kind(400, "not as HTTP has it"),
        "no_file": Kind(400, "no image in the request"),
        "not_multipart": Kind(400, "another content type than multipart/form-data"),
        "not_a_file": Kind(400, "text where a file was expected"),
        "wrong_field": Kind(400, "files under another name than `image`"),
        "wrong_value": Kind(400, "a parameter or field with another value than allowed"),
        "wrong_token": Kind(400, "a form of a page that was open for too long"),
        "no_key": Kind(401, "no key where one is needed"),
        "wrong_key": Kind(401, "a key that is not known"),
        "wrong_scope": Kind(403, "a key that is not for this"),
        "cross_site": Kind(403, "sent by another site's page"),
        "not_local": Kind(403, "from another machine, while no keys are set"),
        "not_found": Kind(404, "no such address"),
        "no_feedback": Kind(404, "the service keeps no feedback"),
        "no_gallery": Kind(404, "the bundle that is served has no training images to compare with"),
        "method_not_allowed": Kind(405, "not that method"),
        "reload_running": Kind(409, "a bundle is being loaded already"),
        "bundle_refused": Kind(409, "the new bundle does not verify; the old one stays in service"),
        "too_large": Kind(413, "more bytes than allowed"),
        "too_many_images": Kind(413, "more images than allowed"),
        "requested_range_not_satisfiable": Kind(416, "a part of a file that it does not have"),
        "unreadable_image": Kind(422, "feedback on an image that can't be read"),
        "too_often": Kind(429, "more requests, or wrong keys, than allowed; see `Retry-After`"),
        "internal_error": Kind(
            500, "a fault of the service, in its log under the request's number"
        ),
        "not_ready": Kind(503, "the bundle is being loaded; see `Retry-After`"),
        "busy": Kind(503, "as many requests as allowed are being answered; see `Retry-After`"),
        "too_late": Kind(503, "the request's turn did not come in time; see `Retry-After`"),
        "storage_failed": Kind(
            503, "the feedback store can't be reached; the reason says what became of the record"
        ),
        "storage_full": Kind(507, "no room for feedback; nothing was kept"),
    }
)


class Problem(LesionError):
    """A request that gets no result.

    Parameters
    ----------
    code : str
        The kind, a key of `KINDS`.
    message : str
        The reason, for people.
    retry_after : int
        Seconds after which it may be made again; 0 if that would change nothing.
    """

    def __init__(self, code: str, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = KINDS[code].status
        self.retry_after = retry_after
