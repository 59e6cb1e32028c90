"""What the cost model believes: measured, kept in a file, read once; bad files are left aside."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from walle_engine import _native, api, calibration
from walle_engine.cli import main
from walle_shared.errors import EngineError, StorageError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("WALLE_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    _native.reset_parameters()


def _values() -> dict[str, float]:
    return {parameter.name: parameter.value for parameter in calibration.parameters()}


def _write(document: object) -> Path:
    path = calibration.file_path()
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_standard_values_hold_until_others_are_set() -> None:
    assert all(parameter.value == parameter.standard for parameter in calibration.parameters())
    _native.set_parameter("near", 12.5)
    changed = [p.name for p in calibration.parameters() if p.value != p.standard]
    assert changed == ["near"]
    _native.reset_parameters()
    assert all(parameter.value == parameter.standard for parameter in calibration.parameters())


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e13])
def test_impossible_values_are_refused(value: float) -> None:
    with pytest.raises(EngineError, match="near"):
        _native.set_parameter("near", value)
    with pytest.raises(EngineError, match="no parameter 'nearly'"):
        _native.set_parameter("nearly", 1.0)


@pytest.mark.slow
def test_a_calibration_is_kept_and_read() -> None:
    path = calibration.calibrate()
    measured = _values()
    assert path is not None
    assert path.is_file()
    assert all(value > 0 for value in measured.values())
    assert measured["near"] >= measured["far"]
    _native.reset_parameters()
    assert _values() != measured
    assert calibration.load()
    assert _values() == pytest.approx(measured)


def test_without_a_file_nothing_changes() -> None:
    assert not calibration.load()
    assert all(parameter.value == parameter.standard for parameter in calibration.parameters())


def test_no_place_for_a_file_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALLE_CACHE_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home(_cls: type) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", classmethod(no_home))
    assert calibration.file_path() is None
    assert not calibration.load()


def test_names_of_another_engine_are_passed_over() -> None:
    _write({"format": 1, "parameters": {"near": 11, "cycles.of_no_kernel": 3.0}})
    assert calibration.load()
    assert _values()["near"] == 11


@pytest.mark.parametrize(
    "document",
    [
        "", "{", "[]", "null", "[" * 100_000, '{"format": 1}', {"format": 2, "parameters": {}},
        {"format": 1, "parameters": []}, {"format": 1, "parameters": {"far": 9, "near": "fast"}},
        {"format": 1, "parameters": {"far": 9, "near": True}},
        {"format": 1, "parameters": {"far": 9, "near": 0}},
        {"format": 1, "parameters": {"far": 9, "near": 10**400}},
        '{"format": 1, "parameters": {"far": 9, "near": NaN}}',
    ],
)  # fmt: skip
def test_a_malformed_file_is_left_aside_as_a_whole(document: object) -> None:
    path = _write(document)
    with pytest.warns(RuntimeWarning, match="calibrate --force") as warnings:
        assert not calibration.load()
    assert str(path) in str(warnings[0].message)
    assert all(parameter.value == parameter.standard for parameter in calibration.parameters())


def test_bytes_that_are_no_text_are_left_aside() -> None:
    _write("{}").write_bytes(b"\xff\xfe\x00")
    with pytest.warns(RuntimeWarning):
        assert not calibration.load()


def test_a_file_that_cannot_be_written_is_named(own_cache: Path) -> None:
    own_cache.write_text("a file, not a folder")
    with pytest.raises(StorageError, match=str(own_cache)):
        calibration._write(own_cache / "calibration.json", {"near": 1.0})


def test_writers_at_once_leave_one_whole_file(own_cache: Path) -> None:
    path = own_cache / "calibration.json"
    writers = [
        threading.Thread(target=calibration._write, args=(path, {"near": float(n + 1)})) for n in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert json.loads(path.read_text())["parameters"]["near"] in range(1, 9)
    assert list(own_cache.iterdir()) == [path]


def _measures(monkeypatch: pytest.MonkeyPatch, **found: float) -> list[str]:
    """Let a calibration find these; the list grows by one with every one made."""
    made: list[str] = []

    def calibrate() -> None:
        made.append("one")
        for name, value in found.items():
            _native.set_parameter(name, value)

    monkeypatch.setattr(_native, "calibrate", calibrate)
    return made


def _kept() -> dict[str, Any]:
    path = calibration.file_path()
    assert path is not None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def test_what_was_disturbed_is_measured_again_and_the_better_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _measures(monkeypatch, near=40.0, far=15.0, start=30.0, spread=0.4)
    calibration.calibrate()
    assert calibration.is_in_doubt()
    made = _measures(monkeypatch, near=60.0, far=14.0, start=20.0, spread=0.01)
    assert calibration.improve()
    found = _kept()
    assert (found["attempts"], len(made)) == (2, 1)
    assert {name: found["parameters"][name] for name in ("near", "far", "start", "spread")} == {
        "near": 60, "far": 15, "start": 20, "spread": 0.01,
    }  # fmt: skip
    assert _values() == found["parameters"]
    assert not calibration.improve()  # no doubt is left


def test_measurements_that_agree_settle_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    _measures(monkeypatch, near=40.0, spread=0.4)
    calibration.calibrate()
    _measures(monkeypatch, near=41.0, spread=0.3)
    assert calibration.improve()
    assert _values()["spread"] == pytest.approx(1 - 40 / 41)
    assert not calibration.is_in_doubt()


def test_attempts_end(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(10, 100))
    made: list[int] = []

    def calibrate() -> None:
        made.append(next(numbers))
        _native.set_parameter("near", made[-1] ** 2)
        _native.set_parameter("spread", 0.5)

    monkeypatch.setattr(_native, "calibrate", calibrate)
    calibration.calibrate()
    while calibration.improve():
        assert len(made) < 50
    assert len(made) == _kept()["attempts"] == calibration._MOST_ATTEMPTS


@pytest.mark.parametrize("attempts", ["many", None, 0, -3, 10**9])
def test_a_count_that_makes_no_sense_ends_them(attempts: object, monkeypatch: pytest.MonkeyPatch) -> None:
    _write({"format": 1, "parameters": {"spread": 0.5}, "attempts": attempts})
    made = _measures(monkeypatch, spread=0.01)
    assert calibration.load()
    assert not calibration.improve()
    assert not made


def test_nothing_is_measured_that_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _write({"format": 1, "parameters": {"spread": 0.5}})
    made = _measures(monkeypatch, spread=0.01)
    assert calibration.load()

    def full(*_: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr("walle_engine.kept.write", full)
    with pytest.raises(StorageError):
        calibration.improve()
    monkeypatch.setattr(_native, "is_first_session", lambda: True)
    monkeypatch.delenv("WALLE_ENGINE_CALIBRATION", raising=False)
    calibration.load_once()  # what was kept must do
    assert not made
    assert calibration.is_in_doubt()


_SESSION = """
import sys
from walle_engine import _native, api
builder = api.GraphBuilder("one")
builder.input("x", "F32", [2])
builder.node("Relu", ["x"], ["y"])
builder.output("y")
model = builder.finish()
model.session()
first = dict((name, value) for name, value, *_ in _native.parameters())["near"]
_native.set_parameter("near", 3.0)
model.session()
print(first, dict((name, value) for name, value, *_ in _native.parameters())["near"])
"""


@pytest.mark.parametrize(("switch", "want"), [("", "77.0 3.0"), ("off", "50.0 3.0")])
def test_the_first_session_of_a_process_reads_the_file(
    switch: str, want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write({"format": 1, "parameters": {"near": 77}})
    monkeypatch.setenv("WALLE_ENGINE_CALIBRATION", switch)
    done = subprocess.run([sys.executable, "-c", _SESSION], capture_output=True, text=True, check=True)
    assert done.stdout.split() == want.split()


def _steps(**settings: Any) -> list[float]:
    builder = api.GraphBuilder("product")
    builder.input("x", "F32", [64, 64])
    builder.weight("w", np.ones((64, 64), np.float32))
    builder.node("MatMul", ["x", "w"], ["y"])
    builder.output("y")
    session = builder.finish().session(**settings)
    session.prepare({"x": np.ones((64, 64), np.float32)})
    return [step["predicted_ms"] for step in session.explain()["steps"]]


@pytest.mark.optimised("isa")
def test_sessions_go_by_what_they_found_when_made() -> None:
    standard = _steps()
    for name in _values():
        if name.startswith("cycles."):
            _native.set_parameter(name, 1e-3)
    assert _steps()[0] > 10 * standard[0]
    assert _steps(calibrated=False) == standard


def test_the_fastest_kernel_by_the_given_rates_is_chosen() -> None:
    kernels = [name for name in _values() if name.startswith("cycles.")]
    usable = {f"cycles.{kernel.name}" for kernel in api.kernels() if kernel.available}
    for favoured in sorted(usable.intersection(kernels)):
        for name in kernels:
            _native.set_parameter(name, 1e5 if name == favoured else 1e-3)
        builder = api.GraphBuilder("product")
        builder.input("x", "F32", [64, 64])
        builder.weight("w", np.ones((64, 64), np.float32))
        builder.node("MatMul", ["x", "w"], ["y"])
        builder.output("y")
        session = builder.finish().session(precision="medium")
        session.prepare({"x": np.ones((64, 64), np.float32)})
        (step,) = session.explain()["steps"]
        assert f"cycles.{step['candidate']}" == favoured


# ---- Devices, which come and go ----------------------------------------------------------------------------

needs_device = pytest.mark.skipif(
    not api.devices(), reason="no OpenCL device: a driver such as pocl-opencl-icd makes one of the processor"
)
_AWAY = "0123456789abcdef"  # the identity of a device that is not here


def test_what_is_known_of_a_device_outlives_its_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    _measures(monkeypatch, **{f"device.{_AWAY}.products": 500.0, f"device.{_AWAY}.launch": 900.0})
    calibration.calibrate()
    assert calibration.measured_devices() == {_AWAY}
    _native.reset_parameters()
    assert calibration.measured_devices() == frozenset()
    _measures(monkeypatch, near=40.0)  # without the device
    calibration.calibrate()
    _native.reset_parameters()
    assert calibration.load()
    assert (_values()[f"device.{_AWAY}.products"], _values()["near"]) == (500, 40)


def test_of_two_measurements_of_a_device_the_better_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    products, launch = f"device.{_AWAY}.products", f"device.{_AWAY}.launch"
    _measures(monkeypatch, spread=0.4, **{products: 500.0, launch: 900.0})
    calibration.calibrate()
    new = "device.fedcba9876543210.copy"
    _measures(monkeypatch, **{products: 400.0, launch: 700.0, new: 10.0})
    assert calibration.improve()
    found = _kept()["parameters"]
    assert (found[products], found[launch], found[new]) == (500, 700, 10)


def test_what_a_file_says_of_devices_is_checked() -> None:
    strange = {f"device.{_AWAY}.colour": 1.0, "device.12.products": 1.0, f"device.{_AWAY.upper()}.copy": 1.0}
    _write({"format": 1, "parameters": {"near": 11, f"device.{_AWAY}.copy": 3.0, **strange}})
    assert calibration.load()  # names of another engine are passed over
    assert (_values()[f"device.{_AWAY}.copy"], _values()["near"]) == (3, 11)
    assert not strange.keys() & _values().keys()
    for value in (-1.0, 1e13, float("nan")):
        with pytest.raises(EngineError, match="cannot be"):
            _native.set_parameter(f"device.{_AWAY}.copy", value)
    _write({"format": 1, "parameters": {"far": 9, "device.fedcba9876543210.copy": -1.0}})
    with pytest.warns(RuntimeWarning, match="cannot be -1"):
        assert not calibration.load()
    assert calibration.measured_devices() == {_AWAY}  # as before
    assert _values()["near"] == 11


def test_of_too_many_devices_the_longest_known_is_forgotten() -> None:
    for number in range(70):
        _native.set_parameter(f"device.{number:016x}.copy", 5.0)
    kept = calibration.measured_devices()
    assert f"{69:016x}" in kept
    assert f"{0:016x}" not in kept
    assert len(kept) == 64


@needs_device
@pytest.mark.slow
def test_every_device_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    calibration.calibrate()
    here = {device.identity for device in api.devices()}
    assert here == calibration.measured_devices()
    path = calibration.file_path()
    assert path is not None
    document = json.loads(path.read_text(encoding="utf-8"))
    names = [name for name in document["parameters"] if name.startswith("device.")]
    assert len(names) == 6 * len(here)
    for name in names:
        del document["parameters"][name]
    path.write_text(json.dumps(document), encoding="utf-8")  # as if the devices were new
    _native.reset_parameters()
    assert main(["calibrate", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["parameters"]
    assert {row["name"] for row in rows} >= set(names)


def test_show_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--show", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not document["kept"]
    assert {row["name"]: row["value"] for row in document["parameters"]} == _values()
    assert calibration.file_path() is not None
    assert not Path(document["path"]).exists()


def _predicted_ms(rows: int, threads: int) -> float:
    builder = api.GraphBuilder("product")
    builder.input("x", "F32", [rows, 512])
    builder.weight("w", np.ones((512, 512), np.float32))
    builder.node("MatMul", ["x", "w"], ["y"])
    builder.output("y")
    session = builder.finish().session(threads=threads)
    session.prepare({"x": np.ones((rows, 512), np.float32)})
    (step,) = session.explain()["steps"]
    predicted: float = step["predicted_ms"]
    return predicted


def _arrival_ms(rows: int, threads: int) -> float:
    """What is predicted of weights that arrive at half a byte per ns, beyond such that are there at once."""
    times_ms = []
    for rate in (0.5, 1e6):
        for name in ("near", "far"):
            _native.set_parameter(name, rate)
        times_ms.append(_predicted_ms(rows, threads))
    return times_ms[0] - times_ms[1]


@pytest.mark.optimised("isa")
def test_weights_that_pass_several_times_are_priced_so() -> None:
    once_ms = 512 * 512 * 4 / 0.5 * 1e-6
    assert _arrival_ms(64, threads=1) == pytest.approx(once_ms, rel=0.1)
    # Where rows are cut, each part of them meets all weights; where columns are, each meets its own.
    assert _arrival_ms(64, threads=2) == pytest.approx(once_ms / 2, rel=0.1)
    assert _arrival_ms(100_000, threads=2) > 2 * once_ms


@pytest.mark.optimised("isa")
def test_weights_used_again_come_from_where_they_fit() -> None:
    _native.set_parameter("near", 0.5)
    _native.set_parameter("far", 0.05)
    times_ms = []
    for cache in (64 << 20, 2 << 20, 1 << 10):  # well below, on the edge, well above
        _native.set_parameter("cache", cache)
        times_ms.append(_predicted_ms(100_000, threads=2))
    assert times_ms[0] < times_ms[1] < times_ms[2]
