"""Settings of sources: archives, object stores, other DICOMweb servers, file sets, edits, and watched directories.

They are defined as those of `config`: once, for flag, environment, TOML file and documentation.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from bulkstow.errors import ConfigurationError
from bulkstow.quantities import require_positive
from bulkstow.setting_types import NOTHING, AfterStoring, AutomaticCount, Bandwidth, Duration, Size, Switch
from bulkstow.wire.request_headers import parse_headers

SOURCE = Group("Source", sort_key=4)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """How sources are read that are not plain files.

    Raises ConfigurationError for a number out of its range, and for more than one login.
    """

    archives: Annotated[Literal["yes", "no", "only"], Parameter(group=SOURCE)] = "yes"
    """Look into archives and compressed files (zip, tar, gzip, bzip2, xz, zstd): 'only' leaves out files outside of
    them; with 'no' they count as unreadable."""
    # 32 requests of 64 MiB.
    spool_bytes: Annotated[Size, Parameter(group=SOURCE)] = 2 * 2**30
    """Room for content that cannot be sent from where it is, until it is stored; a part of it is in memory."""
    spool_directory: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """Directory for that content; by default the system's directory for temporary files."""
    dicomdir: Annotated[Switch, Parameter(group=SOURCE)] = False
    """Send the files that the DICOMDIR of each source references, and report missing and unreferenced ones."""
    edit: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """TOML file with edits of attributes of the sent instances; the files are not changed."""
    source_anonymous: Annotated[Switch, Parameter(group=SOURCE)] = False
    """Read a public bucket without a login."""
    source_endpoint: Annotated[str | None, Parameter(group=SOURCE)] = None
    """URL of the object store, such as http://minio:9000."""
    source_region: Annotated[str | None, Parameter(group=SOURCE)] = None
    """Region of the bucket."""
    source_user: Annotated[str | None, Parameter(group=SOURCE)] = None
    """User for Basic login at the source; the password comes from BULKSTOW_SOURCE_PASSWORD or its file."""
    source_password_file: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """File with the source's password in its first line."""
    source_bearer_file: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """File with the source's bearer token in its first line. BULKSTOW_SOURCE_BEARER holds a fixed token."""
    source_bearer_command: Annotated[str | None, Parameter(group=SOURCE)] = None
    """Command that prints the source's bearer token."""
    source_header: Annotated[tuple[str, ...], Parameter(negative="", show_default=False, group=SOURCE)] = field(
        default=(), repr=False
    )
    """Request header 'Name: value' for the source; may be repeated."""
    source_header_file: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """File with one request header per line for the source."""
    source_ca_file: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """Certificates (PEM) to trust at the source instead of the system's."""
    source_client_cert: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """Client certificate (PEM) for the source."""
    source_client_key: Annotated[Path | None, Parameter(group=SOURCE)] = None
    """Private key (PEM) of that certificate, if it is not in the same file."""
    source_insecure: Annotated[Switch, Parameter(group=SOURCE)] = False
    """Do not verify the source's certificate."""
    source_concurrency: Annotated[AutomaticCount, Parameter(group=SOURCE)] = "auto"
    """Concurrent requests to the source; with 'auto' 32 to an object store, 8 to another DICOMweb server."""
    source_bandwidth: Annotated[Bandwidth, Parameter(group=SOURCE)] = None
    """Bytes per second that are read from there, in the notation of --bandwidth."""

    def __post_init__(self) -> None:
        require_positive("--spool-bytes", self.spool_bytes)
        if self.source_concurrency != "auto":
            require_positive("--source-concurrency", self.source_concurrency)
        logins = [self.source_user, self.source_bearer_file, self.source_bearer_command]
        if sum(login is not None for login in logins) > 1:
            raise ConfigurationError("--source-user, --source-bearer-file and --source-bearer-command: one at a time")
        if self.source_client_key and not self.source_client_cert:
            raise ConfigurationError("--source-client-key without --source-client-cert")
        parse_headers(self.source_header, "--source-header")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """Actions of an upload after it has sent the files: wait for new ones, and move or delete those that are stored.

    Raises ConfigurationError for a time out of its range.
    """

    watch: Annotated[Switch, Parameter(group=SOURCE)] = False
    """Keep running, and send new and changed files once they have not changed for --min-age, by default for 10s."""
    # A scan of 20,000 settled files takes 0.25 s; however many there are, scans take a tenth of the time at most.
    rescan_s: Annotated[Duration, Parameter(name="--rescan", group=SOURCE)] = 60.0
    """With --watch, interval of the scans for changes that the system has not reported, as on network file systems."""
    after_stored: Annotated[AfterStoring, Parameter(group=SOURCE)] = NOTHING
    """Action for a file whose instance is stored: 'nothing', 'move DIR', or 'delete', once a query has found the
    instance on the server."""

    def __post_init__(self) -> None:
        require_positive("--rescan", self.rescan_s)

    @property
    def moved_to(self) -> frozenset[str]:
        """The paths of the directory to which files are moved, if there is one; a scan leaves it out."""
        directory = self.after_stored.directory
        return (
            frozenset(spell(directory) for spell in (os.path.abspath, os.path.realpath)) if directory else frozenset()
        )
