"""Plain JSON values into frozen dataclasses and back, strictly.

One small decoder serves messages, manifests and settings, so that every value from outside is checked the
same way and every complaint names the path of the value: ``releases[3].share_ppb: expected an integer``.

Supported field types: ``str int float bool None``, ``Any``, ``Literal``, unions of these, ``tuple[T, ...]``,
``Mapping[str, T]``/``dict[str, T]`` and nested dataclasses; ``NewType`` counts as what it wraps.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, NewType, TypeVar, Union, cast, get_args, get_origin

T = TypeVar("T")

#: A dataclass with a field of this name keeps members it does not know there, so that old code passes new
#: data on.
EXTRA = "extra"

_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}


class RecordError(ValueError):
    """A value does not fit its declared type; ``path`` says where."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


def from_plain[T](cls: type[T], value: object, path: str = "") -> T:
    """Build ``cls`` from parsed JSON or TOML.

    Args:
        cls: a dataclass (or any supported type).
        value: what the parser returned.
        path: prefix for complaints.

    Raises:
        RecordError: naming the first member that does not fit, an unknown member, or a missing one.
    """
    return cast(T, _converter(cast(Hashable, cls))(value, path))


def to_plain(value: object) -> Any:
    """Turn dataclasses, tuples and mappings into what a JSON writer takes; ``extra`` members return home."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {
            f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != EXTRA
        }
        plain.update(getattr(value, EXTRA, None) or {})
        return plain
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


Converter = Callable[[object, str], object]


@functools.cache
def _converter(hint: Hashable) -> Converter:
    if isinstance(hint, NewType):
        return _converter(hint.__supertype__)
    if hint is Any or hint is object:
        return lambda value, path: value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record_converter(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return _literal_converter(get_args(hint))
    if origin in (Union, types.UnionType):
        return _union_converter(get_args(hint))
    if origin is tuple:
        return _tuple_converter(get_args(hint)[0])
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _mapping_converter(get_args(hint)[1])
    if hint in _WORDS:
        return _scalar_converter(hint)
    raise TypeError(f"records cannot decode {hint!r}")


def _scalar_converter(kind: type) -> Converter:
    def convert(value: object, path: str) -> object:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:  # exact: True must not pass as 1
            raise RecordError(path, f"expected {_WORDS[kind]}, got {_show(value)}")
        return value

    return convert


def _literal_converter(options: tuple[object, ...]) -> Converter:
    def convert(value: object, path: str) -> object:
        if not any(type(value) is type(option) and value == option for option in options):
            raise RecordError(path, f"expected one of {', '.join(map(repr, options))}, got {_show(value)}")
        return value

    return convert


def _union_converter(members: tuple[Any, ...]) -> Converter:
    converters = [_converter(member) for member in members]

    def convert(value: object, path: str) -> object:
        problems: list[RecordError] = []
        for converter in converters:
            try:
                return converter(value, path)
            except RecordError as problem:
                problems.append(problem)
        raise max(problems, key=lambda problem: len(problem.path))  # the one that got furthest says most

    return convert


def _tuple_converter(item_hint: Any) -> Converter:
    convert_item = _converter(item_hint)

    def convert(value: object, path: str) -> object:
        if not isinstance(value, list | tuple):
            raise RecordError(path, f"expected a list, got {_show(value)}")
        return tuple(convert_item(item, f"{path}[{i}]") for i, item in enumerate(value))

    return convert


def _mapping_converter(item_hint: Any) -> Converter:
    convert_item = _converter(item_hint)

    def convert(value: object, path: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordError(path, f"expected a table, got {_show(value)}")
        return {
            _check_key(key, path): convert_item(item, _join(path, str(key))) for key, item in value.items()
        }

    return convert


def _record_converter(cls: type) -> Converter:
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    converters: dict[str, Converter] = {}  # filled on first use: a record may contain itself
    keeps_extra = EXTRA in fields

    def convert(value: object, path: str) -> object:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise RecordError(path, f"expected a table, got {_show(value)}")
        if not converters:
            converters.update({name: _converter(hints[name]) for name in fields if name != EXTRA})
        known: dict[str, object] = {}
        extra: dict[str, object] = {}
        for key, item in value.items():
            if key in converters:
                known[key] = converters[key](item, _join(path, key))
            elif keeps_extra:
                extra[_check_key(key, path)] = item
            else:
                raise RecordError(
                    _join(path, str(key)), f"is not known; known here: {', '.join(sorted(converters))}"
                )
        for name, field in fields.items():
            if name not in known and name != EXTRA and _required(field):
                raise RecordError(_join(path, name), "is missing")
        if keeps_extra:
            known[EXTRA] = extra
        return cls(**known)

    return convert


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise RecordError(path, f"expected string keys, got {_show(key)}")
    return key


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
