"""The limit on open files."""

from __future__ import annotations

import resource

import pytest

from bulkstow.engine.descriptors import DESCRIPTORS_PER_REQUEST, SPARE_DESCRIPTORS, allowed_requests

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "at_once", "expected", "expected_soft"),
    [
        (1024, 4096, 4, 4, 1024),
        (64, 4096, 4, 4, SPARE_DESCRIPTORS + 8 + 4 * DESCRIPTORS_PER_REQUEST),
        (64, UNLIMITED, 100, 100, SPARE_DESCRIPTORS + 8 + 100 * DESCRIPTORS_PER_REQUEST),
        (64, 200, 32, (200 - SPARE_DESCRIPTORS - 8) // DESCRIPTORS_PER_REQUEST, 200),
        (UNLIMITED, UNLIMITED, 1000, 1000, UNLIMITED),
        (16, 16, 4, 1, 16),
    ],
    ids=["enough", "raised", "raised without bound", "clamped", "unlimited", "hopeless"],
)
def test_the_limit_is_raised_or_requests_are_fewer(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, at_once: int, expected: int, expected_soft: int
) -> None:
    """The soft limit is raised up to the hard one, and requests beyond it are not started."""
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _what, changed: limits.append(changed))
    assert allowed_requests(at_once=at_once, readers=8) == expected
    assert limits[-1][0] == expected_soft
