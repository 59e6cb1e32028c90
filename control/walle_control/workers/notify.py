"""Telling whoever started this process how it stands, in systemd's words (``sd_notify``)."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Say ``READY=1`` or ``STOPPING=1`` to the socket in ``NOTIFY_SOCKET``; without one, to nobody."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    address = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(f"{state}\nMAINPID={os.getpid()}".encode(), address)
        except OSError:
            return  # nobody listens any more; the work goes on all the same
