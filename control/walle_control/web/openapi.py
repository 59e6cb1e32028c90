"""The OpenAPI 3.1 document of the route table: paths, permissions and the schemas of all records.

Everything in it is read off the code that answers: routes and doors (``app.routes``), what endpoints say of
themselves (``describe``), and the frozen dataclasses that requests are decoded into. Pure.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NewType, Union, cast, get_args, get_origin

from starlette.routing import BaseRoute, Route

from walle_control.web.auth import DEVICES, Door, door_of
from walle_control.web.describe import SCHEMA, Described, Raw, described
from walle_shared.errors import InternalError
from walle_shared.protocol.messages import Problem
from walle_shared.records import EXTRA, to_plain

Json = dict[str, Any]

_REF = "#/components/schemas/"

#: What each status means, whichever route gives it.
_STATUS_WORDS: Final[Mapping[int, str]] = {
    200: "Done.",
    201: "Made.",
    202: "Accepted.",
    204: "Done; nothing to say.",
    206: "The part that was asked for.",
    304: "Unchanged.",
    400: "The request is malformed, or a value of it makes no sense.",
    401: "No credential, or one that is unknown, revoked or expired.",
    403: "The credential does not allow this.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "The state of things does not allow this.",
    413: "A documented limit is passed.",
    416: "There is no such part.",
    422: "What is to be taken in is wrong in itself.",
    500: "The server failed; its log says why.",
    503: "The server is busy or not ready; come back later.",
    507: "The server's disk is full or damaged.",
}

#: Errors that a kind of route may always give.
_EVERY: Final = (500, 507)
_WITH_DOOR: Final = (401, 403, 503)
_WITH_BODY: Final = (400, 408, 413)

_WORDS: Final[Mapping[type, Json]] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: who may, and what is read and answered."""

    path: str
    method: str
    door: Door | str | None
    described: Described
    summary: str


def operations(routes: Iterable[BaseRoute]) -> list[Operation]:
    """All operations of a route table, in its order.

    Raises:
        InternalError: an endpoint does not describe itself.
    """
    return [found for route in routes if isinstance(route, Route) for found in _operations(route)]


def document(routes: Iterable[BaseRoute], version: str) -> Json:
    """The OpenAPI document."""
    schemas = _Schemas()
    paths: dict[str, Json] = {}
    for operation in operations(routes):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Walle control plane",
            "version": version,
            "description": "Operators use /api/v1, devices /d/v1 and the signed files under /s. Devices send"
            " features over a WebSocket at /d/v1/tunnel, which OpenAPI cannot describe.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {
                "operator": {"type": "http", "scheme": "bearer", "description": "A token of a person."},
                "device": {"type": "http", "scheme": "bearer", "description": "A device's credential."},
            },
        },
    }


def _operations(route: Route) -> Iterator[Operation]:
    found = described(route.endpoint)
    if found is None:
        raise InternalError(f"{route.path}: its endpoint has no @describe")
    for method in sorted((route.methods or set()) - {"HEAD"}):
        yield Operation(route.path, method, door_of(route.endpoint), found, _first_paragraph(route.endpoint))


def _operation(operation: Operation, schemas: _Schemas) -> Json:
    said = operation.described
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)}", operation.path)]
    if said.query is not None:
        parameters += _query_parameters(said.query)
    errors = {*said.errors, *_EVERY}
    found: Json = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [_tag(operation.path)],
    }
    if operation.door is not None:
        errors |= set(_WITH_DOOR)
        found["security"] = [{"device" if operation.door == DEVICES else "operator": []}]
    if isinstance(operation.door, Door):
        found["x-permission"] = operation.door.permission
    if parameters:
        found["parameters"] = parameters
    if said.body is not None:
        errors |= set(_WITH_BODY)
        media: Json = {"schema": schemas.asked(said.body)}
        if said.example is not None:
            media["example"] = said.example
        found["requestBody"] = {
            "required": not said.body_optional,
            "content": {"application/json": media},
        }
    answers = {str(status): _answer(status, said.answer, schemas) for status in said.status}
    problems = {str(status): _problem(status, schemas) for status in errors}
    found["responses"] = dict(sorted((answers | problems).items()))
    return found


