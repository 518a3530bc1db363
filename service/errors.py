"""What went wrong, told to a program as RFC 9457 problem and to a person as a page."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from models.inference.feedback import FeedbackFailed
from service.problems import KINDS, Problem
from service.settings import Settings
from service.telemetry.tracing import request_id

__all__ = ["PROBLEM_TYPE", "PROGRAM_PATHS", "init_app", "wants_fragment"]

# The page's script asks with this header for the results alone instead of a whole page.
FRAGMENT_HEADER: Final = "X-Lesion-Fragment"
PROGRAM_PATHS: Final = ("/api/", "/healthz", "/readyz", "/metrics")
PROBLEM_TYPE: Final = "application/problem+json"

logger = logging.getLogger(__name__)


def init_app(app: Flask, settings: Settings) -> None:
    """Answer every error of `app` in the form that suits who asked."""

    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        response = _answer(error.code, str(error))
        if error.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Bearer realm="lesion-classifier"'
        if error.retry_after:
            response.headers["Retry-After"] = str(error.retry_after)
        being_loaded = error.code == "not_ready" and request.method == "GET"
        if being_loaded and response.mimetype == "text/html":
            response.headers["Refresh"] = str(error.retry_after)
        return response

    @app.errorhandler(FeedbackFailed)
    def feedback_failed(error: FeedbackFailed) -> Response:
        logger.error("feedback was not kept: %s", error)
        return _answer(error.code, str(error))

    @app.errorhandler(CSRFError)
    def wrong_token(error: CSRFError) -> Response:
        return _answer(
            "wrong_token",
            "The form was open for too long, or cookies are off: load the page again, then send "
            "the form once more.",
        )

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(error: RequestEntityTooLarge) -> Response:
        got = f"{request.content_length / 1024**2:.1f} MB" if request.content_length else "more"
        return _answer(
            "too_large",
            f"The request has {got}, at most {settings.max_upload_mb} MB are accepted: "
            "send fewer or smaller images.",
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        response = _answer(_kind(status), _sentence(error, status))
        response.headers.extend(
            (name, value)
            for name, value in error.get_headers()
            if name not in ("Content-Type", "Content-Length")
        )
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        logger.error(
            "%s %r failed",
            request.method,
            request.url_rule.rule if request.url_rule else "none",
            exc_info=error,
            extra={"fields": {"request_id": request_id()}},
        )
        return _answer(
            "internal_error",
            "Something went wrong here, not with the image: try again, and tell whoever runs "
            f"this service the number {request_id()} if it stays so.",
        )


def wants_fragment() -> bool:
    """Whether the page's script asks, which shows the answer inside the page."""
    return FRAGMENT_HEADER in request.headers


def _kind(status: HTTPStatus) -> str:
    """Give the kind of an error of HTTP's own."""
    if (name := status.name.lower()) in KINDS:
        return name
    return "internal_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "bad_request"


def _answer(code: str, message: str) -> Response:
    known = HTTPStatus(KINDS[code].status)
    if request.path.startswith(PROGRAM_PATHS):
        response = jsonify(
            type=f"{request.script_root}/docs#{code}",
            title=known.phrase,
            status=known,
            detail=message,
            code=code,
            request_id=request_id(),
        )
        response.mimetype = PROBLEM_TYPE
    else:
        template = "card/error.html" if wants_fragment() else "error.html"
        response = make_response(
            render_template(
                template, title=known.phrase, message=message, status=int(known), code=code
            )
        )
    response.status_code = known
    return response


def _sentence(error: HTTPException, status: HTTPStatus) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.path[:200]}."
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(set(getattr(error, "valid_methods", None) or ()) - {"OPTIONS"}))
        return f"{request.path[:200]} does not take {request.method}, expected {allowed}."
    return error.description or status.phrase
