"""Bulk uploads of DICOM files to DICOMweb servers.

    summary = await bulkstow.upload(["/archive"], url="http://localhost:8042/dicom-web")

The command line is `bulkstow`; see the README.
"""

from __future__ import annotations

from bulkstow.errors import (
    BulkstowError,
    ConfigurationError,
    DestinationRefused,
    LedgerError,
    LoginRefused,
    RunStopped,
    StorageGone,
)

TYPE_CHECKING = False  # the command line imports this package first, and a Ctrl-C may come at once: see `cli`
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from bulkstow.model import Outcome, Summary

__all__ = [
    "BulkstowError",
    "ConfigurationError",
    "DestinationRefused",
    "LedgerError",
    "LoginRefused",
    "Outcome",
    "RunStopped",
    "StorageGone",
    "Summary",
    "upload",
]


def __getattr__(name: str) -> object:
    """Import the values of `model` when they are first asked for (PEP 562)."""
    if name not in ("Outcome", "Summary"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bulkstow import model

    return getattr(model, name)


def __dir__() -> list[str]:
    return __all__


async def upload(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    url: str,
    headers: Mapping[str, str] | None = None,
    ledger: str | os.PathLike[str] = "bulkstow.db",
    concurrency: int | str = "auto",
    batch_bytes: int | Literal["auto"] | None = "auto",
    batch_instances: int | Literal["auto"] | None = "auto",
    retries: int = 4,
    retry_failed: bool = False,
    on_conflict: Literal["report", "send", "newest"] = "report",
    accept_missing_preamble: bool = False,
    skip_truncated: bool = False,
    follow_links: bool = False,
    allow_empty: bool = False,
    trust_status: bool = False,
    ca_file: str | os.PathLike[str] | None = None,
    insecure: bool = False,
) -> Summary:
    """Send files and directories to a DICOMweb server and return the figures of the run.

    What became of each file is in `ledger` (`bulkstow report`); run again with it, only what has no final success is
    sent. `concurrency` is 'auto', a number, or bounds such as '2-32'; `batch_bytes` and `batch_instances` bound a
    request: 'auto' finds what takes some seconds at most, None is unlimited. Nothing is printed and no signal is
    handled. An instance that fails is counted, not raised, and a source without any file is named in
    `Summary.empty_sources`, unless `allow_empty`. `on_conflict` decides which of several files with one SOP Instance
    UID is sent. Raises ConfigurationError for an argument that cannot be used or a source that is not there, and
    RunStopped (LoginRefused, DestinationRefused, LedgerError) for an error that no retry fixes. Protocol: PS3.18
    §10.5.
    """
    import os
    from pathlib import Path

    from bulkstow.config import DestinationSettings, UploadSettings
    from bulkstow.engine.job import Job
    from bulkstow.engine.local import run
    from bulkstow.progress.display import display
    from bulkstow.progress.tally import Tally
    from bulkstow.quantities import parse_span

    try:
        span = parse_span(str(concurrency))
    except ValueError as error:
        raise ConfigurationError(f"concurrency: {error}") from None
    listed = [sources] if isinstance(sources, str | os.PathLike) else sources
    job = Job(
        sources=tuple(os.fspath(source) for source in listed),
        destination=DestinationSettings(
            url=url,
            header=tuple(f"{name}: {value}" for name, value in (headers or {}).items()),
            trust_status=trust_status,
            ca_file=None if ca_file is None else Path(ca_file),
            insecure=insecure,
        ),
        settings=UploadSettings(
            ledger=Path(ledger),
            concurrency=span,
            batch_bytes=batch_bytes,
            batch_instances=batch_instances,
            retries=retries,
            retry_failed=retry_failed,
            on_conflict=on_conflict,
            accept_missing_preamble=accept_missing_preamble,
            skip_truncated=skip_truncated,
            follow_links=follow_links,
            allow_empty=allow_empty,
        ),
    )
    return await run(job, Tally(), display("none"), heed_signals=False)
