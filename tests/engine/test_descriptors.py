"""Claims about room for open files."""

from __future__ import annotations

import resource

import pytest

from bulkstow.engine.descriptors import PER_SENDER, SPARE, make_room

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "senders", "expected_room", "expected_soft"),
    [
        (1024, 4096, 4, 4, 1024),
        (64, 4096, 4, 4, SPARE + 8 + 4 * PER_SENDER),
        (64, UNLIMITED, 100, 100, SPARE + 8 + 100 * PER_SENDER),
        (64, 100, 32, (100 - SPARE - 8) // PER_SENDER, 100),
        (UNLIMITED, UNLIMITED, 1000, 1000, UNLIMITED),
        (16, 16, 4, 1, 16),
    ],
    ids=["enough", "raised", "raised without bound", "clamped", "unlimited", "hopeless"],
)
def test_room_is_made_or_fewer_requests(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, senders: int, expected_room: int, expected_soft: int
) -> None:
    """The soft limit is raised as far as the hard one lets it, and what has no room is not started."""
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _what, changed: limits.append(changed))
    assert make_room(senders=senders, readers=8) == expected_room
    assert limits[-1][0] == expected_soft
