"""Take a new bundle while serving: by a request, or by SIGHUP."""

from __future__ import annotations

import logging
import os
import signal

from flask import Blueprint, Response, jsonify, request

from features.errors import LesionError
from service.access.rules import Access, access
from service.api.operations import operation
from service.classifier.loaded import LoadedClassifier
from service.classifier.served import Served
from service.problems import Problem

__all__ = ["admin_blueprint", "reload"]

logger = logging.getLogger(__name__)


def admin_blueprint(classifier: LoadedClassifier) -> Blueprint:
    """Make the route `/api/v1/reload`."""
    blueprint = Blueprint("admin", __name__, url_prefix="/api/v1")

    @blueprint.post("/reload")
    @operation(
        summary="Serve the bundle that is in the folder now",
        description="It is verified and run first; if that fails, the old one stays in service. "
        "Requests that are being answered keep the bundle that they began with. The file of keys "
        "is read again, too.",
        tag="operation",
        scope="admin",
        answers={200: ("Reloaded", "It is served from now on.")},
        problems={
            409: "It does not verify, or one is being loaded already: nothing has changed.",
            503: "The first bundle is still being loaded.",
        },
    )
    def reload_bundle() -> Response:
        before = classifier.served
        try:
            now = reload(classifier, access())
        except Problem:
            raise
        except LesionError as error:
            raise Problem("bundle_refused", f"The old bundle stays in service: {error}") from error
        if request.environ.get("wsgi.multiprocess"):
            # The other workers are gunicorn's to replace, which it does without losing requests.
            os.kill(os.getppid(), signal.SIGHUP)
        identities = before.bundle.identity, now.bundle.identity
        return jsonify(
            before=identities[0], now=identities[1], changed=identities[0] != identities[1]
        )

    return blueprint


def reload(classifier: LoadedClassifier, rules: Access) -> Served:
    """Read keys and bundle again; one that can't be read leaves the old as it was.

    Raises
    ------
    Problem
        If a bundle is being loaded already.
    LesionError
        If keys or bundle are refused.
    """
    # First, so that a key can be taken away even if the bundle is refused.
    rules.read_keys()
    served = classifier.load()
    logger.info("serving the bundle %s", served.bundle.identity[:16])
    return served
