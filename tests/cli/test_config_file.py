"""Claims about the configuration file's name: where it may stand, and what is left of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkstow.cli.config_file import VARIABLE, take_config
from bulkstow.errors import ConfigurationError

NAMES = [
    ("upload archive", {}, None, "upload archive"),
    ("--config a.toml upload archive", {}, "a.toml", "upload archive"),
    ("upload --config a.toml archive", {}, "a.toml", "upload archive"),
    ("upload archive --config=a.toml", {}, "a.toml", "upload archive"),
    ("upload --log x --config=a=b.toml", {}, "a=b.toml", "upload --log x"),
    ("upload --config= archive", {}, "", "upload archive"),
    ("upload archive", {VARIABLE: "b.toml"}, "b.toml", "upload archive"),
    ("--config a.toml upload archive", {VARIABLE: "b.toml"}, "a.toml", "upload archive"),
    ("upload archive", {VARIABLE: ""}, None, "upload archive"),
    ("upload -- --config a.toml", {}, None, "upload -- --config a.toml"),
    ("upload --config a.toml -- --config b.toml", {}, "a.toml", "upload -- --config b.toml"),
    ("upload --config-file a.toml", {}, None, "upload --config-file a.toml"),
]


@pytest.mark.parametrize(("words", "environment", "name", "rest"), NAMES)
def test_the_file_is_named_anywhere_before_the_end_of_flags(
    words: str, environment: dict[str, str], name: str | None, rest: str
) -> None:
    """The flag is taken out of the command line and overrides the variable; an empty variable counts as unset."""
    assert take_config(words.split(), environment) == (None if name is None else Path(name), rest.split())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("upload archive --config", "--config requires an argument"),
        ("upload --config --url http://localhost/", "--config requires an argument"),
        ("upload --config --", "--config requires an argument"),
        ("--config a.toml upload --config=b.toml", "--config is given 2 times"),
    ],
)
def test_a_flag_without_one_name_is_refused(words: str, reason: str) -> None:
    """A missing name and a second one are errors, even if a variable names a file."""
    with pytest.raises(ConfigurationError, match=reason):
        take_config(words.split(), {VARIABLE: "c.toml"})
