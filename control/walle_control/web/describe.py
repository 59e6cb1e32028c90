"""What an endpoint reads and answers, written beside it: the API's description is made of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

E = TypeVar("E", bound=Callable[..., Any])

_ATTRIBUTE = "walle_described"
#: Key of a field's metadata: what its JSON schema says besides the type.
SCHEMA: Final = "schema"


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is no record: its media type and JSON schema."""

    media_type: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Described:
    """What one endpoint reads and answers.

    Args:
        answer: the record (or ``Raw``) of the body that a good answer has.
        body: the record of the request's body.
        body_optional: whether an empty body stands for the record's defaults.
        query: a record whose fields are the query's parameters, all optional.
        status: the statuses of good answers.
        errors: the statuses of ``Problem`` answers, besides those that every route may give.
        changes: whether a POST changes anything, and so is in the audit log.
        example: a body as somebody might send it.
    """

    answer: Any
    body: type | None = None
    body_optional: bool = False
    query: type | None = None
    status: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()
    changes: bool = True
    example: Any = None


def describe(
    answer: Any,
    *,
    body: type | None = None,
    body_optional: bool = False,
    query: type | None = None,
    status: tuple[int, ...] = (200,),
    errors: tuple[int, ...] = (),
    changes: bool = True,
    example: Any = None,
) -> Callable[[E], E]:
    """Describe an endpoint; its docstring is the summary."""
    described: Final = Described(answer, body, body_optional, query, status, errors, changes, example)

    def mark(endpoint: E) -> E:
        setattr(endpoint, _ATTRIBUTE, described)
        return endpoint

    return mark


def described(endpoint: object) -> Described | None:
    """The description of an endpoint, doors and methods looked through."""
    found: Described | None = getattr(endpoint, _ATTRIBUTE, None)
    return found


def within(default: Any, low: int, high: int) -> Any:
    """A field that holds an integer of a range; the description says so, and ``read_query`` sees to it."""
    return field(default=default, metadata={SCHEMA: {"minimum": low, "maximum": high}})
