"""Follow every request: its number, its line in the log, and its share in the metrics."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Final

from flask import Flask, Response, g, request

from service.telemetry.metrics import Metrics

__all__ = ["REQUEST_ID", "init_app", "request_id"]

REQUEST_ID: Final = "X-Request-ID"
_SANE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

logger = logging.getLogger(__name__)


def init_app(app: Flask, metrics: Metrics) -> None:
    """Number, count and log the requests to `app`."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get(REQUEST_ID, "")
        # Whatever else is in it could forge lines of somebody's log.
        g.request_id = given if _SANE.fullmatch(given) else secrets.token_hex(16)
        g.started = time.perf_counter()
        metrics.in_flight.inc()
        g.counted = True

    @app.after_request
    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        seconds = time.perf_counter() - g.get("started", time.perf_counter())
        method = request.method if request.url_rule else "any"
        metrics.requests.labels(method, route, response.status_code).inc()
        metrics.seconds.labels(route).observe(seconds)
        response.headers[REQUEST_ID] = request_id()
        key = g.get("key")
        logger.info(
            "%s %s %d",
            request.method,
            route,
            response.status_code,
            extra={
                "fields": {
                    "request_id": request_id(),
                    "method": request.method,
                    "route": route,
                    "status": response.status_code,
                    "milliseconds": round(1000 * seconds, 1),
                    "bytes_in": request.content_length,
                    "address": request.remote_addr,
                    "key": key.name if key else None,
                }
            },
        )
        return response

    @app.teardown_request
    def gone(_: BaseException | None) -> None:
        if g.pop("counted", False):
            metrics.in_flight.dec()


def request_id() -> str:
    """Give the number of the request that is being answered."""
    found: str = g.get("request_id", "")
    return found
