import dataclasses

import pytest

from walle_shared.errors import ConfigError, RemoteProtocolError
from walle_shared.ids import Sha256, TaskVersion
from walle_shared.manifest import (
    BundleFile,
    Manifest,
    check_bundle_path,
    check_manifest,
    is_shipped,
    parse_task_file,
)

TASK = """
[task]
scenario = "demo"
name = "digit_reader"
capabilities = ["events", "model"]
[[triggers]]
ids = ["page:scan.exit"]
[uploads.digit_read]
digit = "integer"
"""
#: A stage whose rows are ``digit`` and ``v``; sums are what it makes of ``go``.
STAGE = """
[[prepare]]
name = 's'
events = ['go']
over = 'log'
window = { tumbling_ms = 9 }
values = { v = 'count()', digit = 'sum(args.digit)' }
upload = 'digit_read'
[task]"""
DIGEST = Sha256("ab" * 32)


def manifest(**changes: object) -> Manifest:
    base = Manifest(TaskVersion("1.0"), "c0ffee", parse_task_file(TASK), (BundleFile("main.py", DIGEST, 3),))
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_a_task_file_is_read() -> None:
    task = parse_task_file(TASK)
    assert task.task.entry == "main:run"
    assert task.triggers[0].ids == ("page:scan.exit",)
    assert task.uploads == {"digit_read": {"digit": "integer"}}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "digit_reader"', 'name = "Digit"', "task.name 'Digit' is not a name"),
        ('name = "digit_reader"', "", "task.name: is missing"),
        ('scenario = "demo"', 'scenario = "demo"\nentry = "main.py"', "task.entry 'main.py' is not like"),
        ('"model"]', '"network"]', "task.capabilities.1.: expected one of"),
        ('ids = ["page:scan.exit"]', "ids = []", r"triggers\[0\].ids must hold 1 to 32 ids"),
        ('ids = ["page:scan.exit"]', 'ids = ["scan"]', "'scan' is not like"),
        ('ids = ["page:scan.exit"]', 'on = "on a ~> b"', r"triggers\[0\].on: '~>' .* wait for ever"),
        ('ids = ["page:scan.exit"]', 'on = "on a b {"', r"(?s)triggers\[0\].on: .*column 9.*\^"),
        ('ids = ["page:scan.exit"]', 'ids = ["kind:click"]\non = "on a"', "make them two"),
        ('[[triggers]]\nids = ["page:scan.exit"]', "", "triggers: a task needs at least one"),
        ('digit = "integer"', 'digit = "int"', "uploads.digit_read.digit: expected one of"),
        ('digit = "integer"', "", "declare at least one field"),
        ("[task]", "[retention.other]\nrows = 1\n[task]", r"retention.other: there is no \[tables.other\]"),
        ("[task]", '[delivery]\nother = "batch"\n[task]', r"delivery.other: there is no \[uploads.other\]"),
        ("[task]", '[delivery]\ndigit_read = "slow"\n[task]', "delivery.digit_read: expected one of"),
        ("[task]", "[limits]\nwall_s = 0\n[task]", "limits.wall_s"),
        ("[task]", '[python]\nversions = ["3.13.1"]\n[task]', "python.versions: '3.13.1' is not like '3.13'"),
        ("[task]", '[reads]\ngo = ["price"]\n[task]', "reads.go: 'price' must be a field"),
        ("[task]", '[reads]\ngo = ["args..x"]\n[task]', "reads.go: 'args..x' must be a field"),
        ("[task]", "[bounds.other]\nx = {}\n[task]", r"bounds.other.x: there is no x in \[uploads.other\]"),
        ("[task]", '[bounds.digit_read]\ndigit = { values = ["a"] }\n[task]', "integers for integer"),
        ("[task]", "[bounds.digit_read]\ndigit = { min = 9, max = 0 }\n[task]", "min not above max"),
        ("[task]", STAGE.replace("'s'", "'S'"), r"prepare\[0\].name 'S' is not a name"),
        ("[task]", STAGE.replace("[task]", "") + STAGE, "two stages named s"),
        ("[task]", STAGE.replace("count()", "count(args.x)"), r"values.v: .* takes no field"),
        ("[task]", STAGE.replace("count()", "median(args.x)"), "there are count, sum"),
        ("[task]", STAGE.replace("count()", "sum(x)"), "'x' must be a field"),
        ("[task]", STAGE.replace("count()", "sum(args.x, 3)"), "sum takes one field"),
        ("[task]", STAGE.replace("count()", "histogram(args.x, 3, 3)"), "edges that rise"),
        ("[task]", STAGE.replace("count()", "histogram(args.x, a)"), "must be numbers"),
        ("[task]", STAGE.replace("{ v =", "{ key ="), "rows have one already"),
        ("[task]", STAGE.replace("['go']", "[]"), "needs events"),
        ("[task]", STAGE.replace("over = 'log'", "over = 'all'"), r"prepare\[0\].over"),
        ("[task]", STAGE.replace("tumbling_ms = 9", ""), "needs one of tumbling_ms"),
        ("[task]", STAGE.replace("tumbling_ms = 9", "tumbling_ms = 9, session_ms = 9"), "needs one of"),
        ("[task]", STAGE.replace("tumbling_ms = 9", "sliding_ms = 9"), "step_ms goes with sliding_ms"),
        ("[task]", STAGE.replace("tumbling_ms = 9", "sliding_ms = 9000, step_ms = 1"), "at most 1000"),
        ("[task]", STAGE.replace("window = { tumbling_ms = 9 }", ""), "window is missing"),
        ("[task]", STAGE.replace("upload = 'digit_read'", "upload = 'x'"), r"there is no \[uploads.x\]"),
        ("[task]", STAGE.replace("digit = ", "w = "), "its rows have no digit, only start_ms, end_ms, v, w"),
        ("[task]", "[task", "not TOML"),
        ("[task]", "[surprise]\n[task]", "surprise: is not known"),
    ],
)
def test_a_bad_task_file_names_file_and_key(old: str, new: str, complaint: str) -> None:
    assert old in TASK
    with pytest.raises(ConfigError, match=complaint) as caught:
        parse_task_file(TASK.replace(old, new), "digit_reader/task.toml")
    assert caught.value.message.startswith("digit_reader/task.toml: ")


