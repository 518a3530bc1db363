"""The JSON API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, jsonify, request

from models.notices import NOT_A_DIAGNOSIS
from service.classifier import LoadedClassifier
from service.settings import Settings
from service.uploads import images_in

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.classifier import Rejected, Verdict

__all__ = ["api_blueprint", "status_of"]

# Faults of the file's kind rather than of its content.
WRONG_KIND: Final = frozenset({"not_an_image", "unsupported"})


def api_blueprint(settings: Settings, classifier: LoadedClassifier) -> Blueprint:
    """Make the routes below `/api/v1`."""
    blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

    @blueprint.post("/classify")
    def classify() -> tuple[Response, int]:
        model = describe(classifier.bundle)
        results = classifier.classify(images_in(request, at_most=settings.max_images))
        answer = {
            "results": [r.as_dict() for r in results],
            "model": model,
            "notice": NOT_A_DIAGNOSIS,
        }
        return jsonify(answer), status_of(results)

    return blueprint


def describe(bundle: Bundle) -> dict[str, Any]:
    """Say which model a result is from."""
    return {
        "fingerprint": bundle.spec.fingerprint[:16],
        "network": bundle.spec.network,
        "head": bundle.head_name,
        "labels": list(bundle.labels),
        "marks": list(bundle.marks),
    }


def status_of(results: list[Verdict | Rejected]) -> int:
    """Choose the HTTP status: 200 if any image was classified.

    Otherwise 415 if none was an image of a supported format, else 422.
    """
    codes = {getattr(result, "code", None) for result in results}
    if None in codes:
        return 200
    return 415 if codes <= WRONG_KIND else 422
