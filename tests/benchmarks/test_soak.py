from __future__ import annotations

import pytest

from benchmarks.tables.soak import grows


@pytest.mark.parametrize(
    ("name", "early", "late", "is_growth"),
    [
        ("rss_bytes", 60e6, 65e6, False),
        ("rss_bytes", 60e6, 75e6, True),
        ("threads", 3, 4, False),
        ("threads", 10, 13, True),
        ("descriptors", 24, 24, False),
        ("descriptors", 24, 29, True),
        ("tasks", 100, 105, False),
    ],
)
def test_what_grows_is_told_from_what_is_made_late(name: str, early: float, late: float, is_growth: bool) -> None:
    """A tenth more is no growth, nor are two more of what pools make when first wanted; memory has no such spare."""
    assert grows(name, early, late) is is_growth
