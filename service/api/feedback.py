"""Record what became of an image: by a program with the image, or on the page by a reviewer."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response, g, jsonify, render_template, request

from models.inference.feedback import FeedbackRecord
from service.access.rules import access, check_form
from service.api.operations import FileField, TextField, operation
from service.api.uploads import images_in
from service.classifier.loaded import LoadedClassifier
from service.classifier.reviews import Reviews, require_label, reviewed_labels
from service.classifier.served import Case
from service.problems import Problem
from service.settings import Settings

__all__ = ["feedback_blueprint"]

LABEL: Final = "label"


CASE: Final = "case"


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
    def record() -> tuple[Response, int]:
        if not reviews.kept:
            raise Problem("no_feedback", "This service was started without --feedback.")
        with classifier.turn() as served:
            ((_, image),) = images_in(request, at_most=1)
            label = _label()
            require_label(label, reviewed_labels(served.bundle))
            (case,) = served.classify_cases([("image", image)])
            if not isinstance(case, Case):
                raise Problem("unreadable_image", case.message)
            found = reviews.record(served, image, case, label)
        number = reviews.keep(found)
        return jsonify(_receipt(number, found)), 201

    @blueprint.post("/feedback")
    def review() -> str:
        access().require("feedback")
        check_form()
        if not reviews.kept:
            raise Problem("no_feedback", "This service keeps no feedback.")
        found = reviews.redeem(request.form.get(CASE, ""), _label(), g.key.name)
        reviews.keep(found)
        return render_template("recorded.html", record=found)

    @blueprint.app_context_processor
    def on_every_page() -> dict[str, Any]:
        if not (classifier.ready and reviews.welcome):
            return {"review": None}
        return {"review": {"labels": reviewed_labels(classifier.bundle)}}

    return blueprint


def _label() -> str:
    given = request.form.getlist(LABEL)
    # Several are none.
    return given[0] if len(given) == 1 else ""


def _receipt(number: int, record: FeedbackRecord) -> dict[str, Any]:
    return {
        "number": number,
        "sha256": record.sha256,
        "label": record.label,
        "reviewer": record.reviewer,
        "image_kept": record.image is not None,
        "model": record.bundle[:16],
    }
