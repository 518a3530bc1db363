"""What went wrong, told to a program as RFC 9457 problem and to a person as a page."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from models.feedback import FeedbackFailed
from service.access import Refused
from service.batching import TooLate
from service.classifier import Busy, NoGallery, NotReady
from service.settings import Settings
from service.tracing import request_id
from service.uploads import BadUpload

__all__ = ["PROBLEM_TYPE", "PROGRAM_PATHS", "init_app", "problem", "wants_fragment"]

# The page's script asks with this header for the results alone instead of a whole page.
FRAGMENT_HEADER: Final = "X-Lesion-Fragment"
PROGRAM_PATHS: Final = ("/api/", "/healthz", "/readyz", "/metrics")
PROBLEM_TYPE: Final = "application/problem+json"
_SECONDS_TO_RETRY: Final = 5

logger = logging.getLogger(__name__)


def init_app(app: Flask, settings: Settings) -> None:
    """Answer every error of `app` in the form that suits who asked."""

    @app.errorhandler(BadUpload)
    def bad_upload(error: BadUpload) -> Response:
        return _answer(error.status, error.code, str(error))

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        response = _answer(error.status, error.code, str(error))
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="lesion-classifier"'
        if error.retry_after:
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    @app.errorhandler(NotReady)
    def not_ready(error: NotReady) -> Response:
        response = _later("not_ready", str(error), _SECONDS_TO_RETRY)
        if response.mimetype == "text/html" and request.method == "GET":
            response.headers["Refresh"] = str(_SECONDS_TO_RETRY)
        return response

    @app.errorhandler(Busy)
    def busy(error: Busy) -> Response:
        return _later("busy", str(error), 1)

    @app.errorhandler(NoGallery)
    def no_gallery(error: NoGallery) -> Response:
        return _answer(404, "no_gallery", str(error))

    @app.errorhandler(TooLate)
    def too_late(error: TooLate) -> Response:
        return _later("too_late", str(error), _SECONDS_TO_RETRY)

    @app.errorhandler(FeedbackFailed)
    def feedback_failed(error: FeedbackFailed) -> Response:
        logger.error("feedback was not kept: %s", error)
        return _answer(507 if error.full else 503, error.code, str(error))

    @app.errorhandler(CSRFError)
    def wrong_token(error: CSRFError) -> Response:
        return _answer(
            400,
            "wrong_token",
            "The form was open for too long, or cookies are off: load the page again, then send "
            "the form once more.",
        )

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(error: RequestEntityTooLarge) -> Response:
        got = f"{request.content_length / 1024**2:.1f} MB" if request.content_length else "more"
        return _answer(
            413,
            "too_large",
            f"The request has {got}, at most {settings.max_upload_mb} MB are accepted: "
            "send fewer or smaller images.",
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        response = _answer(status, status.name.lower(), _sentence(error, status))
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
            500,
            "internal_error",
            "Something went wrong here, not with the image: try again, and tell whoever runs "
            f"this service the number {request_id()} if it stays so.",
        )


def wants_fragment() -> bool:
    """Whether the page's script asks, which shows the answer inside the page."""
    return FRAGMENT_HEADER in request.headers


def problem(status: int, code: str, message: str) -> Response:
    """Make the answer that tells a program what went wrong."""
    response = jsonify(
        type=f"{request.script_root}/docs#{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=message,
        code=code,
        request_id=request_id(),
    )
    response.status_code = status
    response.mimetype = PROBLEM_TYPE
    return response


def _answer(status: int, code: str, message: str) -> Response:
    if request.path.startswith(PROGRAM_PATHS):
        return problem(status, code, message)
    template = "_error.html" if wants_fragment() else "error.html"
    title = HTTPStatus(status).phrase
    return make_response(
        render_template(template, title=title, message=message, status=status, code=code), status
    )


def _later(code: str, message: str, seconds: int) -> Response:
    response = _answer(503, code, message)
    response.headers["Retry-After"] = str(seconds)
    return response


def _sentence(error: HTTPException, status: HTTPStatus) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.path[:200]}."
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(set(getattr(error, "valid_methods", None) or ()) - {"OPTIONS"}))
        return f"{request.path[:200]} does not take {request.method}, expected {allowed}."
    return error.description or status.phrase
