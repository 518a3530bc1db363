"""What a supervisor asks: whether the process is alive, and whether it takes requests."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from service.classifier import LoadedClassifier

__all__ = ["monitoring_blueprint"]


def monitoring_blueprint(classifier: LoadedClassifier) -> Blueprint:
    """Make the routes `/healthz` and `/readyz`."""
    blueprint = Blueprint("monitoring", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        if classifier.ready:
            return jsonify(status="ready"), 200
        return jsonify(status="loading"), 503

    return blueprint