@pytest.mark.parametrize("kept", ["rows = 0", "rows = 20_000", "days = -1.0", "days = nan", "days = 1e9"])
def test_what_stays_of_a_table_is_checked(kept: str) -> None:
    text = TASK + f'\n[tables.kept]\nn = "integer"\n[retention.kept]\n{kept}\n'
    with pytest.raises(ConfigError, match=r"retention\.kept\.(rows|days) must be"):
        parse_task_file(text)


def test_tests_are_not_shipped() -> None:
    assert not is_shipped("tests/test_main.py")
    assert not is_shipped("tests")
    assert not is_shipped(".gitignore")
    assert not is_shipped("lib/.cache/x")
    assert is_shipped("lib/tests/data.txt")
    assert is_shipped("tests.py")


@pytest.mark.parametrize("path", ["main.py", "model/digits.wmodel", "a b/c-d.txt", ".hidden"])
def test_paths_inside_the_bundle_pass(path: str) -> None:
    assert check_bundle_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../../x", "./x", "a//b", "a/", "a\\b", "a\0b", "C:x", "a/./b", "x" * 401],
)
def test_paths_that_leave_the_bundle_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="file path"):
        check_bundle_path(path)


def test_a_good_manifest_passes() -> None:
    assert check_manifest(manifest()) == manifest()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"version": TaskVersion("../1")}, "version"),
        ({"format": 2}, "update the agent"),
        ({"files": (BundleFile("../main.py", DIGEST, 3),)}, "file path"),
        ({"files": (BundleFile("a", DIGEST, 3), BundleFile("a", DIGEST, 3))}, "listed twice"),
        ({"files": (BundleFile("a", DIGEST, -1),)}, "size -1 is out of range"),
        ({"files": (BundleFile("a", DIGEST, 1 << 60),)}, "out of range"),
        ({"files": (BundleFile("a", Sha256("zz"), 1),)}, "digest"),
        ({"files": tuple(BundleFile(f"f{i}", DIGEST, 1) for i in range(1001))}, "over the limit"),
    ],
)
def test_a_hostile_manifest_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        check_manifest(manifest(**changes))


def test_a_task_of_stages_alone_needs_neither_script_nor_trigger() -> None:
    text = TASK.replace('[[triggers]]\nids = ["page:scan.exit"]', "")
    text = text.replace("[task]", STAGE + '\nentry = ""')
    task = parse_task_file(text)
    assert (task.task.entry, task.triggers) == ("", ())
    assert task.prepare[0].columns == ("start_ms", "end_ms", "v", "digit")
    with pytest.raises(ConfigError, match="its rows go nowhere"):
        parse_task_file(text.replace("upload = 'digit_read'", ""))
