"""What a supervisor asks: whether the process is alive, takes requests, and how it is doing."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from service.api.operations import operation
from service.classifier.loaded import LoadedClassifier
from service.telemetry.metrics import CONTENT_TYPE_LATEST

__all__ = ["monitoring_blueprint"]


def monitoring_blueprint(classifier: LoadedClassifier) -> Blueprint:
    """Make the routes `/healthz`, `/readyz` and `/metrics`."""
    blueprint = Blueprint("monitoring", __name__)

    @blueprint.get("/healthz")
    @operation(
        summary="Whether the process lives",
        tag="operation",
        answers={200: ("Health", "It does.")},
    )
    def healthz() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    @operation(
        summary="Whether requests are taken",
        tag="operation",
        answers={200: ("Health", "They are."), 503: ("Health", "Not yet, or not any more.")},
    )
    def readyz() -> tuple[Response, int]:
        if classifier.ready:
            return jsonify(status="ready"), 200
        return jsonify(status="stopping" if classifier.draining else "loading"), 503

    @blueprint.get("/metrics")
    @operation(
        summary="Counters and histograms, as Prometheus reads them",
        tag="operation",
        scope="metrics",
        answers={200: ("text/plain", "The metrics.")},
    )
    def metrics() -> Response:
        return Response(classifier.metrics.text(), content_type=CONTENT_TYPE_LATEST)

    return blueprint
