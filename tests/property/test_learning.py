"""Updates from the device to the sum: the server reads what the device wrote, and nobody moves it too far."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_control.features.learning.averaging import OPTIMIZERS, ServerState, Summing, advance, combine
from walle_control.features.learning.updates import check, decode
from walle_shared.errors import ConfigError, RemoteProtocolError
from walle_shared.learning import ENCODINGS, Encoding, RoundTerms, encoded_bytes, norm_bound, parts_of
from walle_task import _updates

sizes = st.one_of(st.sampled_from([1, 255, 256, 257, 600]), st.integers(1, 800))
seeds = st.integers(0, 2**60)
encodings = st.sampled_from(ENCODINGS)


def drawn(size: int, seed: int, scale: float) -> np.ndarray:
    """Numbers of very different sizes, some of them 0."""
    rng = np.random.default_rng(seed)
    return (rng.standard_t(1.5, size) * scale * rng.integers(0, 2, size)).astype(np.float32)


def sent(vector: np.ndarray, encoding: Encoding, seed: int, limit: float = 1.0, noise: float = 0.0) -> bytes:
    terms = {"clip_norm": limit, "local_noise": noise, "encoding": encoding}
    return _updates.encode(_updates.flat([memoryview(vector)]), terms, seed)


@given(sizes, seeds, encodings, st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_the_server_reads_what_the_device_wrote(
    size: int, seed: int, encoding: Encoding, scale: float, limit: float
):
    vector = drawn(size, seed, scale)
    body = sent(vector, encoding, seed, limit)
    assert len(body) == encoded_bytes(size, encoding)
    read = check(decode(body, encoding, size), RoundTerms(clip_norm=limit)).astype(np.float64)
    norm = np.linalg.norm(vector.astype(np.float64))
    clipped = vector.astype(np.float64) * min(1.0, limit / max(norm, 1e-300))
    assert np.linalg.norm(read) <= limit * (1 + 1e-6)
    room = {"f32": 1e-6, "bf16": 2.0**-6, "int8": 0.27}[encoding]  # of the norm; int8 is 16/127 of a block
    assert np.linalg.norm(read - clipped) <= room * np.linalg.norm(clipped) + 1e-30


@given(seeds, st.sampled_from(["bf16", "int8"]))
def test_rounding_is_right_on_average(seed: int, encoding: Encoding):
    vector = np.random.default_rng(seed).uniform(-0.05, 0.05, 64).astype(np.float32)
    read = [decode(sent(vector, encoding, seed + i), encoding, 64) for i in range(40)]
    step = 0.05 / 127 if encoding == "int8" else 0.05 * 2.0**-7
    assert np.abs(np.mean(read, axis=0) - vector).max() < 6 * step / np.sqrt(40) + 2e-7


@given(sizes, seeds, encodings)
def test_an_honest_update_with_noise_is_within_the_bound(size: int, seed: int, encoding: Encoding):
    terms = RoundTerms(local_noise=0.5, encoding=encoding)
    read = decode(sent(drawn(size, seed, 1.0), encoding, seed, noise=0.5), encoding, size)
    check(read, terms)
    assert norm_bound(terms, size) > 1.0


@given(st.binary(max_size=4_000), encodings, st.integers(1, 900))
def test_any_bytes_are_an_update_or_refused(body: bytes, encoding: Encoding, size: int):
    try:
        read = check(decode(body, encoding, size), RoundTerms())
    except RemoteProtocolError:
        return
    assert read.shape == (size,)
    assert np.linalg.norm(read.astype(np.float64)) <= 1.0 + 1e-6


@given(st.binary(max_size=200_000))
def test_parts_are_as_many_as_are_expected(body: bytes):
    pieces = _updates.cut(body)
    assert len(pieces) == parts_of(len(body))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 3e38, 1.1])
def test_what_is_not_finite_or_too_long_is_refused(wrong: float):
    with pytest.raises(RemoteProtocolError, match=r"finite|norm"):
        check(np.array([wrong, 0.0], np.float32), RoundTerms())


@given(st.integers(1, 30), st.integers(1, 40), seeds)
def test_means_and_medians_are_the_plain_ones(devices: int, size: int, seed: int):
    rng = np.random.default_rng(seed)
    updates = list(rng.standard_normal((devices, size)).astype(np.float32))
    samples = [int(n) for n in rng.integers(1, 500, devices)]
    capped = np.minimum(samples, 100)
    mean = combine(updates, samples, Summing(samples_cap=100))
    np.testing.assert_allclose(mean, np.average(updates, axis=0, weights=capped), rtol=1e-4, atol=1e-6)
    median = combine(updates, samples, Summing("median"))
    np.testing.assert_allclose(median, np.median(updates, axis=0), rtol=1e-6)
    trimmed = combine(updates, samples, Summing("trimmed_mean", trim=0.2))
    cut = min(int(0.2 * devices), (devices - 1) // 2)
    expected = [sorted(column)[cut : devices - cut] for column in np.transpose(updates)]
    np.testing.assert_allclose(trimmed, np.mean(expected, axis=1), rtol=1e-4, atol=1e-6)


@given(st.integers(3, 40), st.integers(1, 20), seeds)
def test_liars_below_the_trim_cannot_leave_the_range_of_the_honest(devices: int, size: int, seed: int):
    rng = np.random.default_rng(seed)
    honest = rng.standard_normal((devices, size)).astype(np.float32)
    trim = 0.3
    liars = int(trim * devices)
    while liars and int(trim * (devices + liars)) < liars:
        liars -= 1
    lies = np.full((liars, size), 1e6, np.float32)
    for rule in ("trimmed_mean", "median"):
        found = combine([*honest, *lies], [1] * (devices + liars), Summing(rule, trim=trim))
        assert (found <= honest.max(axis=0) + 1e-6).all()
        assert (found >= honest.min(axis=0) - 1e-6).all()


@given(st.integers(2, 30), seeds)
def test_with_noise_one_device_moves_the_result_by_its_share_at_most(devices: int, seed: int):
    rng = np.random.default_rng(seed)
    updates = [u / np.linalg.norm(u) for u in rng.standard_normal((devices, 50)).astype(np.float32)]
    how = Summing(goal=25, noise_norm=1.0)

    def noisy(some: list) -> np.ndarray:
        return combine(some, [int(n) for n in rng.integers(1, 99, len(some))], how, np.random.default_rng(5))

    moved = np.linalg.norm(noisy(updates) - noisy(updates[1:]))
    assert moved == pytest.approx(1 / 25, rel=1e-3)


def test_the_noise_is_as_wide_as_was_said():
    how = Summing(goal=10, noise_norm=3.0)
    found = combine([np.zeros(20_000, np.float32)] * 5, [1] * 5, how)
    assert np.std(found) == pytest.approx(0.3, rel=0.05)
    assert not np.array_equal(found, combine([np.zeros(20_000, np.float32)] * 5, [1] * 5, how))


def test_rules_that_noise_does_not_cover_refuse_it():
    for rule in ("median", "trimmed_mean"):
        with pytest.raises(ConfigError, match="without noise"):
            combine([np.zeros(3, np.float32)], [1], Summing(rule, noise_norm=1.0))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_go_downhill(optimizer):
    state = ServerState(np.array([4.0, -3.0], np.float32))
    for _ in range(200):
        state = advance(optimizer, state, np.float32(-0.1) * state.weights, 0.05)
    assert np.abs(state.weights).max() < 1.6  # FedAvg alone: 4 * 0.995^200 = 1.47
