"""The OpenAPI 3.1 document of the API, made from its routes, and the page that shows it."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from typing import Any, Final

from flask import Blueprint, Response, current_app, jsonify, render_template, request

from models.notices import NOT_A_DIAGNOSIS
from service.access import access
from service.errors import PROBLEM_TYPE
from service.operations import FileField, Operation, TextField, operations_of
from service.tracing import REQUEST_ID

__all__ = ["docs_blueprint", "document"]

_JSON: Final = "application/json"
_KINDS: Final = {
    "no_file": (400, "no image in the request"),
    "not_multipart": (400, "another content type than multipart/form-data"),
    "not_a_file": (400, "text where a file was expected"),
    "wrong_field": (400, "files under another name than `image`"),
    "wrong_value": (400, "a parameter or field with another value than allowed"),
    "wrong_token": (400, "a form of a page that was open for too long"),
    "no_key": (401, "no key where one is needed"),
    "wrong_key": (401, "a key that is not known"),
    "wrong_scope": (403, "a key that is not for this"),
    "cross_site": (403, "sent by another site's page"),
    "not_local": (403, "from another machine, while no keys are set"),
    "not_found": (404, "no such address"),
    "no_feedback": (404, "the service keeps no feedback"),
    "no_gallery": (404, "the bundle that is served has no training images to compare with"),
    "method_not_allowed": (405, "not that method"),
    "reload_running": (409, "a bundle is being loaded already"),
    "bundle_refused": (409, "the new bundle does not verify; the old one is served on"),
    "too_large": (413, "more bytes than allowed"),
    "too_many_images": (413, "more images than allowed"),
    "unreadable_image": (422, "feedback on an image that can't be read"),
    "too_often": (429, "more requests, or wrong keys, than allowed; see `Retry-After`"),
    "internal_error": (500, "a fault of the service; the log has it under the request's number"),
    "not_ready": (503, "the bundle is being loaded; see `Retry-After`"),
    "busy": (503, "as many requests as allowed are being answered; see `Retry-After`"),
    "too_late": (503, "the request's turn did not come in time; see `Retry-After`"),
    "storage_failed": (503, "the feedback store can't be reached; nothing was kept"),
    "storage_full": (507, "no room for feedback; nothing was kept"),
}


def docs_blueprint() -> Blueprint:
    """Make the routes of the documents."""
    blueprint = Blueprint("docs", __name__)

    @blueprint.get("/api/v1/openapi.json")
    def openapi() -> Response:
        return jsonify(document())

    @blueprint.get("/docs")
    def page() -> str:
        from service.prose import read_line

        return render_template(
            "docs.html", api=document(), kinds=_KINDS, resolve=_resolve, read=read_line
        )

    return blueprint


def document() -> dict[str, Any]:
    """Make the document for who asks: addresses are those that the client sees."""
    # Imported late: it waits for all that a classifier needs.
    from pydantic.json_schema import models_json_schema

    from service import schema

    _, definitions = models_json_schema(
        [(getattr(schema, name), "validation") for name in schema.__all__],
        ref_template="#/components/schemas/{model}",
    )
    schemas = {
        name: {
            **each,
            **({"description": _first(each["description"])} if "description" in each else {}),
        }
        for name, each in definitions["$defs"].items()
    }
    paths: dict[str, dict[str, Any]] = {}
    for path, method, name, described in operations_of(current_app):
        paths.setdefault(path, {})[method] = _operation(name, described)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lesion classifier",
            "version": version("lesion-classifier"),
            "description": f"Judges dermoscopic images of skin lesions. {NOT_A_DIAGNOSIS}",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": request.script_root or "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key that `python -m service key` made.",
                }
            },
        },
    }


def _operation(name: str, said: Operation) -> dict[str, Any]:
    rules = access()
    problems = dict(said.problems)
    keyed = said.scope is not None and rules.needs_key(said.scope)
    if keyed:
        problems |= {401: "No key, or not a known one.", 403: "The key is not for this."}
    if said.scope is not None:
        problems.setdefault(403, "From another machine, or another site.")
        problems.setdefault(429, "Too many requests; see Retry-After.")
    answers: dict[str, dict[str, Any]] = {
        str(status): {
            "description": meaning,
            "headers": _headers(status),
            "content": _content(what),
        }
        for status, (what, meaning) in said.answers.items()
    }
    for status, meaning in problems.items():
        found = answers.setdefault(
            str(status), {"description": meaning, "headers": _headers(status), "content": {}}
        )
        found["content"] = {**found["content"], PROBLEM_TYPE: {"schema": _ref("Problem")}}
    parts: dict[str, Any] = {
        "operationId": name,
        "summary": said.summary,
        "tags": [said.tag],
        "security": [{"key": []}] if keyed else [],
        "responses": dict(sorted(answers.items())),
    }
    if said.description:
        parts["description"] = said.description
    if said.query:
        parts["parameters"] = [
            {
                "name": each.name,
                "in": "query",
                "description": each.description,
                "schema": _text(each),
            }
            for each in said.query
        ]
    if said.form:
        parts["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": _form(said.form)}},
        }
    return parts


def _form(fields: Collection[FileField | TextField]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for each in fields:
        if isinstance(each, TextField):
            properties[each.name] = {**_text(each), "description": each.description}
            continue
        file: dict[str, Any] = {"type": "string", "format": "binary"}
        many: dict[str, Any] = {"type": "array", "items": file, "minItems": 1}
        properties[each.name] = {
            "description": each.description,
            **(many if each.many else file),
        }
    required = [each.name for each in fields if not (isinstance(each, TextField) and each.optional)]
    return {"type": "object", "properties": properties, "required": required}


def _text(each: TextField) -> dict[str, Any]:
    return {
        "type": "string",
        **({"enum": [*each.choices]} if each.choices else {}),
        **({"default": each.default} if each.default is not None else {}),
    }


def _content(what: str) -> dict[str, Any]:
    if "/" in what:
        return {what: {"schema": {"type": "string"}}}
    return {_JSON: {"schema": _ref(what)}}


def _headers(status: int) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    names = [REQUEST_ID]
    names += ["Retry-After"] if status in (429, 503) else []
    names += ["WWW-Authenticate"] if status == 401 else []
    return dict.fromkeys(names, text)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _resolve(reference: str) -> str:
    return reference.rpartition("/")[2]


def _first(text: str) -> str:
    """Give the first paragraph: the rest tells Python's users about parameters."""
    return text.partition("\n\n")[0]
