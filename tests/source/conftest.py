"""Closes the spools of a test, whose files would otherwise stay open until the end of all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bulkstow.source.spool import Spool


@pytest.fixture(autouse=True)
def _no_open_spools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every spool that the test has made."""
    begun: list[Spool] = []
    begin = Spool.__init__

    def remember(self: Spool, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        begun.append(self)

    monkeypatch.setattr(Spool, "__init__", remember)
    yield
    for spool in begun:
        spool.close()
