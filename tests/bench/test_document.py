"""A result as JSON, and back."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from bulkstow.bench.document import SCHEMA, from_json, to_json
from bulkstow.bench.result import Knee, Load, Percentiles, Result
from bulkstow.errors import ConfigurationError
from tests.bench.measurements import point, result, second


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return any values of a type, as annotations have it."""
    inner = get_args(kind)
    match get_origin(kind) or kind:
        case types.UnionType:
            return st.none() | values(inner[0])
        case found if found is tuple:
            return st.lists(values(inner[0]), max_size=2).map(tuple)
        case found if found is Mapping:
            return st.dictionaries(st.text(max_size=5), values(inner[1]), max_size=2)
        case type() as found if issubclass(found, Struct):
            hints = get_type_hints(found)
            return st.builds(found, **{name: values(hints[name]) for name in found.__struct_fields__})
        case found:
            return PLAIN[found]


PLAIN: dict[type, st.SearchStrategy[Any]] = {
    float: st.just(0.0) | st.floats(1e-9, 1e9),
    int: st.integers(0, 2**53),
    str: st.text(max_size=5),
    bool: st.booleans(),
}

results = values(Result).filter(lambda one: one.points)


@given(results)
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(one: Result) -> None:
    """Every value survives the way there and back, to the last digit."""
    assert from_json(to_json(one)) == one


def test_the_top_has_the_figures_of_the_best_point() -> None:
    """A script finds them by the names that are promised."""
    best = point(
        100,
        latency=Percentiles(99, 0.2, 0.1, 0.3, 0.4, 0.5, 0.6),
        errors={"503": 2},
        dropped=3,
        series=(second(0.0),),
        client_bound=("slow",),
    )
    document = json.loads(to_json(result(best)))
    assert (document["schema"], document["mode"]) == (SCHEMA, "closed")
    assert (document["instances_per_s"], document["megabytes_per_s"]) == (100, 100)
    assert document["latency_s"] == dict(
        zip(("count", "mean", "p50", "p90", "p99", "p99.9", "max"), (99, 0.2, 0.1, 0.3, None, None, 0.6), strict=True)
    )
    assert set(document["service_time_s"]) == set(document["latency_s"])
    assert (document["errors"], document["dropped"]) == ({"503": 2}, 3)
    assert (document["client_bound"], document["client_bound_reasons"]) == (True, ["slow"])
    assert document["series"][0]["instances"] == 100
    assert document["points"][0]["latency_s"] == document["latency_s"]
    assert {"connect_s", "send_s", "thinking_s", "searchable_s", "requests_per_s", "goodputs_per_s"} <= set(document)


def test_a_sweeps_top_is_its_knees() -> None:
    """Of several points the knee's is at the top."""
    knee = Knee(Load(10, connections=4), 100, 104)
    other = point(104, load=Load(10, connections=8))
    assert json.loads(to_json(result(point(100), other, knee=knee)))["instances_per_s"] == 100
    assert json.loads(to_json(result(point(100), other)))["instances_per_s"] == 104


def test_what_later_versions_add_is_passed_over_and_what_they_may_leave_out_is_not_missed() -> None:
    """A key that is unknown does no harm; one that has a default may be absent."""
    document = json.loads(to_json(result()))
    document["colour"] = document["points"][0]["colour"] = "blue"
    del document["ceiling"], document["points"][0]["slip_s"], document["points"][0]["latency_s"]["p99.9"]
    assert from_json(json.dumps(document)) == result(
        point(latency=Percentiles(1000, 0.1, 0.1, 0.2, 0.2, None, 0.2)),
    )


def test_percentiles_that_an_earlier_version_wrote_are_left_out_where_they_cannot_be_told() -> None:
    """It wrote a p99 of whatever was there, and zeros for seconds without a request."""
    document = json.loads(to_json(result(point(series=(second(0.0),)))))
    latency, one = document["points"][0]["latency_s"], document["points"][0]["series"][0]
    latency["count"] = 30
    latency["p99"] = latency["p99.9"] = 0.2
    one["requests"] = one["p50_s"] = one["p99_s"] = 0
    del one["max_s"]
    (read,) = from_json(json.dumps(document)).points
    assert (read.latency.p90_s, read.latency.p99_s, read.latency.p99_9_s) == (0.2, None, None)
    assert (read.series[0].p50_s, read.series[0].p99_s, read.series[0].max_s) == (None, None, 0)


def changed(**keys: Any) -> str:
    """Return a document with other values."""
    return json.dumps(json.loads(to_json(result())) | keys)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "found None"),
        ("{}", "with schema 1; found None"),
        (changed(schema=2), "with schema 1; found 2"),
        (changed(schema=True), "with schema 1; found True"),
        (changed(points=[]), "points: expected one at least, found none"),
        (changed(points=7), "Expected `array`, got `int` - at `$.points`"),
        (changed(points=[7]), "Expected `object`, got `int` - at `$.points[0]`"),
        (changed(points=[{}]), "missing required field `load` - at `$.points[0]`"),
        (changed(url=None), "Expected `str`, got `null` - at `$.url`"),
        (changed(highest_rate_per_s="x"), "Expected `float | null`, got `str` - at `$.highest_rate_per_s`"),
        (changed(highest_rate_per_s=True), "Expected `float | null`, got `bool` - at `$.highest_rate_per_s`"),
        (
            changed(thresholds=[{"threshold": "", "found": 1, "holds": 1}]),
            "Expected `bool`, got `int` - at `$.thresholds[0].holds`",
        ),
        (changed(highest_rate_per_s=1.0).replace("1.0", "NaN"), "not JSON (JSON is malformed"),
        (changed(highest_rate_per_s=7.0).replace("7.0", "1e999"), "not JSON (Number out of range"),
        (changed(highest_rate_per_s=10**400), "Number out of range - at `$.highest_rate_per_s`"),
        (changed(highest_rate_per_s=7.0).replace("7.0", "9" * 5000), "not JSON"),
    ],
)
def test_what_is_no_result_is_refused(text: str, says: str) -> None:
    """The message has the file's name, where in it, what was expected and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        from_json(text, name="A.json")
    assert str(caught.value).startswith("A.json: ")
    assert says in str(caught.value)


def test_whole_numbers_are_numbers() -> None:
    """Other writers leave out a fraction of nothing."""
    document = json.loads(to_json(result()))
    document["points"][0]["elapsed_s"] = 10
    assert from_json(json.dumps(document)) == result()
