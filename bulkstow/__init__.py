"""Bulk uploads of DICOM files to DICOMweb servers.

    summary = await bulkstow.upload("/archive", "http://localhost:8042/dicom-web")

The command line is `bulkstow`; see the README.
"""

from __future__ import annotations

from bulkstow.errors import (
    BulkstowError,
    ConfigurationError,
    DamagedHead,
    DestinationRefused,
    HeadError,
    InstanceChanged,
    LedgerError,
    LoginRefused,
    RunStopped,
    StorageGone,
)

__version__ = "0.1.0"

TYPE_CHECKING = False  # the command line imports this package first, and a Ctrl-C may come at once: see `cli`
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings
    from bulkstow.days import parse_days
    from bulkstow.destination.auth import Auth, AuthRequest
    from bulkstow.model import Candidate, Header, Instance, Outcome, Summary
    from bulkstow.ports import Destination, FileRange, Source
    from bulkstow.quantities import Shard, Span

__all__ = [
    "Auth",
    "AuthRequest",
    "BulkstowError",
    "Candidate",
    "ConfigurationError",
    "DamagedHead",
    "Destination",
    "DestinationRefused",
    "DestinationSettings",
    "FileRange",
    "HeadError",
    "Header",
    "Instance",
    "InstanceChanged",
    "LedgerError",
    "LoginRefused",
    "Outcome",
    "RunStopped",
    "SelectionSettings",
    "Shard",
    "Source",
    "Span",
    "StorageGone",
    "Summary",
    "UploadSettings",
    "parse_days",
    "upload",
]

_MODULES = {
    "Auth": "bulkstow.destination.auth",
    "AuthRequest": "bulkstow.destination.auth",
    "Candidate": "bulkstow.model",
    "Destination": "bulkstow.ports",
    "DestinationSettings": "bulkstow.config",
    "FileRange": "bulkstow.ports",
    "Header": "bulkstow.model",
    "Instance": "bulkstow.model",
    "Outcome": "bulkstow.model",
    "SelectionSettings": "bulkstow.config",
    "Shard": "bulkstow.quantities",
    "Source": "bulkstow.ports",
    "Span": "bulkstow.quantities",
    "Summary": "bulkstow.model",
    "UploadSettings": "bulkstow.config",
    "parse_days": "bulkstow.days",
}
"""The modules of names that are imported when they are first used."""


def __getattr__(name: str) -> object:
    """Import a name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__


async def upload(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Source,
    destination: str | DestinationSettings | Destination,
    settings: UploadSettings | None = None,
    *,
    selection: SelectionSettings | None = None,
    auth: Auth | None = None,
) -> Summary:
    """Send the instances of a source to a destination and return the figures of the run.

    `source` is a file or directory, several of them, or a `Source`; `destination` is the URL of a DICOMweb server, the
    settings for one, or a `Destination`, which the caller opens and closes. `selection` has filters: without it every
    file is sent. `auth` logs in at a DICOMweb server. The ledger (`UploadSettings.ledger`) has the outcome of each
    file; a run with the ledger of an earlier run sends only files without a final success. Nothing is printed, and no
    signal is handled. An instance that fails is counted, not raised, and a source without any file is named in
    `Summary.empty_sources`. Raises ConfigurationError for an argument
    that cannot be used or a path that does not exist, and RunStopped (LoginRefused, DestinationRefused, LedgerError,
    StorageGone) for an error that no retry fixes.
    """
    import os

    from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings
    from bulkstow.engine.job import Job
    from bulkstow.engine.local import run
    from bulkstow.ports import Destination, Source
    from bulkstow.progress.display import display
    from bulkstow.progress.tally import Tally

    if isinstance(source, str | os.PathLike):
        source = [source]
    if not isinstance(source, Source):
        try:
            source = tuple(os.fsdecode(path) for path in source)
        except TypeError:
            raise ConfigurationError(
                f"source: expected paths or a subclass of bulkstow.Source, not {source!r}"
            ) from None
    if isinstance(destination, str):
        destination = DestinationSettings(url=destination)
    if isinstance(destination, type) or not isinstance(destination, DestinationSettings | Destination):
        raise ConfigurationError(
            f"destination: expected a URL, DestinationSettings or a bulkstow.Destination, not {destination!r}"
        )
    if settings is not None and not isinstance(settings, UploadSettings):
        raise ConfigurationError(f"settings: expected bulkstow.UploadSettings, not a {type(settings).__name__}")
    if selection is not None and not isinstance(selection, SelectionSettings):
        raise ConfigurationError(f"selection: expected bulkstow.SelectionSettings, not a {type(selection).__name__}")
    if auth is not None and not hasattr(auth, "authorize"):
        raise ConfigurationError(f"auth: expected the protocol bulkstow.Auth, not a {type(auth).__name__}")
    if auth is not None and not isinstance(destination, DestinationSettings):
        raise ConfigurationError("auth: only for a DICOMweb server; a Destination logs in by itself")
    job = Job(source, destination, settings or UploadSettings(), auth=auth, selection=selection or SelectionSettings())
    return await run(job, Tally(), display("none"), heed_signals=False)
