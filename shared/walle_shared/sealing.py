"""Files for one device alone: sealed once, their key wrapped for each device that may open them.

1. A file is encrypted with ChaCha20-Poly1305 under a random key that is used for nothing else.
2. That key is wrapped by HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305) to the device's own key.
   What it is for goes in as HPKE's ``info``: device, task, path, counter and the digest of the plain file.
   Unwrapped for anything else, it does not open.
3. The X25519 key is the device's Ed25519 key in its other form (the birational map of RFC 7748, section 4.1),
   so that enrolment need not carry a second one; HPKE's own key derivation keeps the two uses apart.

Pure functions.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from walle_shared.errors import ConfigError, SignatureError
from walle_shared.ids import DeviceId, ScenarioName, Sha256, TaskName
from walle_shared.protocol.codec import canonical

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_NONCE = bytes(12)  # of a key that is used once
_KEY_BYTES = 32
_PRIME = 2**255 - 19

#: What a sealed file has more than the plain one.
OVERHEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class Purpose:
    """What one wrapped key is for."""

    device_id: DeviceId
    scenario: ScenarioName
    task: TaskName
    path: str
    counter: int
    plain: Sha256


def seal(plain: bytes) -> tuple[bytes, bytes]:
    """Encrypt a file under a new key; (key, sealed file)."""
    key = os.urandom(_KEY_BYTES)
    return key, ChaCha20Poly1305(key).encrypt(_NONCE, plain, None)


def unseal(sealed: bytes, key: bytes) -> bytes:
    """Decrypt a file.

    Raises:
        SignatureError: not sealed with this key.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, None)
    except (InvalidTag, ValueError):
        raise SignatureError("a sealed file does not open with its key") from None


def wrap(key: bytes, public_key_hex: str, purpose: Purpose) -> str:
    """Wrap a file's key for a device, whose public (Ed25519) key is given; hex.

    Raises:
        ConfigError: that is no key.
    """
    public = X25519PublicKey.from_public_bytes(_exchange_point(public_key_hex))
    try:
        return _SUITE.encrypt(key, public, info=_info(purpose)).hex()
    except ValueError:  # a point of small order: everybody would know the secret
        raise ConfigError(
            f"public key {public_key_hex[:16]} cannot be encrypted to: enrol the device anew"
        ) from None


def unwrap(wrapped_hex: str, private_key_hex: str, purpose: Purpose) -> bytes:
    """Unwrap a file's key with the device's private (Ed25519) key.

    Raises:
        SignatureError: wrapped for another device, or for another purpose.
    """
    try:
        private = X25519PrivateKey.from_private_bytes(
            hashlib.sha512(bytes.fromhex(private_key_hex)).digest()[:_KEY_BYTES]
        )
        key = _SUITE.decrypt(bytes.fromhex(wrapped_hex), private, info=_info(purpose))
    except (InvalidTag, ValueError):
        raise SignatureError(
            f"the key of {purpose.path[:80]!r} is not for this device, task and counter"
        ) from None
    if len(key) != _KEY_BYTES:
        raise SignatureError(f"the key of {purpose.path[:80]!r} has {len(key)} bytes, not {_KEY_BYTES}")
    return key


def _info(purpose: Purpose) -> bytes:
    return b"walle-exclusive\n" + canonical(purpose)


def _exchange_point(public_key_hex: str) -> bytes:
    """The Montgomery u of an Ed25519 public key: ``(1 + y) / (1 - y)``."""
    try:
        raw = bytes.fromhex(public_key_hex)
    except ValueError:
        raw = b""
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if len(raw) != _KEY_BYTES or y >= _PRIME or y == 1:
        raise ConfigError(
            f"public key {public_key_hex[:16]!r} is not one: it must be 64 lower-case hex digits"
        )
    return ((1 + y) * pow(1 - y, -1, _PRIME) % _PRIME).to_bytes(_KEY_BYTES, "little")
