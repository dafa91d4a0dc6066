"""`bulkstow serve --faults`: an origin with injected faults."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE_S, call, running


def test_it_says_what_is_planned_and_does_it(tmp_path: Path) -> None:
    """Each fault is listed at the start, and is injected."""
    plan = tmp_path / "faults.toml"
    plan.write_text('[[fault]]\nkind = "unavailable"\nfirst = 1\n[[fault]]\nkind = "xml"\nprobability = 0.5')
    with running("serve", str(tmp_path / "kept"), "--port", "0", "--faults", str(plan)) as process:
        assert process.stdout is not None
        url, *faults = (process.stdout.readline().decode() for _ in range(3))
        assert faults == ["  fault 1: unavailable: the first 1 requests\n", "  fault 2: xml: 50% of the requests\n"]
        found = re.search(r"http://\S+", url)
        assert found is not None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(urllib.request.Request(f"{found[0]}/studies", b"", method="POST"), timeout=PATIENCE_S)
        caught.value.close()
        assert caught.value.code == 503


def test_a_plan_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong plan leads to status 2 and one line, before anything is created."""
    plan = tmp_path / "faults.toml"
    plan.write_text('[[fault]]\nkind = "resett"')
    ended = call(capsys, "serve", str(tmp_path / "kept"), "--faults", str(plan))
    assert ended.status == 2
    assert ended.err == f"bulkstow: --faults {plan}: fault 1: no kind is called 'resett'; did you mean 'reset'?\n"
    assert not (tmp_path / "kept").exists()
