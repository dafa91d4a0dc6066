"""The choice of a ledger's rows on the command line."""

from __future__ import annotations

from bulkstow.errors import ConfigurationError
from bulkstow.model import Outcome


def outcomes_named(text: str) -> list[Outcome]:
    """Return the outcomes in a list with commas. Raises ConfigurationError for another word."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in list(Outcome):
            raise ConfigurationError(f"--outcome {word!r}: expected some of {', '.join(Outcome)}")
    return [Outcome(word) for word in words]
