"""Device credentials: ``wd1.<device id>.<expires ms>.<HMAC-SHA256>``; checked without asking the database."""

from __future__ import annotations

import hashlib
import hmac

from walle_control.web.problems import Unauthenticated
from walle_shared.ids import DeviceId

_PREFIX = "wd1"


def issue(key: bytes, device_id: DeviceId, expires_ms: int) -> str:
    """Make a credential for a device, valid until ``expires_ms``."""
    head = f"{_PREFIX}.{device_id}.{expires_ms}"
    return f"{head}.{_mac(key, head)}"


def check(key: bytes, credential: str, now_ms: int) -> DeviceId:
    """The device a credential was issued to.

    Raises:
        Unauthenticated: forged, malformed, or expired (then its code is ``credential_expired``).
    """
    head, _, mac = credential.rpartition(".")
    if not credential.isascii() or not hmac.compare_digest(_mac(key, head), mac):
        raise Unauthenticated("this device credential was not issued here: renew it, or enrol again")
    _, device_id, expires_ms = head.split(".")
    if int(expires_ms) <= now_ms:
        raise Unauthenticated(
            "this device credential has expired: ask for another by the device's key",
            code="credential_expired",
        )
    return DeviceId(device_id)


def _mac(key: bytes, head: str) -> str:
    return hmac.new(key, head.encode(), hashlib.sha256).hexdigest()
