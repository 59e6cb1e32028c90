"""Structured logging for every program, set up once, and the list of event names.

Event names are ``noun_verb_past``. ``error`` means a person must act now; what heals itself is ``warning``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO, cast

import orjson
import structlog

LogFormat = Literal["json", "console"]

#: Fields whose values never reach a log line.
_SECRET_FIELDS = frozenset({"token", "credential", "authorization", "private_key", "secret", "password"})


def configure_logging(
    *, level: str = "info", format: LogFormat = "console", stream: TextIO | None = None
) -> None:
    """Set up structlog for a program; call once, from its ``main``.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``json`` for machines (one object a line), ``console`` for people.
        stream: where lines go; standard error by default.
    """
    out = stream or sys.stderr
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
        structlog.processors.format_exc_info,
    ]
    if format == "json":
        processors.append(structlog.processors.JSONRenderer(serializer=_dumps))
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry ``room``, e.g. ``agent.deploy``."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(room=room))


def _dumps(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def _hide_secrets(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for name in _SECRET_FIELDS & event.keys():
        event[name] = "***"
    return event
