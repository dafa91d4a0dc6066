"""Writes the files that list all settings, from the settings' definitions: `python -m tests.settings_reference`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bulkstow.cli.config import example, settings_of
from bulkstow.cli.origins import variable_of

ROOT = Path(__file__).parents[1]
REGENERATE = "python -m tests.settings_reference"

_TABLE = re.compile(r"(<!-- settings of (\w+):[^>]*-->\n).*?(<!-- end of settings -->)", re.DOTALL)


def markdown_table(command: str) -> str:
    """Return the settings of a command as a table for the README; false and empty defaults are left out."""
    rows = []
    for setting in settings_of(command):
        default = "" if setting.default in ("false", "true", "[]") else json.loads(setting.default)
        meaning = setting.help.replace("|", r"\|")
        rows.append(f"| `{setting.flag}` | `{variable_of(setting.flag)}` | {default} | {meaning} |")
    return "\n".join(["", "| flag | environment variable | default | meaning |", "|---|---|---|---|", *rows, "", ""])


def expected() -> dict[Path, str]:
    """Return the text that each file should have."""
    readme = ROOT / "README.md"
    text, count = _TABLE.subn(lambda match: match[1] + markdown_table(match[2]) + match[3], readme.read_text("utf-8"))
    assert count == 1, "README.md has no place for the settings"
    return {ROOT / "config.example.toml": example(), readme: text}


if __name__ == "__main__":
    for path, text in expected().items():
        path.write_text(text, encoding="utf-8")
