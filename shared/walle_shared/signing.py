"""Sign and verify as pure functions: Ed25519 over canonical JSON, in an envelope that names its keys.

An envelope is ``{"signed": {"kind": ..., ...}, "signatures": [{"keyid": ..., "sig": ...}]}``. ``kind`` says
what the signed part is, so that a signature over an epoch never passes for one over a manifest. A key id is
the SHA-256 of the raw public key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from walle_shared.errors import ConfigError, LengthOrHashError, RemoteProtocolError, SignatureError
from walle_shared.ids import KeyId, Sha256
from walle_shared.protocol.codec import canonical
from walle_shared.protocol.messages import FileRef
from walle_shared.records import RecordError, from_plain, to_plain

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: who, and 64 bytes in hex."""

    keyid: KeyId
    sig: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed value before anyone has checked it."""

    signed: Mapping[str, Any]
    signatures: tuple[Signature, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


def sha256_hex(data: bytes) -> Sha256:
    """SHA-256 of ``data`` in lower-case hex."""
    return Sha256(hashlib.sha256(data).hexdigest())


def file_ref(data: bytes) -> FileRef:
    """Digest and size of ``data``."""
    return FileRef(sha256_hex(data), len(data))


def check_file(data: bytes, ref: FileRef, what: str) -> bytes:
    """Return ``data`` if it is what ``ref`` promises.

    Raises:
        LengthOrHashError: naming ``what``, the expected and the actual.
    """
    if len(data) != ref.size_bytes:
        raise LengthOrHashError(f"{what} has {len(data)} bytes, {ref.size_bytes} were promised")
    actual = sha256_hex(data)
    if actual != ref.sha256:
        raise LengthOrHashError(f"{what} has digest {actual}, {ref.sha256} was promised")
    return data


class SigningKey:
    """A private Ed25519 key. Its bytes never appear in ``repr`` or logs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = VerifyKey(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new random key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_hex(cls, seed_hex: str) -> SigningKey:
        """Load from the 32-byte seed in hex.

        Raises:
            ConfigError: not 64 hex digits.
        """
        return cls(Ed25519PrivateKey.from_private_bytes(_raw32(seed_hex, "private key")))

    def to_hex(self) -> str:
        """The 32-byte seed in hex, for a file only its owner can read."""
        return self._key.private_bytes_raw().hex()

    def sign(self, data: bytes) -> str:
        """Sign ``data``; hex."""
        return self._key.sign(data).hex()


class VerifyKey:
    """A public Ed25519 key and its id."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.raw_hex = key.public_bytes_raw().hex()
        self.keyid = KeyId(hashlib.sha256(key.public_bytes_raw()).hexdigest())

    @classmethod
    def from_hex(cls, raw_hex: str) -> VerifyKey:
        """Load from 32 raw bytes in hex.

        Raises:
            ConfigError: not 64 hex digits.
        """
        return cls(Ed25519PublicKey.from_public_bytes(_raw32(raw_hex, "public key")))

    def verify(self, signature_hex: str, data: bytes, what: str) -> None:
        """Check one signature.

        Raises:
            SignatureError: naming ``what``.
        """
        try:
            self._key.verify(bytes.fromhex(signature_hex), data)
        except (InvalidSignature, ValueError):
            raise SignatureError(f"signature of {what} by key {self.keyid[:12]} is wrong") from None


def sign_envelope(kind: str, value: object, key: SigningKey) -> bytes:
    """Sign a record as ``kind``; the bytes of the envelope."""
    signed = {"kind": kind, **to_plain(value)}
    signature = Signature(key.public.keyid, key.sign(canonical(signed)))
    return canonical(Envelope(signed, (signature,)))


def open_envelope[T](cls: type[T], kind: str, data: bytes, keys: Iterable[VerifyKey]) -> T:
    """Verify an envelope and decode what it signs. The signature is checked before the content is looked at.

    Args:
        cls: the record expected.
        kind: the kind it must have been signed as.
        data: the envelope's bytes, already length-checked by the caller.
        keys: the trusted keys; one valid signature by any of them suffices.

    Raises:
        SignatureError: no trusted key signed it, or it was signed as something else.
        RemoteProtocolError: signed, but malformed.
    """
    try:
        envelope = from_plain(Envelope, orjson.loads(data))
    except (orjson.JSONDecodeError, RecordError) as error:
        raise RemoteProtocolError(f"{kind} is not a signed envelope: {error}") from None
    _check_signatures(envelope, kind, {key.keyid: key for key in keys})
    content = dict(envelope.signed)
    if content.pop("kind", None) != kind:
        raise SignatureError(f"signed as {envelope.signed.get('kind')!r}, not as {kind!r}")
    try:
        return from_plain(cls, content)
    except RecordError as error:
        raise RemoteProtocolError(f"{kind} is malformed: {error}") from None


def _check_signatures(envelope: Envelope, kind: str, trusted: Mapping[KeyId, VerifyKey]) -> None:
    data = canonical(envelope.signed)
    for signature in envelope.signatures:
        key = trusted.get(signature.keyid)
        if key is not None:
            key.verify(signature.sig, data, kind)
            return
    raise SignatureError(f"{kind} carries no signature by a trusted key")


def _raw32(text: str, what: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigError(f"{what} must be 64 hex digits")
    return raw
