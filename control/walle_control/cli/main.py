"""The parser of ``walle-control``; exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from walle_control.cli import commands, login, operators, trust
from walle_control.features.webhooks.types import KINDS
from walle_control.web.access import PERMISSIONS, ROLE_NAMES
from walle_shared import __version__
from walle_shared.errors import ConfigError, WalleError

_EXAMPLES = """examples:
  walle-control init --data ./control           make keys, database and the admin token
  walle-control serve --data ./control          run the server
  export WALLE_CONTROL_DATA=./control           for the commands below, on the same machine
  walle-control import --repo ~/tasks digit_reader 1.0.0
  walle-control release create demo/digit_reader 1.0.0 --where 'group == "beta"' --percent 5
  walle-control release show r1-0a1b2c3d
"""

Handler = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    parsed = build_parser().parse_args(arguments)
    handler: Handler = parsed.handler
    try:
        return handler(parsed)
    except WalleError as error:
        print(f"walle-control: error: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        "walle-control",
        description="The control plane of Walle: server and operator's client.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"walle-control {__version__}")
    top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_server_commands(top)
    _add_task_commands(top)
    _add_simulation_commands(top)
    _add_exclusive_commands(top)
    _add_release_commands(top)
    _add_audience_commands(top)
    _add_approval_commands(top)
    _add_device_commands(top)
    _add_telemetry_commands(top)
    _add_audit_commands(top)
    _add_people_commands(top)
    _add_webhook_commands(top)
    _add_fleet_command(top)
    _add_trust_commands(top)
    return parser


def _add_server_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = _local(
        top,
        "init",
        commands.init,
        "make a data folder (again: keeps what is there)",
        example="--data ./control",
    )
    init.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    init.add_argument(
        "--database", default="", metavar="URL",
        help="keep the state in this PostgreSQL, such as postgresql://walle@db/walle; default: in a file",
    )  # fmt: skip
    serve = _local(top, "serve", commands.serve, "run the server", json=False, example="--data ./control")
    where = serve.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", metavar="FILE", help="settings file")
    where.add_argument(
        "--data", metavar="DIR", help="data folder made by init; its control.toml holds the settings"
    )
    serve.add_argument("--host", help="listen here instead of the settings' server.host")
    serve.add_argument(
        "--port", type=int, help="listen here instead of the settings' server.port; 0: any free port"
    )
    serve.add_argument(
        "--workers", type=int, help="so many processes instead of the settings' server.workers"
    )
    serve.add_argument(
        "--fd", type=int, metavar="N", help="serve on this socket, which whoever started the program opened"
    )
    serve.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    fsck = _local(
        top,
        "fsck",
        commands.fsck,
        "re-read every published file and check its digest",
        example="--data ./control",
    )
    fsck.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    rebuild = _local(
        top,
        "rebuild",
        commands.rebuild,
        "make a lost database anew from the published files and the repositories' mirrors",
        example="--data ./control",
    )
    rebuild.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    _local(top, "openapi", operators.openapi, "print the HTTP API as an OpenAPI document", json=False)
    backup = _local(
        top,
        "backup",
        commands.backup,
        "write everything durable to one file, while the server runs",
        example="--data ./control --to ./control.tar",
    )
    backup.add_argument("--data", required=True, metavar="DIR", help="the data folder")
    backup.add_argument(
        "--to", required=True, metavar="FILE", help="a new file; it holds the keys: keep it as safe as them"
    )
    restore = _local(
        top,
        "restore",
        commands.restore,
        "make a control plane of a backup, and check all of it",
        example="--data ./restored --from ./control.tar",
    )
    restore.add_argument("--data", required=True, metavar="DIR", help="a new data folder")
    restore.add_argument("--from", required=True, dest="archive", metavar="FILE", help="what backup wrote")
    restore.add_argument(
        "--database", default="", metavar="URL",
        help="an empty PostgreSQL, whatever the backup was made from; default: a file in the data folder",
    )  # fmt: skip
    restore.add_argument(
        "--last-epoch", type=int, default=0, metavar="N",
        help="the newest epoch a device can have seen, if over 100,000 more than the backup's",
    )  # fmt: skip
    _remote(top, "status", commands.status, "what the server holds")
    _remote(top, "epoch", commands.epoch, "the newest policy as devices see it")


def _add_task_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    import_ = _remote(
        top, "import", commands.import_version, "import a task version from a git tag",
        example="--repo ~/tasks digit_reader 1.0.0",
    )  # fmt: skip
    import_.add_argument("task", help="the task's name")
    import_.add_argument("version", help="such as 1.0.0")
    import_.add_argument(
        "--repo", required=True, metavar="NAME|DIR", help="repository, by name or as a folder on the server"
    )
    import_.add_argument("--tag", default="", help="default: TASK/VERSION")
    import_.add_argument("--folder", default="", help="folder in the repository; default: TASK")
    repo = _group(top, "repo", "git repositories that versions come from")
    add = _remote(
        repo, "add", commands.repo_add, "define a repository and fetch it",
        example="shop https://git.example.com/tasks.git --scenario shop --credential forge --auto-import",
    )  # fmt: skip
    add.add_argument("name", help="what to call it")
    add.add_argument("remote", metavar="URL", help="http(s) or file URL, or an absolute path on the server")
    add.add_argument("--scenario", required=True, help="the scenario that all its tasks belong to")
    add.add_argument("--folder", default="", help="where in it the tasks' folders lie; default: at the root")
    add.add_argument("--credential", default="", metavar="NAME", help="entry of git.credentials_file")
    add.add_argument("--auto-import", action="store_true", help="import tags TASK/VERSION as they appear")
    _remote(repo, "list", commands.repo_list, "list them")
    for name, handler, text in (
        ("sync", commands.repo_sync, "fetch a repository now"),
        ("remove", commands.repo_remove, "forget a repository; what was imported from it stays"),
    ):
        _remote(repo, name, handler, text, example="shop").add_argument("name")
    task = _group(top, "task", "imported task versions")
    _remote(task, "list", commands.task_list, "list them, newest import first")
    show = _remote(
        task, "show", commands.task_show, "one version with its files", example="demo/digit_reader 1.0.0"
    )
    show.add_argument("task", metavar="SCENARIO/TASK")
    show.add_argument("version")


def _add_simulation_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    simulation = _group(top, "simulation", "what versions must pass before they may be released")
    for name, handler, text in (
        ("show", commands.simulation_show, "how a version did; 1 if it has not passed"),
        ("run", commands.simulation_run, "play them again, as they were at the version's tag"),
    ):
        command = _remote(simulation, name, handler, text, example="demo/digit_reader 1.0.0")
        command.add_argument("task", metavar="SCENARIO/TASK")
        command.add_argument("version")


def _add_exclusive_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(top, "exclusive", "files of single devices, which nobody else can open")
    give = _remote(
        group, "give", commands.exclusive_give, "give devices a file of their own; one of that name goes",
        example="shop/greeter profile.json --device d1a2b3c4 --device d5e6f7a8",
    )  # fmt: skip
    give.add_argument("task", metavar="SCENARIO/TASK")
    give.add_argument("file", help="the file here")
    give.add_argument(
        "--name", default="", help="what the task calls it, below own/; default: the file's name"
    )
    take = _remote(
        group, "take", commands.exclusive_take, "take a file away from devices",
        example="shop/greeter profile.json --devices left.txt",
    )  # fmt: skip
    take.add_argument("task", metavar="SCENARIO/TASK")
    take.add_argument("name", help="what the task calls it")
    for command in (give, take):
        whom = command.add_mutually_exclusive_group(required=True)
        whom.add_argument(
            "--device", action="append", default=[], metavar="ID", help="a device; may be repeated"
        )
        whom.add_argument(
            "--devices", default="", metavar="FILE", help="ids of devices, apart by white space"
        )
    _remote(
        group, "list", commands.exclusive_list, "which devices have which files", example="shop/greeter"
    ).add_argument("task", metavar="SCENARIO/TASK")


#: Settings of ``GuardSettings`` that a release may set for itself.
GUARD_OPTIONS: tuple[tuple[str, Callable[[str], float], str], ...] = (
    ("max_failure_rate", float, "part of the devices that may fail, e.g. 0.05"),
    ("alpha", float, "risk of taking back a good release, e.g. 1e-5"),
    ("tolerance", float, "how much higher than before the failure rate may be, e.g. 0.005"),
    ("horizon_s", float, "failures count within this time of a device's start"),
    ("silence_s", float, "a device not heard of for so long is silent; 0: never"),
    ("slower", float, "pause if runs take so many times as long as before; 0: never"),
    ("larger", float, "pause if runs need so many times as much memory as before; 0: never"),
    ("min_reports", int, "for a handful of devices: judge by the rate alone once so many reports have come"),
)


def _add_release_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    release = _group(top, "release", "who gets which version")
    create = _remote(
        release, "create", commands.release_create, "release a version; live at once",
        example="demo/digit_reader 1.0.0 --where 'os == \"linux\"'",
    )  # fmt: skip
    create.add_argument("task", metavar="SCENARIO/TASK")
    create.add_argument("version")
    create.add_argument("--where", default="", metavar="PREDICATE", help="which devices; default: all")
    create.add_argument(
        "--percent", default="100", help="part of them, sticky, in steps of 0.0000001; default: 100"
    )
    _optional(create)
    stages = create.add_argument_group("in stages, instead of --percent")
    stages.add_argument(
        "--stages", metavar="PERCENT,...", default="",
        help="reach so many percent one after the other, e.g. 1,10,50,100; each begins when the guard is sure"
        " of the one before it",
    )  # fmt: skip
    stages.add_argument(
        "--hold-s", type=float, default=0.0, help="a stage lasts at least so long; default: 0"
    )
    stages.add_argument(
        "--ramp-s", type=float, default=0.0,
        help="each stage grows to its share evenly within so many seconds; default: 0, at once",
    )  # fmt: skip
    stages.add_argument(
        "--min-devices", type=int, default=100,
        help="devices that must have run it before the next stage; default: 100",
    )  # fmt: skip
    stages.add_argument(
        "--control-percent", metavar="PERCENT",
        help="part of each stage but the last that is held back, to compare with; default: 50",
    )  # fmt: skip
    terms = create.add_argument_group("when devices begin, and how many")
    terms.add_argument(
        "--windows", default="", metavar="WINDOW,...",
        help="only at these times of the device's own clock, e.g. 'mon-fri 02:00-05:00'",
    )  # fmt: skip
    terms.add_argument(
        "--spread-s", type=float, default=0.0,
        help="spread the starts of a stage's devices over so many seconds; default: 0",
    )  # fmt: skip
    terms.add_argument(
        "--cap", type=int, default=0, help="at most so many devices, exactly; default: no limit"
    )
    terms.add_argument("--everyone", action="store_true", help="holdouts get it too")
    terms.add_argument(
        "--personal", choices=("shared", "device", "user"), default="shared",
        help="for whom the bundle has files of their own besides those that all share; default: for nobody",
    )  # fmt: skip
    guard = create.add_argument_group("guard, where it differs from the server's settings")
    guard.add_argument(
        "--voters-percent", default="100", metavar="PERCENT",
        help="part of the devices whose every outcome is counted; default: 100",
    )  # fmt: skip
    for name, kind, text in GUARD_OPTIONS:
        guard.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    create.set_defaults(guard_options=[name for name, _, _ in GUARD_OPTIONS])
    _remote(release, "list", commands.release_list, "list releases, newest first")
    _named(
        _remote(
            release,
            "show",
            commands.release_show,
            "counts, verdict and history of a release",
            example="r1-0a1b2c3d",
        )
    )
    for action, text in (
        ("promote", "let it go on to its next stage now"),
        ("pause", "let it grow no further for now; its devices keep it"),
        ("stop", "take it off all devices for now"),
        ("resume", "let a paused or stopped release go on"),
        ("rollback", "take it back for good"),
    ):
        command = _named(_remote(release, action, commands.release_act, text, example="r1-0a1b2c3d"))
        command.add_argument("--reason", default="", help="kept in the history")
        command.set_defaults(action=action)
    for action, text in (
        ("approve", "approve what it waits for; somebody else's wish only"),
        ("reject", "turn down what it waits for; somebody else's wish only"),
        ("break-glass", "let it go on without approval; takes an admin and a reason"),
    ):
        command = _named(_remote(release, action, commands.release_act, text, example="r1-0a1b2c3d"))
        command.add_argument("--reason", default="", help="kept in the history and the audit log")
        command.set_defaults(action=action)
    explain = _remote(
        release, "explain", commands.release_explain, "why a device gets what it gets",
        example="d0123abcd --profile group=beta --profile memory_mb=4000",
    )  # fmt: skip
    explain.add_argument("device", metavar="DEVICE")
    explain.add_argument(
        "--profile", action="append", default=[], metavar="NAME=VALUE", help="instead of the enrolled profile"
    )
    explain.add_argument(
        "--at", default="", metavar="TIME", help="as of this time, such as 2026-12-01T02:30Z; default: now"
    )


def _add_audience_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    holdout = _group(top, "holdout", "devices that releases do not reach, to be compared with")
    _remote(holdout, "list", commands.holdout_list, "list them")
    set_ = _remote(
        holdout, "set", commands.holdout_set, "keep a part of all devices out, or change how large it is",
        example="all_year 2 --scenario demo",
    )  # fmt: skip
    set_.add_argument("name", metavar="HOLDOUT")
    set_.add_argument("percent")
    set_.add_argument("--scenario", default="", help="only of this scenario's releases; default: of all")
    segment = _group(top, "segment", 'predicates with a name, for segment("NAME") in others')
    _remote(segment, "list", commands.segment_list, "list them with all their versions")
    set_ = _remote(
        segment, "set", commands.segment_set,
        "give a predicate a name; the next version, if there is one of that name",
        example="testers 'group == \"beta\"'",
    )  # fmt: skip
    set_.add_argument("name", metavar="SEGMENT")
    set_.add_argument("predicate")
    _optional(set_)
    ids = _group(top, "set", 'sets of ids, for device in set("NAME") in predicates')
    _remote(ids, "list", commands.set_list, "list them with all their versions")
    upload = _remote(
        ids, "upload", commands.set_upload, "upload a set, or its next version",
        example="friends ids.txt",
    )  # fmt: skip
    upload.add_argument("name", metavar="SET")
    upload.add_argument("file", help="one id a line; - for standard input")
    attribute = _group(top, "attribute", "attributes that predicates may ask for")
    _remote(attribute, "list", commands.attribute_list, "list those that were declared")
    declare = _remote(
        attribute, "declare", commands.attribute_declare,
        "declare one; from the first on, predicates may ask only for those and for what devices measure",
        example="tier string --side server",
    )  # fmt: skip
    declare.add_argument("name", metavar="ATTRIBUTE")
    declare.add_argument("kind", choices=("string", "number", "boolean", "version", "time"))
    declare.add_argument(
        "--side", choices=("device", "server"), default="device",
        help="who knows its values: the device (the default), or only the server, which then decides about"
        " releases that ask for it",
    )  # fmt: skip
    declare.add_argument("--note", default="", help="what it means")
    end = _remote(
        holdout, "end", commands.holdout_end, "let its devices have what the others have", example="all_year"
    )
    end.add_argument("name", metavar="HOLDOUT")


def _optional(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--optional", action="store_true", help="the predicate may ask for attributes that nobody declared"
    )


def _add_approval_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    approval = _group(top, "approval", "which releases wait for another person's approval")
    _remote(approval, "list", operators.approval_list, "list the requests that wait")
    rule = _remote(
        approval, "rule", operators.approval_rule, "show or set which steps of a scenario need approval",
        example="demo --steps create,full --valid-s 86400",
    )  # fmt: skip
    rule.add_argument("scenario", metavar="SCENARIO")
    rule.add_argument(
        "--steps", metavar="STEP,...", help="create and full, or none; default: show what is set"
    )
    rule.add_argument(
        "--valid-s",
        type=float,
        default=7 * 86_400.0,
        metavar="S",
        help="a request stands so long; default: 7 days",
    )


def _add_device_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    device = _group(top, "device", "enrolled devices")
    _remote(device, "list", commands.device_list, "list them with their tasks")
    for name, handler, text in (
        ("show", commands.device_show, "one device"),
        ("revoke", commands.device_revoke, "end a device's rights for good"),
    ):
        _remote(device, name, handler, text, example="d0123abcd").add_argument("device", metavar="DEVICE")
    describe = _remote(
        device, "describe", commands.device_describe, "say of a device what only the server shall know",
        example="d0123abcd tier=gold",
    )  # fmt: skip
    describe.add_argument("device", metavar="DEVICE")
    describe.add_argument("values", nargs="*", metavar="NAME=VALUE", help="none: show what was said")
    user = _group(top, "user", "users of the app, as far as operators say something of them")
    describe = _remote(
        user, "describe", commands.user_describe,
        "say of a user what only the server shall know; it holds for devices whose attribute 'user' says so",
        example="u42 tier=gold",
    )  # fmt: skip
    describe.add_argument("user", metavar="USER")
    describe.add_argument("values", nargs="*", metavar="NAME=VALUE", help="none: show what was said")
    token = _group(top, "enrol-token", "tokens that let devices enrol")
    create = _remote(token, "create", commands.enrol_token_create, "make one; it is shown this once")
    create.add_argument("--uses", type=int, default=1, help="how many devices may use it; default: 1")
    create.add_argument("--valid-s", type=float, default=3600.0, help="for how many seconds; default: 3600")
    create.add_argument("--note", default="", help="what it is for")


def _add_telemetry_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    features = _group(top, "features", "features that devices uploaded")
    listing = _remote(features, "list", commands.features_list, "list them by arrival")
    for name in ("scenario", "task", "name", "device", "release"):
        listing.add_argument(f"--{name}", default="")
    _paged(listing)
    tail = _remote(
        features, "tail", commands.features_tail, "follow a task's features as they arrive",
        example="demo/digit_reader",
    )  # fmt: skip
    tail.add_argument("task", metavar="SCENARIO/TASK")
    tail.add_argument("--name", default="", help="only this upload's")
    tail.add_argument("--device", default="")
    tail.add_argument(
        "--after", type=int, metavar="ID", help="begin after this id; default: with what comes now"
    )
    tail.add_argument("--count", type=int, help="stop after so many")
    types = _remote(
        features, "types", commands.features_types, "the dataclass of each upload, for code that reads them",
        example="demo/digit_reader 1.0.0",
    )  # fmt: skip
    types.add_argument("task", metavar="SCENARIO/TASK")
    types.add_argument("version")
    _remote(top, "sinks", commands.sinks, "where features go besides the database, and how far each is")
    reports = _group(top, "reports", "what devices reported about releases")
    listing = _remote(reports, "list", commands.reports_list, "list them by arrival")
    for name in ("release", "device", "outcome"):
        listing.add_argument(f"--{name}", default="")
    _paged(listing)


def _add_audit_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audit = _group(top, "audit", "who changed what")
    listing = _remote(audit, "list", commands.audit_list, "list the changes, oldest first")
    _paged(listing)
    verify = _remote(
        audit, "verify", commands.audit_verify, "check that no entry was changed, left out or put in",
        example="--expect 5f1d6a0c2b3e4f5a",
    )  # fmt: skip
    verify.add_argument(
        "--expect", default="", metavar="HASH",
        help="the last hash of an earlier check, or its beginning: it must still be in the chain",
    )  # fmt: skip


def _add_webhook_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    webhook = _group(top, "webhook", "who else is told of what happens")
    create = _remote(
        webhook, "create", operators.webhook_create, "tell a URL of events; its secret is shown this once",
        example="https://chat.example.org/hook --event release.rollback --scenario demo",
    )  # fmt: skip
    create.add_argument("url", metavar="URL")
    create.add_argument(
        "--event", action="append", default=[], metavar="KIND",
        help=f"one of {', '.join(KINDS)}, or release.*; may be repeated; default: all",
    )  # fmt: skip
    create.add_argument("--scenario", default="", help="in this scenario only; default: in all")
    create.add_argument("--note", default="", help="what it is for")
    _remote(webhook, "list", operators.webhook_list, "list them, with what waits and what was given up")
    for action, text in (
        ("test", "send a test event now and say what came of it"),
        ("rotate", "give it a new secret; both sign for a day"),
        ("redeliver", "wake it if it rests, and try again what was given up"),
        ("delete", "end it"),
        ("deliveries", "what went to it, newest first"),
    ):
        command = _remote(webhook, action, operators.webhook_act, text, example="w0a1b2c3d4e5f")
        command.add_argument("id", metavar="ID")
        command.set_defaults(action=action)


def _add_people_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, handler, text in (
        ("login", login.login, "log in at the server's provider of identities, or by a pasted token"),
        ("logout", login.logout, "forget a login"),
    ):
        command = _local(top, name, handler, text, example="--url https://control.example.org")
        command.add_argument("--url", help="the server's URL; default: WALLE_CONTROL_URL")
        if name == "login":
            command.add_argument("--paste", action="store_true", help="read a token from standard input")
    _remote(top, "whoami", operators.whoami, "who the token in use stands for, and what it may do")
    person = _group(top, "person", "who may do what")
    _remote(person, "list", operators.person_list, "list everybody with their roles")
    for action, text in (
        ("grant", "give somebody a role; who is new is known from then on"),
        ("withdraw", "take a role from somebody and from all their tokens"),
    ):
        command = _remote(
            person, action, operators.person_change, text, example="anna@example.org operator --scenario demo"
        )
        command.add_argument("person", metavar="PERSON", help="a name or an address")
        command.add_argument("role", choices=ROLE_NAMES)
        command.add_argument("--scenario", default="", help="in this scenario only; default: in all")
        command.set_defaults(action=action)
    token = _group(top, "token", "tokens that stand for people")
    create = _remote(
        token, "create", operators.token_create, "make one; it is shown this once",
        example="--note CI --scope tasks:write --scope releases:read --scenario demo",
    )  # fmt: skip
    create.add_argument("--note", default="", help="what it is for")
    create.add_argument(
        "--scope", action="append", default=[], metavar="SCOPE",
        help=f"a role or one of {', '.join(PERMISSIONS)}; may be repeated; default: all its person may do",
    )  # fmt: skip
    create.add_argument(
        "--scenario", default="", help="in this scenario only; default: wherever its person may"
    )
    create.add_argument(
        "--valid-s",
        type=float,
        default=90 * 86_400.0,
        help="for how many seconds; 0: until revoked; default: 90 days",
    )
    create.add_argument("--person", default="", help="whose token; default: your own")
    _remote(token, "list", operators.token_list, "list them: your own, or everybody's for an admin")
    revoke = _remote(token, "revoke", operators.token_revoke, "end one at once", example="t0a1b2c3d4e5f")
    revoke.add_argument("id", metavar="ID")


def _add_fleet_command(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fleet = _remote(
        top, "fleet-sim", commands.fleet_sim, "let simulated devices live on a server",
        example="--devices 200 --release demo/digit_reader 1.0.0 --plot coverage.svg",
    )  # fmt: skip
    fleet.add_argument("--scenario", metavar="FILE", help="what the fleet is made of; default: plain devices")
    fleet.add_argument("--devices", type=int, help="how many, instead of the scenario's")
    fleet.add_argument("--seed", type=int, help="of all chance, instead of the scenario's")
    fleet.add_argument("--seconds", type=float, default=600.0, help="end after so long; default: 600")
    fleet.add_argument(
        "--release", nargs=2, metavar=("SCENARIO/TASK", "VERSION"),
        help="release this to all once they are enrolled; end when --until of them run it",
    )  # fmt: skip
    fleet.add_argument("--until", type=float, default=0.999, metavar="PART", help="default: 0.999")
    model = fleet.add_argument_group("a model of any size, without a server")
    model.add_argument("--model", metavar="FILE", help="what is modelled: docs/guide/fleet-sim.md")
    model.add_argument(
        "--servers-within", type=float, metavar="SECONDS",
        help="find how many servers reach --until of the devices within so long",
    )  # fmt: skip
    fleet.add_argument("--plot", metavar="FILE", help="draw the coverage of each version, an SVG file")


def _add_trust_commands(top: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(top, "trust", "the keys and roles that devices trust (docs/guide/security.md)")
    for name, handler, text, example, on_folder in trust.COMMANDS:
        command = _local(group, name, handler, text, example=example)
        trust.add_arguments(name, command)
        if on_folder:
            command.add_argument("--data", required=True, metavar="DIR", help="the data folder")


def _local(
    group: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    text: str,
    json: bool = True,
    example: str = "",
) -> argparse.ArgumentParser:
    command = group.add_parser(name, help=text, description=text)
    command.epilog = f"example: {command.prog} {example}".rstrip()
    command.set_defaults(handler=handler)
    if json:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command


def _remote(
    group: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    text: str,
    example: str = "",
) -> argparse.ArgumentParser:
    command = _local(group, name, handler, text, example=example)
    server = command.add_argument_group("which server (or WALLE_CONTROL_URL, _TOKEN, _DATA)")
    server.add_argument("--url", help="the server's URL")
    server.add_argument("--token", help="your token; default: what login keeps")
    server.add_argument("--data", metavar="DIR", help="data folder of a server on this machine")
    return command


def _group(
    top: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    group = top.add_parser(name, help=text, description=text)
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _named(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("release", metavar="RELEASE", help="the release's id")
    return command


def _paged(command: argparse.ArgumentParser) -> None:
    command.add_argument("--after", type=int, default=0, metavar="ID", help="only those after this id")
    command.add_argument("--limit", type=int, default=1000, help="at most so many; default: 1000")
