from __future__ import annotations

from dataclasses import replace

import pytest

from walle_shared.errors import ExpiredError, RollbackError, SignatureError, WalleError
from walle_shared.exclusive import (
    EXCLUSIVE_KIND,
    ExclusiveFile,
    ExclusiveFloor,
    ExclusiveManifest,
    check_exclusive,
)
from walle_shared.ids import DeviceId, ScenarioName, Sha256, TaskName
from walle_shared.limits import EXCLUSIVE_FILE_MAX_BYTES, EXCLUSIVE_MAX_FILES
from walle_shared.protocol.messages import FileRef
from walle_shared.signing import file_ref, open_envelope, sha256_hex, sign_envelope
from walle_shared.trust.roles import EXCLUSIVE, POLICY
from walle_support.control import ISSUED_MS
from walle_support.trust import SimulatedTrust

FILE = ExclusiveFile("faces/me.bin", file_ref(b"sealed"), file_ref(b"plain"), "the device's key")
MANIFEST = ExclusiveManifest(
    DeviceId("d1"), ScenarioName("demo"), TaskName("reader"), 7, ISSUED_MS, ISSUED_MS + 1_000, (FILE,)
)
DIGEST = sha256_hex(b"its envelope")
MANY = tuple(replace(FILE, path=str(n)) for n in range(EXCLUSIVE_MAX_FILES + 1))
HUGE = FileRef(DIGEST, EXCLUSIVE_FILE_MAX_BYTES + 1)


def check(manifest: ExclusiveManifest = MANIFEST, floor: ExclusiveFloor | None = None) -> ExclusiveManifest:
    return check_exclusive(
        manifest,
        DIGEST,
        device_id=DeviceId("d1"),
        scenario=ScenarioName("demo"),
        task=TaskName("reader"),
        floor=floor or ExclusiveFloor(),
        now_ms=ISSUED_MS,
    )


@pytest.mark.parametrize(
    "floor", [ExclusiveFloor(), ExclusiveFloor(6, Sha256("x")), ExclusiveFloor(7, DIGEST)]
)
def test_a_manifest_for_this_device_passes_once_or_again_the_same(floor: ExclusiveFloor) -> None:
    assert check(floor=floor) is MANIFEST


@pytest.mark.parametrize(
    ("change", "floor", "error"),
    [
        ({"device_id": "d2"}, None, SignatureError),
        ({"scenario": "other"}, None, SignatureError),
        ({"task": "writer"}, None, SignatureError),
        ({"counter": 0}, None, RollbackError),
        ({}, ExclusiveFloor(8, DIGEST), RollbackError),
        ({}, ExclusiveFloor(7, Sha256("another")), RollbackError),
        ({"expires_ms": ISSUED_MS}, None, ExpiredError),
        ({"files": (FILE, FILE)}, None, SignatureError),
        ({"files": MANY}, None, SignatureError),
        ({"files": (replace(FILE, path="../up"),)}, None, SignatureError),
        ({"files": (replace(FILE, path="/etc/passwd"),)}, None, SignatureError),
        ({"files": (replace(FILE, path="a//b"),)}, None, SignatureError),
        ({"files": (replace(FILE, path=""),)}, None, SignatureError),
        ({"files": (replace(FILE, sealed=FileRef(Sha256("00"), 1)),)}, None, SignatureError),
        ({"files": (replace(FILE, plain=HUGE),)}, None, SignatureError),
        ({"files": (replace(FILE, plain=FileRef(DIGEST, -1)),)}, None, SignatureError),
    ],
)  # fmt: skip
def test_what_is_refused(
    change: dict[str, object], floor: ExclusiveFloor | None, error: type[WalleError]
) -> None:
    with pytest.raises(error):
        check(replace(MANIFEST, **change), floor)  # type: ignore[arg-type]


def test_only_the_exclusive_role_signs_them() -> None:
    trust = SimulatedTrust(ISSUED_MS)
    opens = trust.believed().signatures_of(EXCLUSIVE)
    good = sign_envelope(EXCLUSIVE_KIND, MANIFEST, trust.keys_of(EXCLUSIVE))
    assert open_envelope(ExclusiveManifest, EXCLUSIVE_KIND, good, opens) == MANIFEST
    for kind, role in ((EXCLUSIVE_KIND, POLICY), ("epoch", EXCLUSIVE)):
        forged = sign_envelope(kind, MANIFEST, trust.keys_of(role))
        with pytest.raises(SignatureError):
            open_envelope(ExclusiveManifest, EXCLUSIVE_KIND, forged, opens)
