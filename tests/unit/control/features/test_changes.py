"""What differs between two versions: exactly that, within its bounds, whatever the files hold."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from walle_control.app import ADMIN_API
from walle_control.cli import show
from walle_control.features.tasks import changes
from walle_control.features.tasks.changes import compare_files
from walle_shared.ids import Sha256
from walle_shared.manifest import BundleFile


def compared(before: Mapping[str, bytes], after: Mapping[str, bytes]):
    contents = {sha256(data).hexdigest(): data for data in (*before.values(), *after.values())}

    def listed(files: Mapping[str, bytes]) -> list[BundleFile]:
        return [BundleFile(path, Sha256(sha256(data).hexdigest()), len(data)) for path, data in files.items()]

    return compare_files(listed(before), listed(after), lambda file: contents[file.sha256])


def test_lines_of_text_and_digests_of_the_rest():
    before = {"a.py": b"1\n2\n3\n", "net.wmodel": b"\0old", "gone": b"x\n", "same": b"s"}
    after = {"a.py": b"1\n2.5\n3\n", "net.wmodel": b"\0new!", "new": b"y", "same": b"s"}
    found, same = compared(before, after)
    assert same == 1
    assert [(each.path, each.kind, each.before_bytes, each.after_bytes) for each in found] == [
        ("a.py", "changed", 6, 8), ("gone", "removed", 2, 0), ("net.wmodel", "changed", 4, 5),
        ("new", "added", 0, 1),
    ]  # fmt: skip
    text, _, model, new = found
    assert [(line.kind, line.text) for line in text.lines] == [
        ("place", "-1,4 +1,4"), ("same", "1"), ("removed", "2"), ("added", "2.5"), ("same", "3"),
        ("same", ""),
    ]  # fmt: skip
    assert model.lines == ()
    assert model.before_sha256 == sha256(b"\0old").hexdigest()
    assert [(line.kind, line.text) for line in new.lines[1:]] == [("added", "y")]


FILES = st.dictionaries(
    st.sampled_from("abc"), st.binary(max_size=40) | st.text("ab\n", max_size=40).map(str.encode), max_size=3
)


@given(FILES, FILES)
def test_the_lines_of_a_difference_are_lines_of_both(before, after):
    found, same = compared(before, after)
    paths = {*before, *after}
    assert {each.path for each in found} == {p for p in paths if before.get(p) != after.get(p)}
    assert same == len(paths) - len(found)
    for each in found:
        old = before.get(each.path, b"").decode(errors="replace").split("\n")
        new = after.get(each.path, b"").decode(errors="replace").split("\n")
        for line in each.lines:
            if line.kind in ("same", "removed"):
                assert line.text in old
            if line.kind in ("same", "added"):
                assert line.text in new


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=50)
def test_no_bytes_crash_it(before, after):
    compared({"f": before}, {"f": after})


def test_everything_is_bounded(monkeypatch):
    long = b"\n".join(b"%d" % n for n in range(1_500))
    found, _ = compared({}, {f"f{n:02}": long + b"%d" % n for n in range(20)})
    assert {len(each.lines) for each in found} == {400, 0}
    assert sum(len(each.lines) for each in found) == 4_000
    assert all(each.cut for each in found if each.lines)
    line = compared({}, {"f": b"x" * 9_999})[0][0].lines[-1]
    assert (line.kind, len(line.text)) == ("added", 400)
    for too_long in (b"x" * 65_537, b"\n" * 2_001):
        assert compared({"f": b""}, {"f": too_long})[0][0].lines == ()
    monkeypatch.setattr(changes, "_COMPARED_MAX_BYTES", 10)
    found, _ = compared({}, {"a": b"12345678", "b": b"12345678", "c": b"1"})
    assert [bool(each.lines) for each in found] == [True, False, True]


async def test_the_routes_and_commands_tell_it(admin, control, imported, capsys):
    await imported("1.0.0")
    await imported("1.1.0")
    path = f"{ADMIN_API}/tasks/demo/greeter"
    answer = (await admin.get(f"{path}/1.1.0/compare")).json()
    assert answer["version"] == "1.1.0"
    assert "main.py" in [each["path"] for each in answer["changes"]]
    assert answer["base"] == "1.0.0"
    assert answer == (await admin.get(f"{path}/1.1.0/compare?base=1.0.0")).json()
    show.print_changes(answer)
    said = capsys.readouterr().out
    assert "-VERSION = '1.0.0'\n+VERSION = '1.1.0'" in said
    assert "differ from 1.0.0" in said
    first = (await admin.get(f"{path}/1.0.0/compare")).json()
    assert (first["base"], first["same"], {each["kind"] for each in first["changes"]}) == ("", 0, {"added"})
    history = (await admin.get(f"{path}/1.1.0/history")).json()
    assert (history["repository"], history["base"], history["commits"]) == ("", "1.0.0", [])
    approval = (await admin.get(f"{path}/1.1.0/approval")).json()["approval"]
    assert (len(approval["signed_by"]), approval["threshold"]) == (1, 1)
    for asked in ("9.9.9/compare", "9.9.9/history", "9.9.9/approval", "1.1.0/compare?base=9.9.9"):
        assert (await admin.get(f"{path}/{asked}")).status_code == 404


async def test_a_draft_is_not_approved(admin, control, imported, simulator):
    simulator.passes = False
    await imported("1.0.0")
    answer = (await admin.get(f"{ADMIN_API}/tasks/demo/greeter/1.0.0/approval")).json()
    assert answer == {"approval": None}
