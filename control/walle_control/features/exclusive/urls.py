"""URLs of sealed files that hold for one device and for a while; checked without asking the database."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

from walle_shared.errors import NotAllowed
from walle_shared.ids import DeviceId
from walle_shared.protocol.version import DEVICE_API


def sign_url(key: bytes, sha256: str, device_id: DeviceId, expires_ms: int) -> str:
    """The path under which a device may fetch a sealed file until ``expires_ms``."""
    query = {"device": device_id, "expires": expires_ms, "mac": _mac(key, sha256, device_id, str(expires_ms))}
    return f"{DEVICE_API}/sealed/{sha256}?{urlencode(query)}"


def check_url(key: bytes, sha256: str, device_id: str, expires: str, mac: str, now_ms: int) -> DeviceId:
    """The device that a URL was made for.

    Raises:
        NotAllowed: it was not made here, or not for this file, or no longer holds.
    """
    right = _mac(key, sha256, device_id, expires)
    if not mac.isascii() or not hmac.compare_digest(right, mac) or not expires.isdecimal():
        raise NotAllowed("this URL of a sealed file was not made here: ask for the manifest again")
    if int(expires) <= now_ms:
        raise NotAllowed("this URL of a sealed file holds no longer: ask for the manifest again")
    return DeviceId(device_id)


def _mac(key: bytes, sha256: str, device_id: str, expires: str) -> str:
    words = f"walle-sealed\n{sha256}\n{device_id}\n{expires}".encode()
    return hmac.new(key, words, hashlib.sha256).hexdigest()
