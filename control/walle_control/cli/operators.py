"""Commands about operators: people, roles, tokens, approvals, webhooks, the audit log."""

from __future__ import annotations

import argparse
from typing import Any

from walle_control.cli import login, show
from walle_control.cli.arguments import Subparsers, add_group, add_local, add_pages, add_remote
from walle_control.cli.client import connect, quoted
from walle_control.features.audit.types import GENESIS, AuditEntry, check_chain
from walle_control.features.webhooks.types import KINDS
from walle_control.web.access import PERMISSIONS, ROLE_NAMES
from walle_shared.errors import TrustError
from walle_shared.records import from_plain


def add_to(top: Subparsers) -> None:
    """Add them to the command line."""
    _add_approval_commands(top)
    _add_audit_commands(top)
    _add_people_commands(top)
    _add_webhook_commands(top)


def _add_approval_commands(top: Subparsers) -> None:
    approval = add_group(top, "approval", "which releases wait for another person's approval")
    add_remote(approval, "list", approval_list, "list the requests that wait")
    rule = add_remote(
        approval, "rule", approval_rule, "show or set which steps of a scenario need approval",
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


def _add_audit_commands(top: Subparsers) -> None:
    audit = add_group(top, "audit", "who changed what")
    listing = add_remote(audit, "list", audit_list, "list the changes, oldest first")
    add_pages(listing)
    verify = add_remote(
        audit, "verify", audit_verify, "check that no entry was changed, left out or put in",
        example="--expect 5f1d6a0c2b3e4f5a",
    )  # fmt: skip
    verify.add_argument(
        "--expect", default="", metavar="HASH",
        help="the last hash of an earlier check, or its beginning: it must still be in the chain",
    )  # fmt: skip


def _add_people_commands(top: Subparsers) -> None:
    for name, handler, text in (
        ("login", login.login, "log in at the server's provider of identities, or by a pasted token"),
        ("logout", login.logout, "forget a login"),
    ):
        command = add_local(top, name, handler, text, example="--url https://control.example.org")
        command.add_argument("--url", help="the server's URL; default: WALLE_CONTROL_URL")
        if name == "login":
            command.add_argument("--paste", action="store_true", help="read a token from standard input")
    add_remote(top, "whoami", whoami, "who the token in use stands for, and what it may do")
    person = add_group(top, "person", "who may do what")
    add_remote(person, "list", person_list, "list everybody with their roles")
    for action, text in (
        ("grant", "give somebody a role; who is new is known from then on"),
        ("withdraw", "take a role from somebody and from all their tokens"),
    ):
        command = add_remote(
            person, action, person_change, text, example="anna@example.org operator --scenario demo"
        )
        command.add_argument("person", metavar="PERSON", help="a name or an address")
        command.add_argument("role", choices=ROLE_NAMES)
        command.add_argument("--scenario", default="", help="in this scenario only; default: in all")
        command.set_defaults(action=action)
    token = add_group(top, "token", "tokens that stand for people")
    create = add_remote(
        token, "create", token_create, "make one; it is shown this once",
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
    add_remote(token, "list", token_list, "list them: your own, or everybody's for an admin")
    revoke = add_remote(token, "revoke", token_revoke, "end one at once", example="t0a1b2c3d4e5f")
    revoke.add_argument("id", metavar="ID")


def _add_webhook_commands(top: Subparsers) -> None:
    webhook = add_group(top, "webhook", "who else is told of what happens")
    create = add_remote(
        webhook, "create", webhook_create, "tell a URL of events; its secret is shown this once",
        example="https://chat.example.org/hook --event release.rollback --scenario demo",
    )  # fmt: skip
    create.add_argument("url", metavar="URL")
    create.add_argument(
        "--event", action="append", default=[], metavar="KIND",
        help=f"one of {', '.join(KINDS)}, or release.*; may be repeated; default: all",
    )  # fmt: skip
    create.add_argument("--scenario", default="", help="in this scenario only; default: in all")
    create.add_argument("--note", default="", help="what it is for")
    add_remote(webhook, "list", webhook_list, "list them, with what waits and what was given up")
    for action, text in (
        ("test", "send a test event now and say what came of it"),
        ("rotate", "give it a new secret; both sign for a day"),
        ("redeliver", "wake it if it rests, and try again what was given up"),
        ("delete", "end it"),
        ("deliveries", "what went to it, newest first"),
    ):
        command = add_remote(webhook, action, webhook_act, text, example="w0a1b2c3d4e5f")
        command.add_argument("id", metavar="ID")
        command.set_defaults(action=action)


def whoami(arguments: argparse.Namespace) -> int:
    """``whoami``."""
    with connect(arguments) as client:
        answer = client.get("myself")

    def text() -> None:
        show.print_facts({"name": answer["name"], "token": answer["credential"]})
        show.print_table(answer["allowed"], show.ALLOWED, "this credential may do nothing")

    show.print_answer(arguments, answer, text)
    return 0


def approval_list(arguments: argparse.Namespace) -> int:
    """``approval list``."""
    with connect(arguments) as client:
        answer = client.get("approvals")
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["approvals"], show.APPROVALS, "nothing waits")
    )
    return 0


