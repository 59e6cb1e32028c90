"""Files that the app hands over: what is too large for an event, such as a picture or half a second of sound.

::

    from walle_task import cv, events, inbox

    def run():
        image = cv.imdecode(inbox.read(events.last().args["frame"]))

The app writes a file into the agent's inbox, then emits an event that says what it is called. So the bytes
go neither through the events' database nor through JSON. A file is there for as long as the app leaves it,
and no longer than the agent's settings say (``[inbox]``); a task that comes late finds it gone.
"""

from __future__ import annotations

from typing import Final

from walle_task.context import current

__all__ = ["read"]

#: Name of the host function.
READ: Final = "inbox.read"


def read(name: str) -> memoryview:
    """The bytes of a file of the inbox.

    Args:
        name: what the app called it; no folders.

    Raises:
        NotFound: there is no such file, or it is no longer there.
        LimitExceeded: it is larger than ``INBOX_FILE_MAX_BYTES``.
        NotAllowed: the task is not granted ``inbox``.
        TaskError: this cannot be the name of such a file.
    """
    return memoryview(current().ask(READ, {"name": name}))
