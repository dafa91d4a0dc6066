"""Settings of the bench: what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.bench.settings import BenchSettings, parse_counts
from bulkstow.errors import ConfigurationError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"connections": (0,)}, "--connections 0: expected more than 0"),
        ({"connections": (1, 2)}, "--connections 1,2: a list is for --mode sweep; expected one number"),
        ({"mode": "soak", "batch_instances": (1, 2)}, "--batch-instances 1,2: a list is for --mode sweep"),
        ({"batch_bytes": 0}, "--batch-bytes 0: expected more than 0"),
        ({"duration_s": 0.0}, "--duration 0: expected more than 0"),
        ({"repeats": 0}, "--repeats 0: expected more than 0"),
        ({"mode": "open"}, "--mode open without --rate"),
        ({"mode": "open", "rate": 0.0}, "--rate 0: expected more than 0"),
        ({"mode": "sweep", "rate": 5.0}, "--rate is for --mode open"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], says: str) -> None:
    """By the flag's name, with what was expected."""
    with pytest.raises(ConfigurationError) as refused:
        BenchSettings(**settings)
    assert says in str(refused.value)


@given(st.lists(st.integers(0, 999_999), min_size=1))
def test_a_list_of_counts_is_what_it_says(counts: list[int]) -> None:
    """Numbers with commas, and spaces if need be."""
    assert parse_counts(", ".join(map(str, counts))) == tuple(counts)


@pytest.mark.parametrize("text", ["", "1,", ",1", "1.5", "two", "-1", "1 2", "auto,1", "1234567"])
def test_what_is_no_list_is_refused(text: str) -> None:
    """The message has what was found."""
    with pytest.raises(ValueError, match="is not 'auto', a whole number, or a list of them"):
        parse_counts(text)


def test_auto_is_no_count() -> None:
    """It leaves it to the mode."""
    assert parse_counts("auto") is None
