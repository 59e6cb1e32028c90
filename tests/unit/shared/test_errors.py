import inspect

import pytest

from walle_shared import errors


def _all_errors() -> list[type[errors.WalleError]]:
    return [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.WalleError)
    ]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in _all_errors()]
    assert len(codes) == len(set(codes))


def test_only_transport_errors_are_retried() -> None:
    assert {cls for cls in _all_errors() if cls.retryable} == {
        errors.TransportError,
        errors.PeerTimeout,
        errors.ConnectionLost,
    }


def test_every_error_is_drawn_in_the_tree() -> None:
    assert errors.__doc__ is not None
    for cls in _all_errors():
        assert cls.__name__ in errors.__doc__


def test_engine_error_names_op_and_node() -> None:
    error = errors.UnsupportedError("no Foo here", status="UNSUPPORTED", op="Foo", node="n1")
    assert (error.message, error.status, error.op, error.node) == ("no Foo here", "UNSUPPORTED", "Foo", "n1")


def test_a_code_can_be_narrowed_without_touching_the_class() -> None:
    assert errors.NotFound("x", code="release_not_found").code == "release_not_found"
    assert errors.NotFound("x").code == "not_found"


@pytest.mark.parametrize("cls", [errors.WalleError, errors.ConfigError])
def test_message_is_the_sentence(cls: type[errors.WalleError]) -> None:
    assert cls("set a.b in agent.toml").message == "set a.b in agent.toml"
