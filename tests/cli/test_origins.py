"""The origins of settings, their precedence, and their names in messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest

from tests.cli.command import Ended, call
from tests.cli.settings import (
    IN_COMPANY,
    OTHERS,
    SAMPLES,
    URL,
    Wanted,
    as_flags,
    as_toml,
    upload_defaults,
    upload_values,
)


def test_the_samples_are_all_flags_of_upload() -> None:
    """Every setting has a sample."""
    defaults = upload_defaults()
    assert SAMPLES.keys() == defaults.keys()
    assert [flag for flag, default in defaults.items() if SAMPLES[flag][1] == default] == []


@pytest.mark.parametrize("flag", SAMPLES)
@pytest.mark.parametrize("place", ["flag", "environment", "file"])
def test_every_setting_may_stand_anywhere(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wanted: Wanted,
    place: Literal["flag", "environment", "file"],
    flag: str,
) -> None:
    """A flag, a variable and a key of a TOML file set the same value, and no other setting."""
    text, value = SAMPLES[flag]
    words = ["upload", "archive", *IN_COMPANY.get(flag, ())]
    words += [] if flag == "url" else ["--url", URL]
    match place:
        case "flag":
            words += as_flags(flag, text)
        case "environment":
            monkeypatch.setenv(f"BULKSTOW_{flag.upper().replace('-', '_')}", text)
        case "file":
            Path("c.toml").write_text(f"[upload]\n{as_toml(flag, text)}\n")
            words += ["--config", "c.toml"]
    assert call(capsys, *words).err == ""
    found = upload_values(wanted)
    company = {IN_COMPANY[flag][0].removeprefix("--")} if flag in IN_COMPANY else set()
    assert found[flag] == value
    assert {name for name, default in upload_defaults().items() if found[name] != default} - company == {flag, "url"}


@pytest.mark.parametrize("flag", [flag for flag, (_, value) in SAMPLES.items() if value is not True])
def test_a_flag_before_the_environment_before_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted, flag: str
) -> None:
    """The flag overrides the environment, and both override the file; lists are not joined."""
    text, value = SAMPLES[flag]
    other = OTHERS.get(flag) or f"{int(re.sub('[^0-9]', '', text) or 0) + 1}"
    variable = f"BULKSTOW_{flag.upper().replace('-', '_')}"
    words = ["upload", "archive", *IN_COMPANY.get(flag, ()), "--config", "c.toml"]
    words += [] if flag == "url" else ["--url", URL]

    def found(*more: str) -> object:
        assert call(capsys, *words, *more).err == ""
        return upload_values(wanted)[flag]

    Path("c.toml").write_text(f"[upload]\n{as_toml(flag, other)}\n")
    from_file = found()
    assert from_file != value
    monkeypatch.setenv(variable, text)
    assert found() == value
    monkeypatch.setenv(variable, other)
    assert found() == from_file
    assert found(*as_flags(flag, text)) == value


MISTAKES = [
    # flag, what is written, what the message says of a flag, of a variable and of a key
    ("per-study", "0", "{}: expected more than 0"),
    ("retries", "-1", "{}: expected 0 or more"),
    ("concurrency", "9-2", "{}: expected the smaller number first"),
    ("summary", "gone/s", "{}: cannot be written (no such directory)"),
    ("bearer-file", "gone", "{}: cannot be read (No such file or directory)"),
    ("batch-bytes", "all", "Invalid value for {}: 'all' is not a size"),
    ("stall-timeout", "soon", "Invalid value for {}: 'soon' is not a time"),
]


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize("place", ["flag", "environment", "file"])
@pytest.mark.parametrize(("flag", "text", "says"), MISTAKES, ids=[flag for flag, *_ in MISTAKES])
def test_a_mistake_is_named_as_it_was_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str, flag: str, text: str, says: str
) -> None:
    """A message shows a flag by its name, a variable with its value, and a key with its file and table."""
    words = ["upload", "archive", "--url", URL, "--progress", "none"]
    is_converted = "Invalid" in says
    match place:
        case "flag":
            words += [f"--{flag}", text]
            name = f"--{flag}" if is_converted else f"--{flag} {text}"
        case "environment":
            monkeypatch.setenv(variable := f"BULKSTOW_{flag.upper().replace('-', '_')}", text)
            name = f"{variable}={text}"
        case _:
            Path("c.toml").write_text(f"[upload]\n{flag} = '{text}'\n")
            words += ["--config", "c.toml"]
            name = f"c.toml [upload] {flag}" if is_converted else f"c.toml [upload] {flag} = {text}"
    ended = call(capsys, *words)
    assert ended.status == 2
    assert ended.err.startswith(f"bulkstow: {says.format(name)}")


@pytest.mark.usefixtures("things")
def test_only_what_was_not_a_flag_is_renamed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting in a message is named as it was written; no secret is shown, and no command is changed."""
    words = ["upload", "archive", "--url", URL, "--bearer-file", "words"]
    monkeypatch.setenv("BULKSTOW_USER", "ada")
    assert "BULKSTOW_USER, --bearer-file and --bearer-command: one login" in call(capsys, *words).err
    monkeypatch.setenv("BULKSTOW_HEADER", "s3cret")
    ended = call(capsys, "upload", "archive", "--url", URL)
    assert ended.err == "bulkstow: BULKSTOW_HEADER number 1: expected 'Name: value' on one line\n"
    monkeypatch.setenv("BULKSTOW_LEDGER", "gone.db")
    assert "give the file that `bulkstow upload --ledger` wrote" in call(capsys, "report").err


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("BULKSTOW_BANDWITH", "did you mean BULKSTOW_BANDWIDTH?"),
        ("BULKSTOW_PASSWROD", "did you mean BULKSTOW_PASSWORD?"),
        ("BULKSTOW_bandwidth", "did you mean BULKSTOW_BANDWIDTH?"),
        ("BULKSTOW_NO_INSECURE", "did you mean BULKSTOW_INSECURE?"),
        ("BULKSTOW_CONECTIONS", "did you mean BULKSTOW_CONNECTIONS?"),
        ("BULKSTOW_XYZZY", "`bulkstow COMMAND --help` lists the settings"),
    ],
)
@pytest.mark.parametrize("words", [("upload", "archive", "--url", URL), ("report", "l.db")], ids=["upload", "report"])
def test_a_variable_that_is_no_setting_is_an_error(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    variable: str,
    hint: str,
) -> None:
    """An unknown variable leads to status 2 with a suggestion, and nothing is done."""
    monkeypatch.setenv(variable, "5MB/s")
    ended = call(capsys, *words)
    assert ended == Ended(2, "", f"bulkstow: the variable {variable} in the environment is no setting; {hint}\n")


