"""`bulkstow config`: print an example of the configuration file."""

from __future__ import annotations

from bulkstow.cli.settings_reference import example


def config() -> int:
    """Print an example of the configuration file, with every setting and its default."""
    print(example(), end="")
    return 0
