"""The page that documents the API, made from its OpenAPI document."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, render_template

from service.api.openapi import document
from service.problems import KINDS

__all__ = ["docs_blueprint"]


def docs_blueprint() -> Blueprint:
    """Make the routes of the documents."""
    blueprint = Blueprint("docs", __name__)

    @blueprint.get("/api/v1/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    @blueprint.get("/docs")
    def page() -> str:
        from service.pages.markdown import read_line

        return render_template(
            "docs.html", api=document(), kinds=KINDS, resolve=_resolve, read=read_line
        )

    return blueprint


def _resolve(reference: str) -> str:
    return reference.rpartition("/")[2]
