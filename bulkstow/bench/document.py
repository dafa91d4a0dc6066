"""A result as JSON, and back.

The JSON is a contract (`SCHEMA`): scripts and `bulkstow bench compare` read it, years later. A key is added freely; one
that changes its meaning, or goes, raises the number. A percentile that its samples cannot tell is null. Input is
checked against the types of `result`, key by key. Opens no file.
"""

from __future__ import annotations

import msgspec

from bulkstow.bench.result import Point, Result
from bulkstow.errors import ConfigurationError

SCHEMA = 1

_DERIVED = ("instances_per_s", "megabytes_per_s", "requests_per_s", "error_share", "dropped_share", "spread")
"""Figures of a point that are written for readers of the JSON, and not read again: they follow from the rest."""


def to_json(result: Result) -> str:
    """Return a result as one JSON object: the best point's figures at its top, every point under `points`."""
    whole = msgspec.to_builtins(result)
    whole["points"] = [_point(point) for point in result.points]
    head = {"schema": SCHEMA, "mode": result.mode}
    return msgspec.json.encode(head | _point(result.best) | whole).decode()


def _point(point: Point) -> dict[str, object]:
    derived = {name: getattr(point, name) for name in _DERIVED}
    return {**msgspec.to_builtins(point), **derived, "client_bound": bool(point.client_bound)}


def from_json(text: str, *, name: str = "the result") -> Result:
    """Return the result that `to_json` wrote; unknown keys are ignored.

    Raises ConfigurationError, with `name` in front, for other text and other schemas.
    """
    expected = "expected what `bulkstow bench --json` wrote"
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigurationError(f"{name}: not JSON ({error}); {expected}") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise ConfigurationError(f"{name}: {expected}, with schema {SCHEMA}; found {schema!r}")
    try:
        result = msgspec.convert(document, Result)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    if not result.points:
        raise ConfigurationError(f"{name}: points: expected one at least, found none")
    return result
