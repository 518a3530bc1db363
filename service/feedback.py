"""Record what became of an image: by a program with the image, or on the page by a reviewer."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import threading
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from flask import Blueprint, Response, current_app, g, jsonify, render_template, request
from itsdangerous import BadData, URLSafeTimedSerializer

from models.feedback import FeedbackRecord, FeedbackStore
from service.access import access, check_form
from service.api import reviewed_labels
from service.classifier import Case, LoadedClassifier, Served
from service.errors import problem
from service.operations import FileField, TextField, operation
from service.settings import Settings
from service.uploads import BadUpload, images_in

if TYPE_CHECKING:
    from models.bundle import Bundle

__all__ = ["Reviews", "feedback_blueprint"]

LABEL: Final = "label"
CASE: Final = "case"
# As long as somebody stays signed in.
_CASE_SECONDS: Final = 12 * 3600


class Reviews:
    """The feedback store of the process, and the tickets by which a page names a case.

    A page that shows a verdict carries what is to be recorded, signed, so that the image itself
    need not be kept anywhere until the reviewer has decided.

    Parameters
    ----------
    settings : Settings
    classifier : LoadedClassifier

    Raises
    ------
    FeedbackFailed
        If the store can't be opened.
    """

    def __init__(self, settings: Settings, classifier: LoadedClassifier) -> None:
        self._classifier = classifier
        self._keep_images = settings.feedback_images
        self._store = FeedbackStore(settings.feedback, create=True) if settings.feedback else None
        self._writing = threading.Lock()

    @property
    def kept(self) -> bool:
        """Whether feedback is kept at all."""
        return self._store is not None

    @property
    def welcome(self) -> bool:
        """Whether who asks may record it."""
        return self.kept and access().allows("feedback")

    def ticket(self, case: Case, image: bytes, bundle: Bundle) -> str:
        """Make what a page carries to name a case."""
        row = zlib.compress(np.ascontiguousarray(case.row, "<f4").tobytes(), 1)
        return _serializer().dumps(
            {
                "sha256": hashlib.sha256(image).hexdigest(),
                "fingerprint": bundle.fingerprint,
                "bundle": bundle.identity,
                "probability": case.verdict.probability,
                "embedding": base64.b64encode(row).decode("ascii"),
            }
        )

    def redeem(self, ticket: str, label: str, reviewer: str) -> FeedbackRecord:
        """Read a ticket.

        Raises
        ------
        BadUpload
            If it was not made here, or too long ago.
        """
        try:
            values = _serializer().loads(ticket, max_age=_CASE_SECONDS)
            row = zlib.decompress(base64.b64decode(values.pop("embedding")))
        except (BadData, ValueError, binascii.Error, zlib.error) as error:
            raise BadUpload(
                "wrong_value",
                "The case is no longer known: classify the image again, then say what it was.",
            ) from error
        return FeedbackRecord(
            **values, embedding=np.frombuffer(row, "<f4"), label=label, reviewer=reviewer
        )

    def record(self, served: Served, image: bytes, case: Case, label: str) -> FeedbackRecord:
        """Make the record of an image that is at hand."""
        return FeedbackRecord(
            sha256=hashlib.sha256(image).hexdigest(),
            label=label,
            reviewer=g.key.name,
            fingerprint=served.bundle.fingerprint,
            bundle=served.bundle.identity,
            probability=case.verdict.probability,
            embedding=case.row,
            image=image if self._keep_images else None,
        )

    def keep(self, record: FeedbackRecord) -> int:
        """Write a record to the disk.

        Raises
        ------
        FeedbackFailed
            If that is not possible.
        """
        if self._store is None:
            raise LookupError("there is no feedback store")
        with self._writing:
            number = self._store.add(record)
        self._classifier.metrics.feedback.labels(record.label).inc()
        return number


def feedback_blueprint(
    settings: Settings, classifier: LoadedClassifier, reviews: Reviews
) -> Blueprint:
    """Make the routes by which reviewers say what an image was."""
    blueprint = Blueprint("feedback", __name__)

    @blueprint.post("/api/v1/feedback")
    @operation(
        summary="Record the true label of an image",
        description="Its embedding, label and hash are kept, and the image itself only if the "
        "service was told so. `fit_classifier.py --feedback` trains on them.",
        scope="feedback",
        form=(
            FileField("image", "The image file."),
            TextField(LABEL, "One of the `reviewed_labels` of /api/v1/model."),
        ),
        answers={201: ("Recorded", "It is on the disk.")},
        problems={
            400: "The request is not as it should be.",
            404: "The service keeps no feedback.",
            413: "Too many bytes, or more than one image.",
            422: "The image could not be read.",
            503: "Loading, over capacity, or the store can't be reached.",
            507: "There is no room: nothing was kept.",
        },
    )
    def record() -> tuple[Response, int] | Response:
        if not reviews.kept:
            return problem(404, "no_feedback", "This service was started without --feedback.")
        with classifier.turn() as served:
            ((_, image),) = images_in(request, at_most=1)
            label = _label(served.bundle)
            (case,) = served.examine([("image", image)])
            if not isinstance(case, Case):
                return problem(422, "unreadable_image", case.message)
            found = reviews.record(served, image, case, label)
        number = reviews.keep(found)
        return jsonify(_receipt(number, found)), 201

    @blueprint.post("/feedback")
    def review() -> str:
        access().require("feedback")
        check_form()
        if not reviews.kept:
            raise BadUpload("no_feedback", "This service keeps no feedback.", 404)
        label = _label(classifier.bundle)
        found = reviews.redeem(request.form.get(CASE, ""), label, g.key.name)
        reviews.keep(found)
        return render_template("recorded.html", record=found)

    @blueprint.app_context_processor
    def on_every_page() -> dict[str, Any]:
        if not (classifier.ready and reviews.welcome):
            return {"review": None}
        return {"review": {"labels": reviewed_labels(classifier.bundle)}}

    return blueprint


def _label(bundle: Bundle) -> str:
    labels = reviewed_labels(bundle)
    given = request.form.getlist(LABEL)
    if len(given) != 1 or given[0] not in labels:
        raise BadUpload(
            "wrong_value",
            f"The field {LABEL!r} is {', '.join(given)[:40]!r}, expected one of "
            f"{', '.join(labels)}.",
        )
    return given[0]


def _receipt(number: int, record: FeedbackRecord) -> dict[str, Any]:
    return {
        "number": number,
        "sha256": record.sha256,
        "label": record.label,
        "reviewer": record.reviewer,
        "image_kept": record.image is not None,
    }


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="case", serializer=json)
