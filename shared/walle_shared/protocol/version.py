"""The protocol version both sides speak."""

from __future__ import annotations

#: Raised when a change is not understood by older peers; travels in the ``Walle-Protocol`` header.
PROTOCOL_VERSION = 1

#: Header that carries it on every device request.
PROTOCOL_HEADER = "Walle-Protocol"

#: Root of the device API and of the static, signed, CDN-able files.
DEVICE_API = "/d/v1"
STATIC_ROOT = "/s"

#: On answers of the app's own server: the control plane's newest epoch; on requests: the one that is known.
EPOCH_HEADER = "Walle-Epoch"


def parse_epoch(text: str) -> int:
    """The epoch that a header, or the id of an event, says; 0 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
