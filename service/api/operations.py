"""What a route of the API takes and gives: said once beside it, checked and documented from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from flask import Flask

from service.access.rules import access

__all__ = ["FileField", "Operation", "TextField", "operation", "operations_of"]

View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE: Final = "__operation__"


@dataclass(frozen=True)
class FileField:
    """A field of a form that holds files."""

    name: str
    description: str
    many: bool = False


@dataclass(frozen=True)
class TextField:
    """A parameter in the address, or a field of a form."""

    name: str
    description: str
    choices: tuple[str, ...] = ()
    default: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Operation:
    """What is said of a route.

    Parameters
    ----------
    summary, description : str
    tag : str
        Under which heading it stands.
    scope : str or None
        Of the key that it needs; None if none.
    query : tuple of TextField
    form : tuple of FileField or TextField
        Fields of its multipart body.
    answers : mapping of int to (str, str)
        By status: name in `service.api.answers`, or a media type, and what it means.
    problems : mapping of int to str
        By status: when it answers a problem.
    """

    summary: str
    description: str = ""
    tag: str = "classifier"
    scope: str | None = None
    query: tuple[TextField, ...] = ()
    form: tuple[FileField | TextField, ...] = ()
    answers: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)


def operation(**said: Any) -> Callable[[View], View]:
    """Say what a route takes and gives, and let only those in who may use it.

    Parameters
    ----------
    **said
        As for `Operation`.
    """
    described = Operation(**said)

    def wrap(view: View) -> View:
        @functools.wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if described.scope is not None:
                access().require(described.scope)
            return view(*args, **kwargs)

        setattr(guarded, _ATTRIBUTE, described)
        return guarded  # type: ignore[return-value]

    return wrap


def operations_of(app: Flask) -> list[tuple[str, str, str, Operation]]:
    """Give path, method, name and description of every route that has one."""
    found = []
    for rule in app.url_map.iter_rules():
        described = getattr(app.view_functions[rule.endpoint], _ATTRIBUTE, None)
        if described is not None:
            methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
            name = rule.endpoint.rpartition(".")[2]
            found += [(rule.rule, method.lower(), name, described) for method in methods]
    return found
