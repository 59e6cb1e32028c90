"""The way to the cloud: a few bytes of features, not the raw events."""

from __future__ import annotations

from typing import Any

from walle_task.context import current

__all__ = ["send"]


def send(name: str, fields: dict[str, Any]) -> None:
    """Send the message ``name`` to the control plane once the run has ended well.

    Args:
        name: an ``[uploads.<name>]`` table of the task's task.toml; the agent refuses fields it does not
            declare.
        fields: field name to JSON value.

    Raises:
        TaskError: a value is not JSON.
        LimitExceeded: the message, or all the run produced, is too large.
    """
    current().add_upload(name, fields)
