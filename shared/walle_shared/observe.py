"""Structured logging for every program, set up once, and the list of event names.

Event names are ``noun_verb_past``. ``error`` means a person must act now; what heals itself is ``warning``.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO, cast

import orjson
import structlog

from walle_shared.tracing import current_trace

LogFormat = Literal["json", "console"]

#: Fields whose values never reach a log line.
_SECRET_FIELDS = frozenset({"token", "credential", "authorization", "private_key", "secret", "password"})


_HIDDEN = "***"
#: Our own tokens by their prefixes, JSON Web Tokens, and whatever a request says it is authorised by.
_SECRETS = re.compile(
    r"\b(wtok_|wadmin_|wenrol_|whsec_|wd1\.|eyJ|(?i:bearer|basic) +)(?!\*)[A-Za-z0-9_.~+/=\-]{8,}"
)


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
        _add_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _hide_secrets,  # last: a traceback may quote one
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


def _add_trace(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Say of which trace a line is, so that all of one run, request or tunnel can be found."""
    trace = current_trace()
    if trace is not None:
        event.setdefault("trace_id", trace.trace_id)
        event.setdefault("span_id", trace.span_id)
    return event


def _hide_secrets(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for name, value in event.items():
        event[name] = _HIDDEN if name in _SECRET_FIELDS else redacted(value)
    return event


def redacted(value: Any) -> Any:
    """The value without what looks like a token, a credential or a webhook's secret of ours."""
    if isinstance(value, str):
        return _SECRETS.sub(lambda found: f"{found[1]}{_HIDDEN}", value)
    if isinstance(value, Mapping):
        return {name: _HIDDEN if name in _SECRET_FIELDS else redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(item) for item in value]
    return value
