"""A plan of faults as a TOML file.

Owns its keys, their units, and the messages about errors in them.

    seed = 1                  # of every probability

    [[fault]]
    kind = "unavailable"      # see faults.Kind
    probability = 0.1         # conditions: all that are given must hold
    times = 20
    retry-after = "2s"        # parameters: keys of this kind

    [[fault]]
    kind = "invalid"
    instances = ["2.25.1.1.7"]

    [[fault]]
    kind = "unavailable"
    on = "search"             # or "store" or "retrieve"; a kind of one operation needs none
    studies = ["2.25.1"]
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from bulkstow.errors import ConfigurationError
from bulkstow.quantities import parse_duration_s, parse_size_bytes, show_size
from bulkstow.server.faults import OF_INSTANCES, Kind, Operation, Plan, PlannedFault, operations_of
from bulkstow.wire.uids import is_uid


@dataclass(frozen=True, slots=True)
class _Key:
    field: str
    """The field of PlannedFault."""
    is_valid: Callable[[Any], bool]
    expected: str
    read: Callable[[Any], object] = lambda value: value
    """Converts the value; raises ValueError if it is invalid."""


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_quantity(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _size_bytes(value: object) -> int:
    size_bytes = parse_size_bytes(str(value))
    if size_bytes == 0:
        raise ValueError("more than 0 bytes are needed")
    return size_bytes


def _duration_s(value: object) -> float:
    return parse_duration_s(str(value))


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_probability(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_list_of(is_one: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(is_one, value))


def _is_text_of_uid(value: object) -> bool:
    return isinstance(value, str) and is_uid(value)


def _is_error_status(value: object) -> bool:
    return _is_count(value) and 400 <= value <= 599


_COUNT = "a whole number of 1 or more"
_CONDITIONS = {
    "probability": _Key("probability", _is_probability, "a number from 0 to 1, such as 0.1"),
    "requests": _Key("requests", _is_list_of(_is_count), "a list of numbers from 1, such as [1, 5]", frozenset),
    "every": _Key("every", _is_count, _COUNT),
    "first": _Key("first", _is_count, _COUNT),
    "above-bytes": _Key("above_bytes", _is_quantity, "a size such as 1MiB or 4096", _size_bytes),
    "instances": _Key(
        "instances", _is_list_of(_is_text_of_uid), 'a list of SOP Instance UIDs, such as ["1.2.3"]', frozenset
    ),
    "studies": _Key(
        "studies", _is_list_of(_is_text_of_uid), 'a list of Study Instance UIDs, such as ["1.2"]', frozenset
    ),
    "times": _Key("times", _is_count, _COUNT),
}
_NOT_CONDITIONS: Mapping[Operation, frozenset[str]] = {
    Operation.STORE: frozenset({"studies"}),
    Operation.SEARCH: frozenset({"above-bytes", "instances"}),
    Operation.RETRIEVE: frozenset({"above-bytes"}),
}
"""The conditions that an operation does not have."""
_PARAMETERS = {
    "retry-after": _Key("retry_after_s", _is_quantity, "a time such as 2s", _duration_s),
    "as-date": _Key("as_date", _is_switch, "true or false"),
    "delay": _Key("delay_s", _is_quantity, "a time such as 500ms", _duration_s),
    "bytes-per-second": _Key("bytes_per_second", _is_quantity, "a size such as 64KiB", _size_bytes),
    "reason": _Key("reason", lambda value: _is_count(value) and value <= 0xFFFF, "a FailureReason, such as 0xA700"),
    "stored": _Key("stored", _is_switch, "true or false"),
    "everyone": _Key("everyone", _is_switch, "true or false"),
    "status": _Key("status", _is_error_status, "a status from 400 to 599"),
    "page-instances": _Key("page_instances", _is_count, _COUNT),
    "repeated-instances": _Key("repeated_instances", _is_count, _COUNT),
}
_KEYS = _CONDITIONS | _PARAMETERS

_OWN: Mapping[Kind, Mapping[str, object]] = {
    Kind.UNAVAILABLE: {"retry-after": None, "as-date": None},
    Kind.TOO_MANY: {"retry-after": None, "as-date": None},
    Kind.UNAUTHORISED: {"times": 1},
    Kind.LEFT_OUT: {"stored": True},
    Kind.NAMELESS: {"reason": 0x0110},
    Kind.MADE_UP: {"reason": 0x0110},
    Kind.OUT_OF_RESOURCES: {"reason": 0xA700},
    Kind.INVALID: {"reason": 0xA900},
    Kind.SLOW_READING: {"bytes-per-second": "64KiB"},
    Kind.SLOW_THINKING: {"delay": "1s"},
    Kind.FROZEN: {"delay": "10s"},
    Kind.TRICKLE: {"delay": "100ms"},
    Kind.STATUS: {"status": 500},
    Kind.PAGE_CAP: {"page-instances": 100},
    Kind.REPEATED: {"repeated-instances": 5},
    Kind.LATE_INDEX: {"delay": "5s"},
}
"""The keys of each kind besides the conditions, with their defaults in the notation of the file, or None."""


def read_plan(path: Path) -> Plan:
    """Read a plan from a file; blocks.

    Raises ConfigurationError, naming the fault and the key, if the file cannot be read, is not TOML, or is not a plan.
    """
    try:
        return plan_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"--faults {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--faults {path}: not TOML ({error})") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"--faults {path}: {error}") from error


def plan_of(document: Mapping[str, Any]) -> Plan:
    """Return the plan in a TOML document. Raises ConfigurationError if it is invalid."""
    for key in document:
        _check(key, ("seed", "fault"), "key", "")
    seed, tables = document.get("seed", 1), document.get("fault", [])
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigurationError(f"seed: expected a whole number, found {seed!r}")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError("expected tables named [[fault]], with two brackets")
    return Plan(tuple(_fault(place, table) for place, table in enumerate(tables, start=1)), seed)


def _fault(place: int, table: Mapping[str, Any]) -> PlannedFault:
    for key in table:
        _check(key, ("kind", "on", *_KEYS), "key", f"fault {place}: ")
    name = table.get("kind")
    if not isinstance(name, str):
        raise ConfigurationError(f"fault {place}: its kind is missing")
    _check(name, [kind.value for kind in Kind], "kind", f"fault {place}: ")
    kind = Kind(name)
    own: dict[str, object] = dict(_OWN.get(kind, {}))
    if kind in OF_INSTANCES:
        own["everyone"] = None
    where = f"fault {place} ({kind}): "
    on = _operation(kind, table, where)
    conditions = [key for key in _CONDITIONS if key not in _NOT_CONDITIONS[on]]
    for key in table:
        _check(key, ("kind", "on", *conditions, *own), "key of this kind", where)
    values = {key: value for key, value in {**own, **table}.items() if key in _KEYS and value is not None}
    fields: dict[str, Any] = {_KEYS[key].field: _value(key, value, where) for key, value in values.items()}
    return PlannedFault(kind=kind, place=place, on=on, **fields)


def _operation(kind: Kind, table: Mapping[str, Any], where: str) -> Operation:
    possible = operations_of(kind)
    named = table.get("on", possible[0].value)
    if named not in possible:
        words = " or ".join(repr(operation.value) for operation in possible)
        raise ConfigurationError(f"{where}on: expected {words}, found {named!r}")
    return Operation(named)


def _value(name: str, value: object, where: str) -> object:
    key = _KEYS[name]
    try:
        if key.is_valid(value):
            return key.read(value)
    except ValueError:
        pass
    raise ConfigurationError(f"{where}{name}: expected {key.expected}, found {value!r}")


def _check(name: str, known: Iterable[str], what: str, where: str) -> None:
    names = list(known)
    if name not in names:
        guess = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {guess[0]!r}?" if guess else f"there are {', '.join(names)}"
        raise ConfigurationError(f"{where}no {what} is called {name!r}; {hint}")


def describe(fault: PlannedFault) -> str:
    """Return a fault and its conditions in one line: `reset: every 10 requests, at most 3 times`."""
    requests = "requests" if fault.on is Operation.STORE else f"{fault.on} requests"
    conditions = [
        f"{100 * fault.probability:.3g}% of the {requests}" if fault.probability is not None else "",
        f"{requests} {', '.join(map(str, sorted(fault.requests)))}" if fault.requests else "",
        f"every {fault.every} {requests}" if fault.every else "",
        f"the first {fault.first} {requests}" if fault.first else "",
        f"above {show_size(fault.above_bytes)}" if fault.above_bytes is not None else "",
        _listed(fault.instances, "instances"),
        f"of {_listed(fault.studies, 'studies')}" if fault.studies else "",
        f"at most {fault.times} times" if fault.times else "",
    ]
    always = "always" if fault.on is Operation.STORE else f"every {fault.on}"
    return f"{fault.kind}: {', '.join(filter(None, conditions)) or always}"


def _listed(uids: frozenset[str], what: str) -> str:
    return ", ".join(sorted(uids)) if len(uids) <= 3 else f"{len(uids)} {what}"
