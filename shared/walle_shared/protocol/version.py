"""The protocol version both sides speak."""

from __future__ import annotations

#: Raised when a change is not understood by older peers; travels in the ``Walle-Protocol`` header.
PROTOCOL_VERSION = 1

#: Header that carries it on every device request.
PROTOCOL_HEADER = "Walle-Protocol"

#: Root of the device API and of the static, signed, CDN-able files.
DEVICE_API = "/d/v1"
STATIC_ROOT = "/s"
