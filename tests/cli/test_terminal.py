"""No name and no text of a server reaches the terminal unescaped, for any command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.archives import write_batch
from tests.cli.command import call, names_in, nobody, served

EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\x9bx"

COMMANDS = [
    ("report", "{evil}"),
    ("report", "{evil}", "--recover"),
    ("report", "x.db", "--outcome", "{evil}"),
    ("upload", "{evil}", "--url", "{url}"),
    ("upload", "archive", "--url", "{url}", "--ledger", "{evil}/x.db"),
    ("upload", "archive", "--url", "{url}", "--ledger", "{evil}.db"),
    ("upload", "archive", "--url", "{url}", "--progress", "log"),
    ("upload", "archive", "--url", "{url}", "--progress", "bar", "--batch-instances", "1"),
    ("upload", "archive", "--url", "{url}", "--summary", "{evil}/x.json"),
    ("upload", "--files-from", "{evil}", "--url", "{url}"),
    ("upload", "--files-from", "list", "--url", "{url}"),
    ("upload", "archive", "--url", "{nobody}/{evil}"),
    ("upload", "archive", "--url", "{url}", "--concurrency", "{evil}"),
    ("upload", "archive", "--url", "{url}", "--{evil}"),
    ("upload", "archive", "--url", "{url}", "--ca-file", "{evil}"),
    ("upload", "archive", "--url", "{url}", "--password-file", "{evil}", "--user", "me"),
    ("verify", "--url", "{url}", "--ledger", "{evil}.db"),
    ("--config", "{evil}", "report", "x.db"),
    ("--config", "odd.toml", "report", "x.db"),
    ("body", "{evil}"),
    ("body", "archive", "--output", "{evil}/x"),
    ("body", "archive", "--output", "{evil}.bin"),
    ("demo", "{evil}-demo", "--instances", "2"),
    ("serve", "archive/{evil}/x", "--port", "99999"),
    ("serve", "list/{evil}", "--port", "0"),
    ("serve", "stored", "--faults", "{evil}"),
    ("bench", "compare", "{evil}", "{evil}"),
    ("{evil}",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words).replace("{evil}", "EVIL") for words in COMMANDS])
def test_nothing_steers_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Names of files, lists, settings and commands are escaped: each printed line is printable."""
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path / "archive" / EVIL, 2)
    (tmp_path / "archive" / f"junk{EVIL}").write_text("junk")
    (tmp_path / "archive" / f"gone{EVIL}").symlink_to(f"nowhere{EVIL}")
    (tmp_path / "list").write_text(f"archive\n{EVIL}\n")
    (tmp_path / "odd.toml").write_text('["\\u001b]0;owned\\u0007"]')
    with served() as url, nobody() as deaf:
        names = {"evil": EVIL, "url": url, "nobody": deaf}
        filled = [names_in(word, names) for word in words]
        ended = call(capsys, *filled)
    assert ended.says
    drawn = ended.err.replace("\r", "").replace("\x1b[J", "").replace("\x1b[A", "") if "bar" in words else ended.err
    for line in (ended.out + drawn).split("\n"):
        assert line.isprintable(), ascii(line)
