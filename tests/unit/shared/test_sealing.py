from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from walle_shared.errors import ConfigError, SignatureError
from walle_shared.ids import DeviceId, ScenarioName, Sha256, TaskName
from walle_shared.sealing import OVERHEAD_BYTES, Purpose, _exchange_point, seal, unseal, unwrap, wrap
from walle_shared.signing import SigningKey

PURPOSE = Purpose(DeviceId("d1"), ScenarioName("demo"), TaskName("reader"), "me.bin", 3, Sha256("a" * 64))
KEY = b"k" * 32


@settings(max_examples=30, deadline=None)
@given(plain=st.binary(max_size=2_000), flip=st.integers(0, 10_000))
def test_a_sealed_file_opens_with_its_key_and_unchanged_only(plain: bytes, flip: int) -> None:
    key, sealed = seal(plain)
    assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert unseal(sealed, key) == plain
    changed = bytearray(sealed)
    changed[flip % len(changed)] ^= 1
    for data, other in ((bytes(changed), key), (sealed, KEY), (b"", key), (sealed, b"short")):
        with pytest.raises(SignatureError):
            unseal(data, other)


@settings(max_examples=30, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32))
def test_both_forms_of_a_key_belong_together(seed: bytes) -> None:
    public = SigningKey.from_hex(seed.hex()).public.raw_hex
    private = X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:32])
    assert private.public_key().public_bytes_raw() == _exchange_point(public)
    assert unwrap(wrap(KEY, public, PURPOSE), seed.hex(), PURPOSE) == KEY


@pytest.mark.parametrize(
    "other",
    [
        replace(PURPOSE, device_id="d2"),
        replace(PURPOSE, scenario="other"),
        replace(PURPOSE, task="other"),
        replace(PURPOSE, path="you.bin"),
        replace(PURPOSE, counter=4),
        replace(PURPOSE, plain="b" * 64),
    ],
)
def test_a_key_does_not_unwrap_for_anything_else(other: Purpose) -> None:
    device = SigningKey.generate()
    wrapped = wrap(KEY, device.public.raw_hex, PURPOSE)
    with pytest.raises(SignatureError, match="not for this device, task and counter"):
        unwrap(wrapped, device.to_hex(), other)


def test_another_device_cannot_unwrap_it() -> None:
    wrapped = wrap(KEY, SigningKey.generate().public.raw_hex, PURPOSE)
    with pytest.raises(SignatureError):
        unwrap(wrapped, SigningKey.generate().to_hex(), PURPOSE)


@pytest.mark.parametrize("wrapped", ["", "no hex", "00", "00" * 80])
def test_nonsense_does_not_unwrap(wrapped: str) -> None:
    with pytest.raises(SignatureError):
        unwrap(wrapped, SigningKey.generate().to_hex(), PURPOSE)


@pytest.mark.parametrize("key", ["", "xyz", "00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ff" * 32])
def test_what_is_no_key_or_a_weak_one_is_not_encrypted_to(key: str) -> None:
    with pytest.raises(ConfigError):
        wrap(KEY, key, PURPOSE)
