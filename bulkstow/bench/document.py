"""A result as JSON, and back.

The JSON is a contract (`SCHEMA`): scripts and `bulkstow bench compare` read it, years later. A key is added freely; one
that changes its meaning, or goes, raises the number. A percentile that its samples cannot tell is null. What is read is
checked against the types of `result`, key by key.
Opens no file.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

from bulkstow.bench.result import Percentiles, Point, Result
from bulkstow.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 1

T = TypeVar("T")

_KEYS: dict[type, dict[str, str]] = {
    Percentiles: {
        "mean_s": "mean",
        "p50_s": "p50",
        "p90_s": "p90",
        "p99_s": "p99",
        "p99_9_s": "p99.9",
        "max_s": "max",
    },
    Point: {
        name: f"{name}_s"
        for name in ("latency", "service_time", "connect", "send", "thinking", "searchable", "failed", "slip")
    }
    | {
        "loop_lag": "loop_lag_s",
        "warmup_latency": "warmup_latency_s",
        "repeat_latencies": "repeat_latencies_s",
        "client_bound": "client_bound_reasons",
    },
}
"""Keys that are not called like their field."""

_FIGURES = ("instances_per_s", "megabytes_per_s", "requests_per_s", "error_share", "dropped_share", "spread")
"""Of a point, written for whoever reads the JSON, not read again: they follow from the rest."""


def to_json(result: Result) -> str:
    """Return a result as one JSON object: the best point's figures at its top, every point under `points`."""
    whole = {"schema": SCHEMA, "mode": result.mode, **_plain_fields(result.best), **_plain_fields(result)}
    return json.dumps(whole, allow_nan=False)


def from_json(text: str, *, name: str = "the result") -> Result:
    """Return the result that `to_json` wrote; keys that are not known are passed over.

    Raises ConfigurationError, with `name` in front, for what is no such JSON, or of another schema.
    """
    try:
        document = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name}: not JSON ({error}); expected what `bulkstow bench --json` wrote") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise ConfigurationError(
            f"{name}: expected what `bulkstow bench --json` wrote, with schema {SCHEMA}; found {schema!r}"
        )
    try:
        result = cast("Result", _read(Result, document, ""))
    except _Unexpected as unexpected:
        raise ConfigurationError(f"{name}: {unexpected}") from None
    if not result.points:
        raise ConfigurationError(f"{name}: points: expected one at least, found none")
    return result


class _Unexpected(Exception):
    """A value that is not of the schema; the text says where it is."""

    def __init__(self, at: str, expected: str, found: object) -> None:
        super().__init__(f"{at}: expected {expected}, found {str(found)[:40]!r}")


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    match value:
        case tuple():
            return [_plain(one) for one in value]
        case Mapping():
            return dict(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _plain_fields(value)
        case _:
            return value


def _plain_fields(value: DataclassInstance) -> dict[str, object]:
    keys = _KEYS.get(type(value), {})
    found = {keys.get(each.name, each.name): _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Point):
        found |= {figure: getattr(value, figure) for figure in _FIGURES}
        found["client_bound"] = bool(value.client_bound)
    return found


def _read(kind: object, found: object, at: str) -> object:
    """Return what was `found` under the key `at` as a value of `kind`, a type as annotations have it."""
    inner = get_args(kind)
    match get_origin(kind) or kind:
        case types.UnionType:
            return None if found is None else _read(inner[0], found, at)
        case origin if origin is tuple:
            return tuple(_read(inner[0], one, f"{at}[{n}]") for n, one in enumerate(_checked(list, found, at)))
        case origin if origin is Mapping:
            return {key: _read(inner[1], one, f"{at}.{key}") for key, one in _checked(dict, found, at).items()}
        case type() as plain if is_dataclass(plain):
            return _read_fields(plain, _checked(dict, found, at), at)
        case type() as plain if plain is float:
            return _number(found, at)
        case type() as plain:
            return _checked(plain, found, at)
        case _:
            raise AssertionError(f"{kind} is not written")


def _read_fields(kind: type[DataclassInstance], found: dict[str, object], at: str) -> object:
    hints = get_type_hints(kind)
    keys = _KEYS.get(kind, {})
    values: dict[str, object] = {}
    for each in fields(kind):
        key = keys.get(each.name, each.name)
        where = f"{at}.{key}".lstrip(".")
        if key in found:
            values[each.name] = _read(hints[each.name], found[key], where)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise _Unexpected(where, "a value", "nothing")
    return kind(**values)


def _number(found: object, at: str) -> float:
    """Return a number, which may be written without a fraction."""
    try:
        is_whole = isinstance(found, int) and not isinstance(found, bool)
        number = float(cast("int", found)) if is_whole else _checked(float, found, at)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Unexpected(at, "a finite number", found)
    return number


def _checked(kind: type[T], found: object, at: str) -> T:
    """Return what was found if it is of a kind; true and false are no numbers."""
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise _Unexpected(at or "the whole", _WORDS[kind], found)
    return found


_WORDS: dict[type, str] = {
    list: "a list",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
}


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
