from __future__ import annotations

import pytest

from walle_shared.errors import ConfigError
from walle_shared.schema import EventSchema, parse_schema

TEXT = """
[envelope]
page_id = "upload"

[events.add_cart]
kind = "click"
[events.add_cart.args]
item_id = { type = "text", privacy = "upload", required = true }
price = { type = "real", min = 0, max = 1000, privacy = "aggregate" }
note = { type = "text" }
"seller.type" = { type = "text", values = ["shop", "person"], privacy = "upload" }
extra = { type = "json", privacy = "upload" }

[events.click.args]
price = { type = "real", privacy = "upload" }
item_id = { type = "text", privacy = "upload" }
[events.free.args]
price = { type = "real", privacy = "local" }
[events.scroll.args]
price = { type = "integer", privacy = "upload" }
"""


@pytest.fixture(scope="module")
def schema() -> EventSchema:
    return parse_schema(TEXT)


@pytest.mark.parametrize(
    ("event_id", "kind", "args", "complaint"),
    [
        ("add_cart", "click", {"item_id": "a"}, ""),
        ("add_cart", "click", {"item_id": "a", "price": 3, "seller": {"type": "shop"}}, ""),
        ("add_cart", "click", {"item_id": "a", "extra": {"any": [1]}}, ""),
        ("add_cart", "click", {"item_id": "a", "note": None}, ""),
        ("other", "click", {"price": 1.5}, ""),
        ("other", "custom", {}, "event 'other' of kind 'custom' is not declared"),
        ("add_cart", "scroll", {"item_id": "a"}, "event 'add_cart' is a click, not a scroll"),
        ("add_cart", "click", {}, "add_cart.args.item_id is missing"),
        ("add_cart", "click", {"item_id": 7}, "add_cart.args.item_id is 7, not what is declared (text)"),
        ("add_cart", "click", {"item_id": "a", "price": 1001}, "(real from 0 to 1000)"),
        ("add_cart", "click", {"item_id": "a", "price": True}, "price is True"),
        ("add_cart", "click", {"item_id": "a", "seller": {"type": "x"}}, "seller.type is 'x'"),
        ("add_cart", "click", {"item_id": "a", "seller": {"name": "x"}}, "seller.name is not declared"),
        ("add_cart", "click", {"item_id": "a", "seller": "x"}, "seller is not declared"),
        ("add_cart", "click", {"item_id": "a", "z": 1}, "add_cart.args.z is not declared"),
    ],
)
def test_events_are_held_against_what_is_declared(
    schema: EventSchema, event_id: str, kind: str, args: dict[str, object], complaint: str
) -> None:
    found = schema.complaint(event_id, kind, args)
    assert complaint in found
    assert bool(found) == bool(complaint)


@pytest.mark.parametrize(
    ("key", "path", "privacy"),
    [
        ("add_cart", "args.item_id", "upload"),
        ("add_cart", "args.price", "aggregate"),
        ("add_cart", "args.note", "local"),
        ("add_cart", "args.seller.type", "upload"),
        ("add_cart", "args.seller", "local"),
        ("add_cart", "args.extra.deep.down", "upload"),
        ("add_cart", "args", "local"),
        ("add_cart", "page_id", "upload"),
        ("add_cart", "visit_id", "local"),
        ("add_cart", "event_id", "upload"),
        ("unknown", "args.item_id", "local"),
        ("click", "args.item_id", "local"),  # as of 'free', which may be a click, too
        ("click", "args.price", "local"),
        ("scroll", "args.price", "local"),
    ],
)
def test_what_is_not_declared_is_local(schema: EventSchema, key: str, path: str, privacy: str) -> None:
    assert schema.privacy(key, path) == privacy


def test_a_kind_is_as_private_as_its_most_private_event() -> None:
    text = '[events.click.args]\nn = { privacy = "upload" }\n[events.buy]\nkind = "click"\n'
    assert parse_schema(text).privacy("click", "args.n") == "local"
    assert parse_schema(text + '[events.buy.args]\nn = { privacy = "aggregate" }').privacy(
        "click", "args.n"
    ) == ("aggregate")
    assert parse_schema(text.replace('"click"\n', '"scroll"\n')).privacy("click", "args.n") == "upload"


def test_a_value_that_is_not_as_declared_is_not_shown_on_the_word_of_its_class(schema: EventSchema) -> None:
    assert schema.shows("add_cart", "click", "args.item_id", "a")
    assert not schema.shows("add_cart", "click", "args.item_id", {"secret": 1})
    assert not schema.shows("add_cart", "scroll", "args.item_id", "a")
    assert schema.shows("add_cart", "click", "args.note", 7)  # local anyway
    assert schema.shows("add_cart", "click", "page_id", "item")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[events", "not TOML"),
        ("[event.x]", "event"),
        ('[envelope]\nuser = "upload"', "envelope.user"),
        ('[envelope]\npage_id = "public"', "envelope.page_id"),
        ('[events."a b"]', "no event id"),
        ('[events.a]\nkind = "tap"', "events.a.kind"),
        ('[events.a.args]\nx = { type = "number" }', "events.a.args.x.type"),
        ('[events.a.args]\nx = { type = "text", min = 1 }', "min and max are for integer and real"),
        ('[events.a.args]\nx = { type = "real", min = 2, max = 1 }', "min not above max"),
        ('[events.a.args]\nx = { type = "real", min = nan }', "finite"),
        ('[events.a.args]\nx = { type = "integer", min = 1, values = [1] }', "not both"),
        ('[events.a.args]\nx = { type = "integer", values = ["a"] }', "integers for integer"),
        ('[events.a.args]\nx = { type = "boolean", values = [1] }', "values must be a list"),
        ('[events.a.args]\n"x..y" = { type = "text" }', "names joined by dots"),
        ('[events.a.args]\nx = { type = "json" }\n"x.y" = { type = "text" }', "declared as a whole"),
        (
            "[events.a.args]\nx = { type = 'text', values = [" + "'v'," * 1001 + "] }",
            "over the limit of 1000",
        ),
    ],
)
def test_a_wrong_schema_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=r"^events\.toml: ") as caught:
        parse_schema(text)
    assert named in caught.value.message
