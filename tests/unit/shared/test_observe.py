import contextvars
import io
from collections.abc import Iterator

import orjson
import pytest
import structlog

from walle_shared.observe import configure_logging, get_logger
from walle_shared.tracing import enter_trace, new_trace


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def _line(level: str = "info") -> io.StringIO:
    out = io.StringIO()
    configure_logging(level=level, format="json", stream=out)
    return out


def test_a_line_is_one_json_object_with_room_and_level() -> None:
    out = _line()
    get_logger("agent.deploy").info("release_verified", release_id="r1")
    line = orjson.loads(out.getvalue())
    assert (line["event"], line["room"], line["level"], line["release_id"]) == (
        "release_verified",
        "agent.deploy",
        "info",
        "r1",
    )


def test_secrets_never_reach_a_line() -> None:
    out = _line()
    get_logger("x").info("device_enrolled", token="s3cret", credential="s3cret")
    assert "s3cret" not in out.getvalue()


def test_a_line_says_of_which_trace_it_is() -> None:
    out = _line()
    trace = new_trace()

    def work() -> None:
        get_logger("x").info("work_begun")
        enter_trace(trace)
        get_logger("x").info("work_done")
        get_logger("x").info("other_told", trace_id="another's")

    contextvars.copy_context().run(work)
    before, done, other = map(orjson.loads, out.getvalue().splitlines())
    assert "trace_id" not in before
    assert (done["trace_id"], done["span_id"]) == (trace.trace_id, trace.span_id)
    assert other["trace_id"] == "another's"


def test_levels_filter() -> None:
    out = _line("warning")
    get_logger("x").info("quiet_said")
    get_logger("x").warning("loud_said")
    assert "quiet_said" not in out.getvalue()
    assert "loud_said" in out.getvalue()


def test_console_lines_are_plain_when_not_on_a_terminal() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    get_logger("x").info("thing_done", n=1)
    assert "thing_done" in out.getvalue()
    assert "\x1b[" not in out.getvalue()
