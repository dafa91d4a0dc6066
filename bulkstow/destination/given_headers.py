"""The user's headers for every request, from --header and --header-file.

Reads the file; `wire.request_headers` decides which headers may be set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bulkstow.config import DestinationSettings
from bulkstow.destination.masking import secrets_of_headers
from bulkstow.errors import ConfigurationError
from bulkstow.wire.request_headers import has_header, parse_headers


@dataclass(frozen=True, slots=True, repr=False)
class GivenHeaders:
    """The user's headers by name, and the secrets in them."""

    by_name: dict[str, str]
    secrets: frozenset[str]


def read_headers(settings: DestinationSettings) -> GivenHeaders:
    """Return the headers of --header and --header-file; all values of the file are secret.

    Blocks on the file. Raises ConfigurationError for a file that cannot be read or contains no header, and for a
    header that may not be set or is in both.
    """
    given = settings.headers
    from_file = {} if settings.header_file is None else _read(settings.header_file)
    for name in from_file:
        if has_header(given, name):
            raise ConfigurationError(f"--header {name}: --header-file has it too; leave out one of them")
    secrets = secrets_of_headers(given) | secrets_of_headers(from_file, all_values=True)
    return GivenHeaders(given | from_file, frozenset(secrets))


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigurationError(f"--header-file {path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--header-file {path}: cannot be read (not UTF-8)") from None
    headers = parse_headers([line for line in lines if line.strip()], f"--header-file {path}, header")
    if not headers:
        raise ConfigurationError(f"--header-file {path}: holds no header; expected 'Name: value' a line")
    return headers