def test_a_variable_of_another_command_is_let_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """Variables of other commands are accepted."""
    for name in ("PORT", "CONNECTIONS", "OUTCOME", "PASSWORD", "INSTANCES"):
        monkeypatch.setenv(f"BULKSTOW_{name}", "1")
    assert call(capsys, "upload", "archive", "--url", URL).err == ""
    assert upload_values(wanted) == upload_defaults() | {"url": URL}


def test_a_switch_can_be_turned_off_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """`false` in the environment overrides the file."""
    Path("c.toml").write_text("[upload]\ninsecure = true\n")
    monkeypatch.setenv("BULKSTOW_INSECURE", "false")
    call(capsys, "upload", "archive", "--url", URL, "--config", "c.toml")
    assert wanted.destination.insecure is False


def test_an_empty_variable_counts_as_unset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted
) -> None:
    """An empty variable counts as unset, as containers and service units set it."""
    for flag in SAMPLES:
        monkeypatch.setenv(f"BULKSTOW_{flag.upper().replace('-', '_')}", "")
    assert call(capsys, "upload", "archive", "--url", URL).err == ""
    assert upload_values(wanted) == upload_defaults() | {"url": URL}


def test_an_empty_key_counts_as_unset(capsys: pytest.CaptureFixture[str], wanted: Wanted) -> None:
    """An empty key counts as unset, but a mistyped key is an error with an empty value, too."""
    Path("c.toml").write_text("[upload]\n" + "".join(f"{flag} = ''\n" for flag in SAMPLES))
    assert call(capsys, "upload", "archive", "--url", URL, "--config", "c.toml").err == ""
    assert upload_values(wanted) == upload_defaults() | {"url": URL}
    Path("c.toml").write_text("[upload]\nretris = ''\n")
    assert 'no setting "retris"' in call(capsys, "upload", "archive", "--url", URL, "--config", "c.toml").err


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "after it"])
def test_the_file_may_be_named_anywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: Wanted, before: bool
) -> None:
    """--config may precede or follow the command, overrides BULKSTOW_CONFIG, and other tables are ignored."""
    Path("c.toml").write_text("[upload]\nretries = 9\n[serve]\nport = 1\n")
    Path("d.toml").write_text("[upload]\nretries = 7\n")
    words = ["upload", "archive", "--url", URL]
    monkeypatch.setenv("BULKSTOW_CONFIG", "d.toml")
    call(capsys, *words)
    assert wanted.job.settings.retries == 7
    call(capsys, *(["--config", "c.toml", *words] if before else [*words, "--config", "c.toml"]))
    assert wanted.job.settings.retries == 9
