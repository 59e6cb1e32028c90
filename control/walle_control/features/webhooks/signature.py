"""How deliveries are signed, after the Standard Webhooks specification: HMAC-SHA256 with a time. Pure.

A subscription's secret is derived from the control plane's own key, the subscription's id and how often it
was rotated, so that no copy of it lies in the database.

Source: https://github.com/standard-webhooks/standard-webhooks (headers ``webhook-id``, ``webhook-timestamp``,
``webhook-signature``; the signed text is ``id.timestamp.body``; secrets are ``whsec_`` and base64).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

_PREFIX: Final = "whsec_"

#: After a rotation deliveries carry the old signature too, for so long.
OVERLAP_MS: Final = 24 * 3_600_000


def secret_of(key: bytes, webhook_id: str, generation: int) -> str:
    """The secret of a subscription, as its receiver is given it."""
    derived = hmac.digest(key, f"walle webhook secret {webhook_id} {generation}".encode(), "sha256")
    return _PREFIX + base64.b64encode(derived).decode()


def sign(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """One signature, with its version in front."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers(secrets: tuple[str, ...], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a delivery, signed with every secret that is good at present."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(sign(secret, message_id, timestamp_s, body) for secret in secrets),
    }
