"""What updates of model files weigh and take: whole, compressed, as a delta, and sealed to one device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from measuring import interleave
from reporting import Row
from walle_shared.deltas import pack, unpack
from walle_shared.ids import DeviceId, ScenarioName, TaskName
from walle_shared.sealing import Purpose, seal, unseal, wrap
from walle_shared.signing import SigningKey, sha256_hex
from walle_shared.units import KIB, MIB

SECTION = "platform-deltas"
VALUES = 1_000_000


def run() -> list[Row]:
    """Measure everything."""
    rows: list[Row] = []
    work: dict[str, tuple[Callable[[], object], int]] = {}
    for name, (old, new) in cases().items():
        delta, plain = pack(new, old), pack(new)
        assert delta is not None
        assert plain is not None
        for how, packed in (("delta", delta), ("compressed", plain)):
            part = len(packed) / len(new)
            rows.append(Row(SECTION, f"{name}: {how} / whole", part, "", part, part, f"{len(new)} bytes"))
        work[f"{name}: unpack the delta"] = partial(_unpack, delta, old, len(new)), len(new)
        work[f"{name}: make the delta"] = partial(pack, new, old), len(new)
    key, sealed = seal(new)
    work["open a sealed file"] = partial(unseal, sealed, key), len(new)
    work["digest of a file"] = partial(sha256_hex, new), len(new)
    for what, samples in interleave(
        {name: call for name, (call, _) in work.items()}, turns=3, turn_s=0.1
    ).items():
        size = work[what][1] / MIB
        rows.append(
            Row(
                SECTION,
                what,
                size / samples.median_s,
                "MiB/s",
                size / max(samples.turns_s),
                size / min(samples.turns_s),
            )
        )
    return [*rows, _wrapping()]


def cases() -> dict[str, tuple[bytes, bytes]]:
    """Earlier and later file of usual updates, from a fixed seed."""
    rng = np.random.default_rng(1)
    floats = rng.normal(size=VALUES).astype(np.float32)
    quarter = slice(VALUES // 4, VALUES // 2)
    retrained = floats.copy()
    retrained[quarter] += rng.normal(size=VALUES // 4).astype(np.float32) * 0.01
    wide = rng.normal(size=4 * VALUES) * 20
    tuned = wide + rng.normal(size=4 * VALUES) * 0.3
    inserted = floats.tobytes()
    return {
        "float32, one tensor of four retrained": (floats.tobytes(), retrained.tobytes()),
        "float32, 1 KiB inserted": (inserted, inserted[:1_000] + rng.bytes(KIB) + inserted[1_000:]),
        "int8, fine-tuned everywhere": (wide.astype(np.int8).tobytes(), tuned.astype(np.int8).tobytes()),
    }


def _unpack(delta: bytes, old: bytes, size_bytes: int) -> None:
    for _ in unpack([delta], old, size_bytes, memory_max_bytes=64 * MIB):
        pass


def _wrapping() -> Row:
    device = SigningKey.generate().public.raw_hex
    purpose = Purpose(DeviceId("d1"), ScenarioName("s"), TaskName("t"), "f", 1, sha256_hex(b""))
    samples = interleave({"wrap": lambda: wrap(b"k" * 32, device, purpose)})["wrap"]
    rates = [1 / value for value in samples.turns_s]
    return Row(SECTION, "wrap a file's key for a device", 1 / samples.median_s, "/s", min(rates), max(rates))
