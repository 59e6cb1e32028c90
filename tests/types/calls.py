"""Calls that must type-check and, where an ignore names the error, calls that must not.

Checked by ``nox -s types`` and never run: mypy reports an ignore that nothing needs, so a signature that
grows too wide fails here as surely as one that breaks its callers.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

import walle_engine
from walle_container import HostConfig, TaskHost, TaskLimits, TaskResult, TaskSpec
from walle_container.scripts import Problem, check_scripts, refuse_errors
from walle_engine import api
from walle_shared.errors import NotAllowed, UnsupportedError, WalleError
from walle_shared.ids import DeviceId, ReleaseId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.manifest import Manifest, TaskFile
from walle_shared.protocol.messages import EpochInfo, FileRef
from walle_shared.signing import (
    SignatureCheck,
    SigningKey,
    VerifyKey,
    check_file,
    file_ref,
    open_envelope,
    sign_envelope,
)
from walle_shared.targeting import Policy, Predicate, Release, Snapshot, Wanted, in_share, parse_predicate
from walle_task import clock, events, log, model, params, random, store, tunnel
from walle_task.testing import FakeHost, fake_host


def targeting(device: DeviceId, manifest: FileRef) -> None:
    predicate = assert_type(parse_predicate('group == "beta"'), Predicate)
    assert_type(predicate({"group": "beta", "memory_mb": 2000, "share": 0.5, "rooted": False}), bool)
    predicate({"group": ["beta"]})  # type: ignore[dict-item]  # attributes are scalars
    predicate("beta")  # type: ignore[arg-type]

    release = Release(
        ReleaseId("r1"), ScenarioName("demo"), TaskName("t"), TaskVersion("1"), manifest, "", 10, "salt", 1
    )
    policy = Policy(Snapshot(3, (release,)))
    decided = policy.decide(device, {"group": "beta"})
    assert_type(decided[ScenarioName("demo"), TaskName("t")], Wanted)
    policy.decide("d1", {"group": "beta"})  # type: ignore[arg-type]  # any text is no device
    policy.decide(device)  # type: ignore[call-arg]
    Snapshot(3, [release])  # type: ignore[arg-type]  # immutable
    release.share = 20  # type: ignore[misc]
    assert_type(in_share("salt", device, 10), bool)


def signing(key: SigningKey, public: VerifyKey, check: SignatureCheck, data: bytes) -> None:
    envelope = assert_type(sign_envelope("epoch", EpochInfo(1, file_ref(data), 0, 1), [key]), bytes)
    assert_type(open_envelope(EpochInfo, "epoch", envelope, check), EpochInfo)
    assert_type(open_envelope(Manifest, "manifest", envelope, check), Manifest)
    assert_type(check_file(data, FileRef(Sha256("00"), 1), "the blob"), bytes)
    sign_envelope("epoch", EpochInfo(1, file_ref(data), 0, 1), [public])  # type: ignore[list-item]
    open_envelope(EpochInfo, "epoch", envelope, [public])  # type: ignore[arg-type]  # a key is no role
    open_envelope(EpochInfo, "epoch", envelope.decode(), check)  # type: ignore[arg-type]
    wrong: Manifest = open_envelope(EpochInfo, "epoch", envelope, check)  # type: ignore[assignment]
    FileRef("00", 1)  # type: ignore[arg-type]  # a digest is checked first
    print(wrong)


async def container(bundle: Path) -> None:
    async def rows(args: dict[str, Any]) -> list[dict[str, Any]]:
        return [args]

    def not_async(args: dict[str, Any]) -> int:
        return len(args)

    spec = TaskSpec("reader", "1.0.0", bundle, limits=TaskLimits(wall_s=1.0), capabilities=frozenset({"log"}))
    async with TaskHost(HostConfig(slots=2)) as host:
        result = assert_type(await host.run(spec, {"events": []}, {"store.rows": rows}), TaskResult)
        await host.run(spec)  # type: ignore[call-arg]
        await host.run(spec, {}, {"store.rows": not_async})  # type: ignore[dict-item]
    if result.error_kind == "crashd":  # type: ignore[comparison-overlap]
        return
    result.ok = True  # type: ignore[misc]
    TaskSpec("reader", "1.0.0", str(bundle))  # type: ignore[arg-type]
    TaskSpec("reader", "1.0.0", bundle, tier="wasm")  # type: ignore[arg-type]
    TaskLimits("1.0")  # type: ignore[arg-type]


def task() -> dict[str, object] | None:
    scan = assert_type(events.last(event_id="scan"), events.Event | None)
    if scan is None:
        return None
    scan.seq = 3  # type: ignore[misc]
    visit = events.visit()
    print(visit.visit_id)  # type: ignore[union-attr]  # there may be none
    scores = model.load("digits").run({"image": scan.args["pixels"]})["scores"]
    assert_type(scores.shape, tuple[int, ...])
    model.load("digits").run([scan.args["pixels"]])  # type: ignore[arg-type]
    model.train("digits", [{"x": [1.0], "target": [1]}], steps=1, seconds=1, checkpoint="tuned").model.run({})
    model.train("digits", [{}], steps=1, seconds=1, loss="best")  # type: ignore[arg-type]
    assert_type(params.all(), dict[str, Any])
    store.table("reads").put({"digit": 3})
    store.table("reads").put(3)  # type: ignore[arg-type]
    log.info("read", digit=3)
    log.info(event=scan)  # type: ignore[call-arg]
    tunnel.send("digit_read", {"digit": 3})
    tunnel.send("digit_read", digit=3)  # type: ignore[call-arg]
    return {"digit": 3}


def task_test() -> None:
    with fake_host(events=[{"kind": "click"}], params={"unsure_below": 0.5}) as host:
        assert_type(host, FakeHost)
        assert_type(host.uploads, list[dict[str, Any]])
        print(host.uploads[0].name)  # type: ignore[attr-defined]
    fake_host([{"kind": "click"}])  # type: ignore[call-arg]


def engine(path: Path) -> None:
    loaded = assert_type(api.load(path), api.Model)
    session = assert_type(loaded.session(threads=2), api.Session)
    answers = assert_type(session.run({"image": [[0.0]]}), dict[str, Any])  # tensors, texts, lists, None
    scores: walle_engine.Tensor = answers["scores"]
    assert_type(scores.shape, tuple[int, ...])
    assert_type(api.isa(), str)
    session.run([[0.0]])  # type: ignore[arg-type]
    loaded.session(2)  # type: ignore[call-arg]
    loaded.session(threads="2")  # type: ignore[arg-type]
    api.load(3)  # type: ignore[arg-type]
    builder = api.GraphBuilder("net")
    builder.input("x", "F32", [1, "N"])
    builder.input("x", "F32", [1.5])  # type: ignore[list-item]


def errors() -> None:
    assert_type(NotAllowed("no", code="revoked").message, str)
    assert_type(UnsupportedError("no", op="Conv", node="c1").node, str)
    NotAllowed("no", op="Conv")  # type: ignore[call-arg]
    WalleError("no", "code")  # type: ignore[call-arg]


def time_and_chance() -> None:
    assert_type(clock.now(), datetime)
    assert_type(clock.wall_ms(), int)
    assert_type(clock.monotonic(), float)
    clock.now(3)  # type: ignore[call-arg]
    assert_type(random.choice(["a", "b"]), str)
    assert_type(random.sample((1, 2, 3), 2), list[int])
    assert_type(random.random(), float)
    random.randint(1.5, 2)  # type: ignore[arg-type]
    random.shuffle((1, 2))  # type: ignore[arg-type]
    with fake_host(seed=3, wall_ms=1_000) as host:
        assert_type(host, FakeHost)
    with fake_host(seed="3"):  # type: ignore[arg-type]
        pass


def scripts(files: dict[str, bytes], task: TaskFile) -> None:
    problems = assert_type(check_scripts(files, task), tuple[Problem, ...])
    refuse_errors(problems, "tag 1")
    check_scripts({"main.py": "text"}, task)  # type: ignore[dict-item]
