"""Sign and verify as pure functions: Ed25519 over canonical JSON, in an envelope that names its keys.

An envelope is ``{"signed": {"kind": ..., ...}, "signatures": [{"keyid": ..., "sig": ...}]}``. ``kind`` says
what the signed part is, so that a signature over an epoch never passes for one over a time. A key id is
the SHA-256 of the raw public key. Whose signatures count is for the caller to say: ``TrustedSet`` knows the
keys and the threshold of each role.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
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

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key itself, for libraries that sign with it."""
        return self._key

    def to_hex(self) -> str:
        """The 32-byte seed in hex, for a file only its owner can read."""
        return self._key.private_bytes_raw().hex()

    @classmethod
    def from_pem(cls, text: str, passphrase: str = "") -> SigningKey:
        """Load from a PKCS#8 file's text.

        Raises:
            ConfigError: not an Ed25519 key, or the passphrase does not open it.
        """
        try:
            key = serialization.load_pem_private_key(text.encode(), passphrase.encode() or None)
        except TypeError as error:  # a passphrase is missing, or there is one and none is needed
            raise ConfigError(f"the key cannot be opened ({error}): give its passphrase") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(
                "not a private key in PEM, or another passphrase: give the file and passphrase of the key"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError("another kind of private key: it must be Ed25519")
        return cls(key)

    def to_pem(self, passphrase: str = "") -> str:
        """As PKCS#8 in PEM, encrypted if there is a passphrase."""
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            lock = serialization.BestAvailableEncryption(passphrase.encode())
        pem = self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        return pem.decode()

    def sign(self, data: bytes) -> str:
        """Sign ``data``; hex."""
        return self._key.sign(data).hex()


class VerifyKey:
    """A public Ed25519 key and its id."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.raw_hex = key.public_bytes_raw().hex()
        self.keyid = KeyId(hashlib.sha256(key.public_bytes_raw()).hexdigest())

    def to_pem(self) -> str:
        """In PEM, for a file that may be shown to anyone."""
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(encoding, form).decode()

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


#: Checks the signatures over some bytes; the last argument names them for the error.
SignatureCheck = Callable[[bytes, Sequence[Signature], str], None]


def signed_by(keys: Iterable[VerifyKey]) -> SignatureCheck:
    """Check that one of these keys signed."""
    known = {key.keyid: key for key in keys}

    def check(data: bytes, signatures: Sequence[Signature], what: str) -> None:
        ours = [signature for signature in signatures if signature.keyid in known]
        if not ours:
            raise SignatureError(f"{what} is signed by no key that is known here")
        known[ours[0].keyid].verify(ours[0].sig, data, what)

    return check


def sign_envelope(kind: str, value: object, keys: Sequence[SigningKey]) -> bytes:
    """Sign a record as ``kind`` with every key; the bytes of the envelope."""
    signed = {"kind": kind, **to_plain(value)}
    data = canonical(signed)
    signatures = tuple(Signature(key.public.keyid, key.sign(data)) for key in keys)
    return canonical(Envelope(signed, signatures))


def open_envelope[T](cls: type[T], kind: str, data: bytes, check: SignatureCheck) -> T:
    """Verify an envelope and decode what it signs; the signatures first, before the content is looked at.

    Args:
        cls: the record expected.
        kind: the kind it must have been signed as.
        data: the envelope's bytes, already length-checked by the caller.
        check: raises unless enough trusted keys signed.

    Raises:
        SignatureError: too few trusted keys signed it, or it was signed as something else.
        RemoteProtocolError: no envelope, or signed, but malformed.
    """
    try:
        envelope = from_plain(Envelope, orjson.loads(data))
    except (orjson.JSONDecodeError, RecordError) as error:
        raise RemoteProtocolError(f"{kind} is not a signed envelope: {error}") from None
    check(canonical(envelope.signed), envelope.signatures, kind)
    content = dict(envelope.signed)
    if content.pop("kind", None) != kind:
        raise SignatureError(f"signed as {envelope.signed.get('kind')!r}, not as {kind!r}")
    try:
        return from_plain(cls, content)
    except RecordError as error:
        raise RemoteProtocolError(f"{kind} is malformed: {error}") from None


def read_public_key(text: str) -> VerifyKey:
    """Read a public key from a PEM file's text.

    Raises:
        ConfigError: it is no Ed25519 public key.
    """
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"not a public key ({error}): it must be PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("another kind of public key: it must be Ed25519")
    return VerifyKey(key)


def _raw32(text: str, what: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigError(f"{what} must be 64 hex digits")
    return raw
