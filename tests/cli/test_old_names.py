"""Old names of settings work like the new ones, and are not documented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bulkstow.cli.old_names import OLD_FLAGS
from tests.cli.command import call
from tests.cli.settings import COMMANDS, URL, Wanted

WORDS = ("upload", "archive", "--url", URL)
FLAGS = ("--response-timeout", "--thinking-timeout")

PLACES: dict[str, Callable[[str], str]] = {
    # how a flag's name is written in each place
    "flag": lambda flag: flag,
    "environment": lambda flag: f"BULKSTOW{flag.upper().replace('-', '_')[1:]}",
    "file": lambda flag: f"c.toml [upload] {flag.removeprefix('--')}",
}

Give = Callable[..., list[str]]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Give a function that sets flags in one place and returns the words of the command."""

    def give(place: str, **values: str) -> list[str]:
        flags = {f"--{name.replace('_', '-')}": value for name, value in values.items()}
        match place:
            case "flag":
                return [*WORDS, *(word for flag in flags.items() for word in flag)]
            case "environment":
                for flag, value in flags.items():
                    monkeypatch.setenv(PLACES["environment"](flag), value)
                return [*WORDS]
            case _:
                lines = [f"{flag.removeprefix('--')} = '{value}'\n" for flag, value in flags.items()]
                Path("c.toml").write_text("".join(["[upload]\n", *lines]))
                return [*WORDS, "--config", "c.toml"]

    return give


@pytest.mark.parametrize("place", PLACES)
def test_an_old_name_sets_the_setting(
    capsys: pytest.CaptureFixture[str], give: Give, wanted: Wanted, place: str
) -> None:
    """The old flag, variable and key are read like the new ones, without a message."""
    assert call(capsys, *give(place, thinking_timeout="7s")).says == ""
    assert wanted.destination.response_timeout_s == 7


def test_an_old_flag_may_have_its_value_behind_an_equals_sign(
    capsys: pytest.CaptureFixture[str], wanted: Wanted
) -> None:
    """An old flag may have the form --flag=value; after `--` it is a source."""
    call(capsys, *WORDS, "--thinking-timeout=7s", "--", "--thinking-timeout")
    assert wanted.destination.response_timeout_s == 7
    assert wanted.job.source == ("archive", "--thinking-timeout")


def test_places_have_their_precedence_whatever_the_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """The precedence of sources is that of the new names."""
    Path("c.toml").write_text("[upload]\nthinking-timeout = '1s'\n")
    call(capsys, *WORDS, "--config", "c.toml", "--response-timeout", "2s")
    assert wanted.destination.response_timeout_s == 2
    monkeypatch.setenv("BULKSTOW_RESPONSE_TIMEOUT", "3s")
    call(capsys, *WORDS, "--config", "c.toml")
    assert wanted.destination.response_timeout_s == 3
    call(capsys, *WORDS, "--config", "c.toml", "--thinking-timeout", "4s")
    assert wanted.destination.response_timeout_s == 4


@pytest.mark.parametrize("place", PLACES)
def test_both_names_in_one_place_are_wrong_use(capsys: pytest.CaptureFixture[str], give: Give, place: str) -> None:
    """Both names in one place are an error that shows them as they were written."""
    ended = call(capsys, *give(place, response_timeout="7s", thinking_timeout="7s"))
    new, old = map(PLACES[place], FLAGS)
    assert (ended.status, ended.err) == (2, f"bulkstow: {new} and {old} are one setting: give only {new}\n")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", ["0", "soon"])
def test_a_mistake_under_an_old_name_is_named_so(
    capsys: pytest.CaptureFixture[str], give: Give, place: str, value: str
) -> None:
    """A message shows the name that the user wrote."""
    ended = call(capsys, *give(place, thinking_timeout=value))
    assert ended.status == 2
    assert PLACES[place]("--thinking-timeout") in ended.err
    assert "response" not in ended.err.lower()


def test_a_repeated_old_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The old flag given twice is a repeated flag."""
    err = call(capsys, *WORDS, "--thinking-timeout", "1s", "--thinking-timeout", "2s").err
    assert err == "bulkstow: Parameter --thinking-timeout specified multiple times.\n"


def test_other_commands_ignore_an_old_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable with an old name is accepted by commands that do not use it."""
    monkeypatch.setenv("BULKSTOW_THINKING_TIMEOUT", "7s")
    assert "no ledger at gone.db" in call(capsys, "report", "gone.db").err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_no_old_name(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Help does not show old names."""
    assert not [old for old in OLD_FLAGS.values() if old in call(capsys, command, "--help").out]


def test_an_old_name_is_not_suggested(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped old flag is unknown, and is not suggested."""
    assert "thinking-timeout" not in call(capsys, *WORDS, "--thinking-timeou", "1s").err.replace("thinking-timeou.", "")
    monkeypatch.setenv("BULKSTOW_THINKING_TIMEOU", "1s")
    assert "BULKSTOW_THINKING_TIMEOUT" not in call(capsys, *WORDS).err
