"""The OpenAPI 3.1 document of the API, made from its routes, and the page that shows it."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from typing import Any, Final

from flask import current_app, request

from features.presenting import NOT_A_DIAGNOSIS
from service.access.rules import access
from service.api.operations import FileField, Operation, TextField, operations_of
from service.errors import PROBLEM_TYPE
from service.telemetry.tracing import REQUEST_ID

__all__ = ["document"]

_JSON: Final = "application/json"


def document() -> dict[str, Any]:
    """Make the document for who asks: addresses are those that the client sees."""
    # Imported late: it waits for all that a classifier needs.
    from pydantic.json_schema import models_json_schema

    from service.api import answers as schema

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


def _first(text: str) -> str:
    """Give the first paragraph: the rest tells Python's users about parameters."""
    return text.partition("\n\n")[0]