def _answer(status: int, answer: Any, schemas: _Schemas) -> Json:
    found: Json = {"description": _STATUS_WORDS[status]}
    if status in (204, 304):
        return found
    if isinstance(answer, Raw):
        found["content"] = {answer.media_type: {"schema": answer.schema}}
    else:
        found["content"] = {"application/json": {"schema": schemas.answered(answer)}}
    return found


def _problem(status: int, schemas: _Schemas) -> Json:
    content = {"application/problem+json": {"schema": schemas.answered(Problem)}}
    return {"description": _STATUS_WORDS[status], "content": content}


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(query: type) -> list[Json]:
    return [
        {
            "name": field.name,
            "in": "query",
            "required": False,
            "schema": {**_schema(hint), **field.metadata.get(SCHEMA, {}), "default": field.default},
        }
        for field, hint in _members(query)
    ]


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path.replace("/api/v1", "").replace("/d/v1", "/device"))
    return "_".join([operation.method.lower(), *words])


def _tag(path: str) -> str:
    """What the path is about: its first word behind the prefix."""
    words = path.strip("/").split("/")
    return {"api": words[2], "d": "device"}.get(words[0], "public") if len(words) > 2 else "public"


class _Schemas:
    """The schemas of records, each under its own name. What is only ever answered has all of its members."""

    def __init__(self) -> None:
        self._records: dict[str, type] = {}
        self._asked: set[str] = set()

    def asked(self, record: type) -> Json:
        """The schema of what a request may hold."""
        self._asked |= {found.__name__ for found in _records_in(record)}
        return self.answered(record)

    def answered(self, hint: Any) -> Json:
        """The schema of what an answer holds.

        Raises:
            InternalError: two records would have the same name.
        """
        for record in _records_in(hint):
            known = self._records.setdefault(record.__name__, record)
            if known is not record:
                raise InternalError(f"{known!r} and {record!r} need different names in the API")
        return _schema(hint)

    def components(self) -> Json:
        """All records met so far."""
        return {
            name: _record_schema(record, complete=name not in self._asked)
            for name, record in sorted(self._records.items())
        }


def _schema(hint: Any) -> Json:
    """The schema of a type that ``walle_shared.records`` decodes; records by reference."""
    if isinstance(hint, NewType):
        return _schema(hint.__supertype__)
    if hint is Any or hint is object:
        return {}
    if _is_record(hint):
        return {"$ref": _REF + hint.__name__}
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(member) for member in args]}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(args[1])}
    return dict(_WORDS[hint])


def _record_schema(record: type, *, complete: bool) -> Json:
    members: dict[str, Json] = {}
    required: list[str] = []
    for field, hint in _members(record):
        member = {**_schema(hint), **field.metadata.get(SCHEMA, {})}
        if complete or _is_required(field):
            required.append(field.name)
        elif field.default is not dataclasses.MISSING:
            member["default"] = to_plain(field.default)
        members[field.name] = member
    keeps_more = any(field.name == EXTRA for field in dataclasses.fields(cast(Any, record)))
    found: Json = {"type": "object", "description": _first_paragraph(record), "properties": members}
    if required:
        found["required"] = required
    return {**found, "additionalProperties": keeps_more}


def _records_in(hint: Any) -> Iterator[type]:
    """Every record that a type is made of, itself included."""
    seen: set[type] = set()

    def walk(hint: Any) -> None:
        if isinstance(hint, NewType):
            walk(hint.__supertype__)
        elif _is_record(hint):
            if hint not in seen:
                seen.add(hint)
                for _, inner in _members(hint):
                    walk(inner)
        elif get_origin(hint) is not Literal:
            for inner in get_args(hint):
                walk(inner)

    walk(hint)
    return iter(seen)


def _members(record: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(record)
    return [
        (field, hints[field.name]) for field in dataclasses.fields(cast(Any, record)) if field.name != EXTRA
    ]


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _first_paragraph(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
