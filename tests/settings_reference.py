"""Writes the files that list all settings, from the settings' definitions: `python -m tests.settings_reference`."""

from __future__ import annotations

import re
from pathlib import Path

from bulkstow.cli.settings_reference import example, markdown_table

ROOT = Path(__file__).parents[1]
REGENERATE = "python -m tests.settings_reference"

_TABLE = re.compile(r"(<!-- settings of (\w+):[^>]*-->\n).*?(<!-- end of settings -->)", re.DOTALL)


def expected() -> dict[Path, str]:
    """Return the text that each file should have."""
    readme = ROOT / "README.md"
    text, count = _TABLE.subn(lambda match: match[1] + markdown_table(match[2]) + match[3], readme.read_text("utf-8"))
    assert count == 1, "README.md has no place for the settings"
    return {ROOT / "config.example.toml": example(), readme: text}


if __name__ == "__main__":
    for path, text in expected().items():
        path.write_text(text, encoding="utf-8")
