"""What a supervisor asks: whether the process is alive, takes requests, and how it is doing."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from service.api.operations import operation
from service.classifier.loaded import LoadedClassifier
from service.classifier.reviews import Reviews
from service.telemetry.metrics import CONTENT_TYPE_LATEST

__all__ = ["monitoring_blueprint"]


def monitoring_blueprint(classifier: LoadedClassifier, reviews: Reviews) -> Blueprint:
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
        description="Verdicts need no feedback store, so that one which fails is told and is no "
        "reason to take no requests.",
        tag="operation",
        answers={200: ("Health", "They are."), 503: ("Health", "Not yet, or not any more.")},
    )
    def readyz() -> tuple[Response, int]:
        store = {"feedback": "failing" if reviews.failing else "kept"} if reviews.kept else {}
        if classifier.ready:
            return jsonify(status="ready", **store), 200
        return jsonify(status="stopping" if classifier.draining else "loading", **store), 503

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
