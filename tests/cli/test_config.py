"""`bulkstow config`: an example of the configuration file that can be used as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkstow.cli.config import example
from tests.cli.command import Ended, call, spawn
from tests.cli.settings import URL, Wanted, upload_defaults, upload_values


def test_the_example_can_be_used_as_it_is_printed(capsys: pytest.CaptureFixture[str], wanted: Wanted) -> None:
    """`bulkstow config > FILE`, then `--config FILE`: nothing is changed, as all settings are comments."""
    Path("bulkstow.toml").write_text(call(capsys, "config").out, encoding="utf-8")
    assert call(capsys, "--config", "bulkstow.toml", "upload", "archive", "--url", URL) == Ended(0, "", "")
    assert upload_values(wanted) == upload_defaults() | {"url": URL}


def test_a_setting_without_its_comment_sign_counts(capsys: pytest.CaptureFixture[str], wanted: Wanted) -> None:
    """The file is edited as its first lines say."""
    printed = call(capsys, "config").out
    Path("bulkstow.toml").write_text(printed.replace("# retries = 4", "retries = 9", 1), encoding="utf-8")
    call(capsys, "--config", "bulkstow.toml", "upload", "archive", "--url", URL)
    assert upload_values(wanted) == upload_defaults() | {"url": URL, "retries": 9}


def test_it_prints_nothing_else() -> None:
    """In a process of its own, as for a file: the example on standard output, nothing on standard error."""
    assert spawn("config") == Ended(0, example(), "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["config", "upload"], "too many arguments: 'upload'; `bulkstow config --help` shows the usage"),
        (["config", "--output", "x"], "--output"),
    ],
    ids=["an argument", "a flag"],
)
def test_a_wrong_use_has_status_2(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    """The command takes no argument; the message names the surplus one."""
    ended = call(capsys, *words)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err


def test_its_help_says_how_to_use_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Help shows both steps as commands that can be copied."""
    out = call(capsys, "config", "--help").out
    assert "bulkstow config > bulkstow.toml" in out
    assert "bulkstow --config bulkstow.toml upload SOURCE..." in out


@pytest.mark.parametrize("command", ["", "upload", "bench", "serve"])
def test_help_of_other_commands_names_it(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Help names the command, as an installed package has no example file."""
    out = call(capsys, *command.split(), "--help").out
    assert "bulkstow config" in out
    assert "config.example.toml" not in out
