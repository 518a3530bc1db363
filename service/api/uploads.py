"""Images out of a multipart request, in memory from the first byte to the last."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO, Final

from flask import Request

from models.patients.encoding import NAMES, PatientError, read_patient
from service.problems import Problem

__all__ = ["BadUpload", "MemoryRequest", "images_in", "patient_in"]

FIELD: Final = "image"
LONGEST_NAME: Final = 255
# Of this service's own forms, beside the images.
_OWN_FIELDS: Final = ("csrf_token", "label", "model", "show", *NAMES)


class BadUpload(Problem):
    """A request that holds no images, or not as it should."""


class MemoryRequest(Request):
    """A request whose uploaded files stay in memory: werkzeug would write large ones to disk."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def images_in(request: Request, *, at_most: int) -> list[tuple[str, bytes]]:
    """Read the images that a request brings.

    Parameters
    ----------
    request : Request
    at_most : int
        How many are allowed.

    Returns
    -------
    list of (str, bytes)
        File name, made fit to be shown, and content.

    Raises
    ------
    BadUpload
        If the request is not multipart, holds no file in the field `image`, or too many.
    """
    if request.mimetype != "multipart/form-data":
        got = f"the content type {request.mimetype!r}" if request.mimetype else "no content type"
        raise BadUpload(
            "not_multipart",
            f"The request has {got}, expected multipart/form-data with one or more files in the "
            f"field {FIELD!r}.",
        )
    uploads = [(upload.filename or "", upload.read()) for upload in request.files.getlist(FIELD)]
    # A form that is sent without a choice brings one nameless, empty file.
    uploads = [(name, content) for name, content in uploads if name or content]
    if not uploads:
        raise _explain_absence(request)
    if len(uploads) > at_most:
        raise BadUpload(
            "too_many_images",
            f"The request holds {len(uploads)} images, at most {at_most} are classified at once: "
            "send them in several requests.",
        )
    return [
        (_presentable(name) or f"image {number}", content)
        for number, (name, content) in enumerate(uploads, 1)
    ]


def patient_in(request: Request) -> dict[str, str]:
    """Read age, sex and site of the patient whom a request's images are of.

    Parameters
    ----------
    request : Request

    Returns
    -------
    dict of str to str
        What the form has of them, as it was written.

    Raises
    ------
    BadUpload
        If an age or sex can't be one, or one of them is given twice.
    """
    given: dict[str, str] = {}
    for name in NAMES:
        values = request.form.getlist(name)
        if len(values) > 1:
            raise BadUpload(
                "wrong_value",
                f"The request has {len(values)} fields {name!r}, expected one: send the images of "
                "another patient in another request.",
            )
        if values:
            given[name] = values[0]
    try:
        read_patient(given, {})
    except PatientError as error:
        raise BadUpload("wrong_value", f"The request {error}.") from error
    return given


def _explain_absence(request: Request) -> BadUpload:
    others = sorted((set(request.files) | set(request.form)) - {FIELD, *_OWN_FIELDS})
    if FIELD in request.files:
        return BadUpload("no_file", "No image was chosen: choose one or more and send them again.")
    if FIELD in request.form:
        return BadUpload(
            "not_a_file",
            f"The field {FIELD!r} holds text, expected a file: send it with a file name.",
        )
    if others:
        return BadUpload(
            "wrong_field",
            f"The request has the field{'s' if len(others) > 1 else ''} {_listed(others)}, "
            f"expected one or more files in the field {FIELD!r}.",
        )
    return BadUpload(
        "no_file",
        f"The request holds no readable multipart field, expected one or more files in the field "
        f"{FIELD!r}.",
    )


def _listed(names: Iterable[str], most: int = 5) -> str:
    shown = [repr(name[:40]) for name in names]
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")


def _presentable(name: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)[
        :LONGEST_NAME
    ]
