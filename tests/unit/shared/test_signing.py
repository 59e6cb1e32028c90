import orjson
import pytest

from walle_shared.errors import ConfigError, LengthOrHashError, RemoteProtocolError, SignatureError
from walle_shared.protocol.messages import EpochInfo, FileRef
from walle_shared.signing import (
    SigningKey,
    VerifyKey,
    check_file,
    file_ref,
    open_envelope,
    read_public_key,
    sha256_hex,
    sign_envelope,
)
from walle_shared.trust.roles import POLICY
from walle_support.control import ISSUED_MS
from walle_support.trust import SimulatedTrust

TRUST = SimulatedTrust(ISSUED_MS, "signing")
KEY = TRUST.keys_of(POLICY)[0]
CHECK = TRUST.believed().signatures_of(POLICY)
OTHER = SigningKey.from_hex("22" * 32)
EPOCH = EpochInfo(7, FileRef(sha256_hex(b"snapshot"), 8), 1_000, 2_000)


def test_what_is_signed_opens_again() -> None:
    data = sign_envelope("epoch", EPOCH, [KEY])
    assert open_envelope(EpochInfo, "epoch", data, CHECK) == EPOCH


def test_equal_values_give_equal_bytes() -> None:
    assert sign_envelope("epoch", EPOCH, [KEY]) == sign_envelope("epoch", EPOCH, [KEY])


def test_a_stranger_is_not_trusted() -> None:
    with pytest.raises(SignatureError, match="0/1 keys"):
        open_envelope(EpochInfo, "epoch", sign_envelope("epoch", EPOCH, [OTHER]), CHECK)


def test_a_changed_value_is_noticed() -> None:
    envelope = orjson.loads(sign_envelope("epoch", EPOCH, [KEY]))
    envelope["signed"]["epoch"] = 8
    with pytest.raises(SignatureError, match="0/1 keys"):
        open_envelope(EpochInfo, "epoch", orjson.dumps(envelope), CHECK)


def test_a_signature_for_one_kind_does_not_pass_for_another() -> None:
    with pytest.raises(SignatureError, match="signed as 'manifest', not as 'epoch'"):
        open_envelope(EpochInfo, "epoch", sign_envelope("manifest", EPOCH, [KEY]), CHECK)


def test_unknown_signed_members_survive() -> None:
    envelope = sign_envelope("epoch", {"x": 1, **orjson.loads(orjson.dumps(EPOCH_PLAIN))}, [KEY])
    assert open_envelope(EpochInfo, "epoch", envelope, CHECK).extra == {"x": 1}


EPOCH_PLAIN = {
    "epoch": 7,
    "snapshot": {"sha256": EPOCH.snapshot.sha256, "size_bytes": 8},
    "issued_ms": 1,
    "expires_ms": 2,
}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"signed":{},"signatures":{}}', b"\xff", b"{" * 5000])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises((RemoteProtocolError, SignatureError)):
        open_envelope(EpochInfo, "epoch", data, CHECK)


@pytest.mark.parametrize("sig", ["", "zz", "00" * 64, "00" * 63])
def test_a_malformed_signature_is_wrong(sig: str) -> None:
    envelope = orjson.loads(sign_envelope("epoch", EPOCH, [KEY]))
    envelope["signatures"][0]["sig"] = sig
    with pytest.raises(SignatureError):
        open_envelope(EpochInfo, "epoch", orjson.dumps(envelope), CHECK)


def test_signed_but_malformed_is_the_peers_fault() -> None:
    with pytest.raises(RemoteProtocolError, match="epoch is malformed: epoch: expected an integer"):
        open_envelope(EpochInfo, "epoch", sign_envelope("epoch", EPOCH_PLAIN | {"epoch": "7"}, [KEY]), CHECK)


def test_files_are_checked_by_length_then_digest() -> None:
    ref = file_ref(b"hello")
    assert check_file(b"hello", ref, "main.py") == b"hello"
    with pytest.raises(LengthOrHashError, match=r"main.py has 4 bytes, 5 were promised"):
        check_file(b"hell", ref, "main.py")
    with pytest.raises(LengthOrHashError, match=r"main.py has digest .* was promised"):
        check_file(b"jello", ref, "main.py")


def test_keys_travel_as_hex_and_hide_in_repr() -> None:
    assert SigningKey.from_hex(KEY.to_hex()).public.keyid == KEY.public.keyid
    assert VerifyKey.from_hex(KEY.public.raw_hex).keyid == KEY.public.keyid
    assert KEY.to_hex() not in repr(KEY)


@pytest.mark.parametrize("text", ["", "11", "xy" * 32])
def test_malformed_keys_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="64 hex digits"):
        SigningKey.from_hex(text)
    with pytest.raises(ConfigError, match="64 hex digits"):
        VerifyKey.from_hex(text)


def test_keys_travel_as_pem_with_and_without_a_passphrase() -> None:
    assert SigningKey.from_pem(KEY.to_pem()).public.keyid == KEY.public.keyid
    locked = KEY.to_pem("open sesame")
    assert "ENCRYPTED" in locked
    assert SigningKey.from_pem(locked, "open sesame").public.keyid == KEY.public.keyid
    assert read_public_key(KEY.public.to_pem()).keyid == KEY.public.keyid


@pytest.mark.parametrize("passphrase", ["", "wrong"])
def test_a_locked_key_stays_locked(passphrase: str) -> None:
    with pytest.raises(ConfigError, match=r"opened|passphrase"):
        SigningKey.from_pem(KEY.to_pem("open sesame"), passphrase)


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n", "key"])
def test_what_is_no_key_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        SigningKey.from_pem(text)
    with pytest.raises(ConfigError):
        read_public_key(text)
