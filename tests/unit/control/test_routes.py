"""What holds for every route of the control plane: described, and in the audit log if it changes anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from walle_control.app import ADMIN_API, ServerStatus
from walle_control.cli.main import main
from walle_control.features.releases.approvals import DECISIONS
from walle_control.features.releases.types import ApprovalRule, CreateRelease, ReleaseDetail
from walle_control.web.openapi import Operation, document, operations
from walle_shared.protocol.codec import encode
from walle_support.learning import TASK_TOML, write_digits_model

#: Bodies of routes whose example does not fit the world of these tests.
BODIES: dict[str, Any] = {
    f"{ADMIN_API}/sets/{{name}}": b"d1\nd2\n",
    f"{ADMIN_API}/people/{{person}}/withdraw": {"role": "viewer"},
    f"{ADMIN_API}/devices/{{device_id}}/revoke": {},
    f"{ADMIN_API}/tokens/{{token_id}}/revoke": {},
    f"{ADMIN_API}/learning/{{scenario}}/{{task}}/start": {"version": "3.0.0", "noise": 1.0},
}

#: What the examples call things, by kind.
NAMES = {"holdouts": "all_year", "sets": "friends", "repositories": "tasks"}


@pytest.fixture
async def names(control, imported, enrol, repo, tmp_path) -> dict[str, str]:
    """Things that are there, by the name of the path parameter."""
    from walle_control.features.learning.types import PlanWish
    from walle_control.features.people.types import RoleGrant, TokenRequest
    from walle_control.features.tasks.types import ImportRequest
    from walle_control.features.webhooks.types import WebhookRequest
    from walle_control.web.access import ALL_SCENARIOS, Principal, grants_of

    await imported("1.0.0")
    model = write_digits_model(tmp_path / "digits.wmodel").read_bytes()
    for task in ("greeter", "learner"):
        toml = TASK_TOML.replace("greeter", task).encode()
        files = {"task.toml": toml, "main.py": b"def run(): return 1\n", "model/digits.wmodel": model}
        repo.tag(f"{task}/3.0.0", task, files)
        await control.tasks.import_version(ImportRequest(str(repo.path), task, "3.0.0"), "anna")
    plan = await control.learning.start("demo", "learner", PlanWish("3.0.0", noise=1.0), "ben")
    wish = CreateRelease("demo", "greeter", "1.0.0", stages=tuple(_stages()))
    released = await control.releases.create(wish, "ben")
    await control.people.grant("anna", RoleGrant("viewer"), "admin")
    webhook = await control.webhooks.create(WebhookRequest("https://localhost/"), "ben")
    token = await control.people.create_token(
        TokenRequest(), Principal("anna", grants_of([(ALL_SCENARIOS, "viewer")]))
    )
    device = await enrol()
    return {
        "scenario": "demo", "task": "greeter", "version": "1.0.0", "release_id": released.release.id,
        "device_id": device.id, "subject": device.id, "person": "anna", "token_id": token.token.id,
        "webhook_id": webhook.webhook.id, "plan": plan.id,
    }  # fmt: skip


def _stages():
    from walle_control.features.releases.types import StageWish

    return (StageWish(1), StageWish(100))


def changing(app) -> list[Operation]:
    return [
        operation
        for operation in operations(app.routes)
        if operation.path.startswith(ADMIN_API) and operation.method != "GET" and operation.described.changes
    ]


async def test_every_change_by_an_operator_is_in_the_audit_log(app, control, admin, names, repo, good_files):
    repo.tag("greeter/2.0.0", "greeter", good_files)
    BODIES[f"{ADMIN_API}/tasks"] = {"repository": str(repo.path), "task": "greeter", "version": "2.0.0"}
    found = changing(app)
    assert len(found) >= 22
    await control.releases.set_approval_rule("demo", ApprovalRule(("create",)), "ben")
    for operation in found:
        if operation.path.endswith(tuple(word for word, _, _ in DECISIONS)):
            pending = await control.releases.create(CreateRelease("demo", "greeter", "1.0.0"), "ben")
            names["release_id"] = pending.release.id
        kind = operation.path.removeprefix(f"{ADMIN_API}/").partition("/")[0]
        path = operation.path.format(**names, name=NAMES.get(kind, ""))
        before = await control.audit.page(0, 10_000)
        body = BODIES.get(operation.path, operation.described.example)
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = await admin.request(operation.method, path, **content)
        assert answer.is_success, (path, answer.text)
        (entry, *_) = (await control.audit.page(before.next, 10_000)).entries
        assert entry.actor == "admin", path


async def test_the_description_is_valid_and_open_to_all(anyone, app):
    served = (await anyone.get("/openapi.json")).json()
    assert served == json.loads(encode(document(app.routes, served["info"]["version"])))
    assert served["openapi"].startswith("3.1")
    for name, schema in served["components"]["schemas"].items():
        jsonschema_rs.meta.validate({**schema, "components": served["components"]})
        assert schema["description"], name


async def test_examples_and_answers_fit_their_schemas(anyone, app, admin, names):
    served = (await anyone.get("/openapi.json")).json()

    def check(record: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{record}", "components": served["components"]}
        jsonschema_rs.validate(schema, value)

    for operation in operations(app.routes):
        if operation.described.example is not None:
            assert operation.described.body is not None
            check(operation.described.body.__name__, operation.described.example)
    check(ServerStatus.__name__, (await admin.get(f"{ADMIN_API}/status")).json())
    check(ReleaseDetail.__name__, (await admin.get(f"{ADMIN_API}/releases/{names['release_id']}")).json())


async def test_a_refused_method_names_those_that_are_allowed(admin):
    answer = await admin.put(f"{ADMIN_API}/releases")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


def test_the_command_prints_the_description(capsys, tmp_path: Path):
    assert main(["openapi"]) == 0
    assert json.loads(capsys.readouterr().out)["paths"][f"{ADMIN_API}/releases"]["post"]["x-permission"] == (
        "releases:write"
    )
