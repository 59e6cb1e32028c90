"""What the commands about people, roles and tokens do."""

from __future__ import annotations

import argparse
from typing import Any

from walle_control.cli import show
from walle_control.cli.client import connect, quoted


def openapi(_arguments: argparse.Namespace) -> int:
    """``openapi``: always JSON."""
    from walle_control.setup import api_description  # brings the server's libraries

    show.print_json(api_description())
    return 0


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