def approval_rule(arguments: argparse.Namespace) -> int:
    """``approval rule``."""
    path = f"scenarios/{quoted(arguments.scenario)}/approval"
    with connect(arguments) as client:
        if arguments.steps is None:
            answer = client.get(path)
        else:
            steps = [step for step in arguments.steps.split(",") if step not in ("", "none")]
            answer = client.post(path, {"steps": steps, "valid_s": arguments.valid_s})
    facts = {"steps": ", ".join(answer["steps"]) or "none", "valid": f"{answer['valid_s']:g} s"}
    show.print_answer(arguments, answer, lambda: show.print_facts(facts))
    return 0


def person_list(arguments: argparse.Namespace) -> int:
    """``person list``."""
    with connect(arguments) as client:
        answer = client.get("people")
    show.print_answer(arguments, answer, lambda: show.print_table(answer["people"], show.PEOPLE, "nobody"))
    return 0


def person_change(arguments: argparse.Namespace) -> int:
    """``person grant`` and ``person withdraw``."""
    grant = {"role": arguments.role, "scenario": arguments.scenario}
    with connect(arguments) as client:
        answer = client.post(f"people/{quoted(arguments.person)}/{arguments.action}", grant)
    show.print_answer(arguments, answer, lambda: show.print_table([answer], show.PEOPLE, ""))
    return 0


def token_create(arguments: argparse.Namespace) -> int:
    """``token create``."""
    wish = {
        "note": arguments.note,
        "scopes": arguments.scope,
        "scenario": arguments.scenario,
        "valid_s": arguments.valid_s,
        "person": arguments.person,
    }
    with connect(arguments) as client:
        answer = client.post("tokens", wish)

    def text() -> None:
        show.print_facts({"token": f"{answer['secret']}  (shown once)"})
        show.print_table([answer["token"]], show.TOKENS, "")

    show.print_answer(arguments, answer, text)
    return 0


def token_list(arguments: argparse.Namespace) -> int:
    """``token list``."""
    with connect(arguments) as client:
        answer = client.get("tokens")
    show.print_answer(arguments, answer, lambda: show.print_table(answer["tokens"], show.TOKENS, "no token"))
    return 0


def token_revoke(arguments: argparse.Namespace) -> int:
    """``token revoke``."""
    with connect(arguments) as client:
        answer = client.post(f"tokens/{quoted(arguments.id)}/revoke")
    show.print_answer(arguments, answer, lambda: show.print_table([answer], show.TOKENS, ""))
    return 0


def webhook_create(arguments: argparse.Namespace) -> int:
    """``webhook create``."""
    wish = {
        "url": arguments.url,
        "events": arguments.event,
        "scenario": arguments.scenario,
        "note": arguments.note,
    }
    with connect(arguments) as client:
        answer = client.post("webhooks", wish)
    show.print_answer(arguments, answer, lambda: _print_secret(answer))
    return 0


def webhook_list(arguments: argparse.Namespace) -> int:
    """``webhook list``."""
    with connect(arguments) as client:
        answer = client.get("webhooks")
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["webhooks"], show.WEBHOOKS, "no webhook")
    )
    return 0


def webhook_act(arguments: argparse.Namespace) -> int:
    """``webhook test``, ``rotate``, ``redeliver``, ``delete`` and ``deliveries``; 1 if a test fails."""
    path = f"webhooks/{quoted(arguments.id)}/{arguments.action}"
    with connect(arguments) as client:
        answer = client.get(path) if arguments.action == "deliveries" else client.post(path)

    def text() -> None:
        if arguments.action == "rotate":
            _print_secret(answer)
        elif arguments.action == "test":
            show.print_facts(answer)
        elif arguments.action == "deliveries":
            show.print_table(answer["deliveries"], show.DELIVERIES, "nothing yet")
        else:
            show.print_table([answer], show.WEBHOOKS, "")

    show.print_answer(arguments, answer, text)
    return 1 if arguments.action == "test" and not answer["delivered"] else 0


def _print_secret(answer: Any) -> None:
    show.print_facts({"secret": f"{answer['secret']}  (shown once)"})
    show.print_table([answer["webhook"]], show.WEBHOOKS, "")


def audit_list(arguments: argparse.Namespace) -> int:
    """``audit list``."""
    with connect(arguments) as client:
        answer = client.get("audit", after=arguments.after, limit=arguments.limit)
    show.print_answer(
        arguments, answer, lambda: show.print_table(answer["entries"], show.AUDIT, "nothing yet")
    )
    return 0


def audit_verify(arguments: argparse.Namespace) -> int:
    """``audit verify``: the chain is followed here, whatever the server believes of it."""
    head, seq, seen = GENESIS, 0, not arguments.expect
    with connect(arguments) as client:
        while page := client.get("audit", after=seq)["entries"]:
            entries = [from_plain(AuditEntry, entry) for entry in page]
            head = check_chain(entries, head, seq)
            seq = entries[-1].seq
            seen = seen or any(entry.hash.startswith(arguments.expect) for entry in entries)
    if not seen:
        raise TrustError(f"{arguments.expect} is not in the chain: the log was written anew since that check")
    facts = {"entries": seq, "last hash": head}
    show.print_answer(arguments, facts, lambda: show.print_facts(facts))
    return 0
