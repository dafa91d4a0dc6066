"""The reference of all settings: complete, true, and the same in the files of the repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bulkstow.bench.settings import BenchSettings
from bulkstow.cli.app import app, read_settings_from
from bulkstow.cli.config import TABLES, example, own_settings_of, settings_of
from bulkstow.config import PlanSettings, SelectionSettings, UploadSettings, VerificationSettings
from bulkstow.source_settings import SourceSettings, WatchSettings
from tests.cli.settings import URL, bench_defaults, plan_defaults, serve_defaults, upload_defaults, verify_own_defaults
from tests.settings_reference import REGENERATE, ROOT, expected, markdown_table

WORDS = {
    "upload": ["upload", "archive", "--url", URL],
    "plan": ["plan", "archive"],
    "verify": ["verify", "--url", URL],
    "bench": ["bench", "--url", URL],
    "serve": ["serve"],
}
DEFAULTS: dict[str, dict[str, object]] = {
    "upload": {
        "settings": UploadSettings(),
        "selection": SelectionSettings(),
        "source": SourceSettings(),
        "watch": WatchSettings(),
    },
    "plan": {"plan_settings": PlanSettings()},
    "verify": {
        "settings": UploadSettings(),
        "selection": SelectionSettings(),
        "source": SourceSettings(),
        "verification": VerificationSettings(),
    },
    "bench": {"settings": BenchSettings()},
    "serve": {},
}
"""The settings with all defaults, by the command's parameter for them."""
KEYS = [(table, setting.key) for table in TABLES for setting in own_settings_of(table)]


@pytest.mark.parametrize("path", expected(), ids=lambda path: path.name)
def test_the_files_list_the_settings_as_they_are(path: Path) -> None:
    """The README's table and the example are equal to the generated ones."""
    assert path.read_text(encoding="utf-8") == expected()[path], f"settings have changed; run: {REGENERATE}"


@pytest.mark.parametrize(
    ("table", "defaults"),
    [
        ("upload", upload_defaults()),
        ("plan", plan_defaults()),
        ("verify", verify_own_defaults()),
        ("bench", bench_defaults()),
        ("serve", serve_defaults()),
    ],
)
def test_the_example_shows_every_setting(table: str, defaults: dict[str, object]) -> None:
    """Each flag is a key of its command's table, there is no other key, and the whole file is valid TOML."""
    whole = tomllib.loads(re.sub(r"^# (?=[a-z-]+ = )", "", example(), flags=re.MULTILINE))
    assert whole[table].keys() == defaults.keys()
    assert tuple(whole) == TABLES
    assert tomllib.loads(example()) == {table: {} for table in TABLES}


def bound(table: str, text: str) -> dict[str, object]:
    """Return the settings of a command with a file of this text."""
    Path("bulkstow.toml").write_text(text, encoding="utf-8")
    read_settings_from(Path("bulkstow.toml"))
    _, bound, _ = app.parse_args(WORDS[table], exit_on_error=False, print_error=False)
    bound.apply_defaults()
    given = {name: value for name, value in bound.arguments.items() if value is not None}
    return DEFAULTS[table] | given


@pytest.mark.parametrize(("table", "key"), KEYS, ids=" ".join)
def test_a_key_with_the_default_shown_changes_nothing(monkeypatch: pytest.MonkeyPatch, table: str, key: str) -> None:
    """Removing the # before a key keeps all settings as they are."""
    monkeypatch.setattr(app, "config", app.config)
    before, heading, rest = example().partition(f"[{table}]\n")
    uncommented, count = re.subn(rf"^# ({key} = )", r"\1", rest, count=1, flags=re.MULTILINE)
    assert count == 1
    assert bound(table, before + heading + uncommented) == bound(table, "")


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_has_help_of_a_few_lines(table: str) -> None:
    """One to three sentences; longer explanations are in the README."""
    assert [setting.flag for setting in settings_of(table) if not 10 < len(setting.help) < 300] == []


def test_the_example_is_the_same_in_every_locale() -> None:
    """TOML is UTF-8, and standard output has the encoding of the locale: both agree on ASCII."""
    assert example().isascii()


@pytest.mark.parametrize("table", TABLES)
def test_a_row_has_four_cells(table: str) -> None:
    """No help text breaks the README's table."""
    rows = markdown_table(table).strip().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


def test_the_command_to_regenerate_is_named_where_the_table_is() -> None:
    """The comment beside the table says how to change it."""
    assert f"<!-- settings of upload: written by `{REGENERATE}` -->" in (ROOT / "README.md").read_text(encoding="utf-8")
