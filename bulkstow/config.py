"""Settings as frozen, validated values with units.

Each setting is defined once, here: its name, type, unit, default, help and the evidence for the default. The command
line, the environment (`BULKSTOW_…`), the TOML file and the reference of all settings read this definition. A secret is
not a setting: settings name its source, so they can be printed, recorded and compared. Headers, which may hold a
secret, are left out when settings are printed.

This module opens no file and makes no connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cyclopts import Group, Parameter

from bulkstow.errors import ConfigurationError
from bulkstow.quantities import AUTO, EVERY_STUDY, require_positive
from bulkstow.setting_types import (
    Bandwidth,
    BatchBytes,
    BatchInstances,
    Concurrency,
    Count,
    Duration,
    GiveUpAfter,
    MinAge,
    OneShard,
    Patterns,
    Processes,
    Rate,
    RequestRate,
    SampleOfStudies,
    ShardLevel,
    SizeLimit,
    StudyDates,
    Switch,
    Words,
)
from bulkstow.wire.request_headers import has_header, parse_headers
from bulkstow.wire.server_profile import PROFILES, ServerProfile

ONE_LOGIN = "one login at a time; leave it out, or --user, --bearer-file, --bearer-command and BULKSTOW_BEARER"

READ_TIMEOUT_S = 300.0
"""Time limit for one read from storage.
A tape library takes minutes to fetch a file, a disk one to give up a bad sector, an NFS server three to restart."""

LOCAL_CLUSTER = "local"
"""The address of a cluster that bulkstow starts by itself."""

DESTINATION = Group("Destination", sort_key=1)
FILES = Group("Files and ledger", sort_key=2)
FILTERS = Group("Filters", sort_key=5)
BATCHES = Group("Batches and speed", sort_key=10)
VERIFICATION = Group("Verification", sort_key=3)
OUTPUT = Group("Output", sort_key=15)
PLAN = Group("Plan", sort_key=0)
LOGIN = Group("Login and connection", sort_key=20)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings:
    """A DICOMweb server and how to connect to it.

    Raises ConfigurationError for a URL, header or combination that cannot be used.
    """

    url: Annotated[str, Parameter(show_default=False, group=DESTINATION)] = ""
    """DICOMweb root of the server; instances are posted to URL/studies."""
    header: Annotated[tuple[str, ...], Parameter(negative="", show_default=False, group=DESTINATION)] = field(
        default=(), repr=False
    )
    """Request header 'Name: value'; may be repeated. Other users of this machine see it in the process list."""
    header_file: Annotated[Path | None, Parameter(group=DESTINATION)] = None
    """File with one request header 'Name: value' per line, for secrets such as API keys."""
    no_preflight: Annotated[Switch, Parameter(group=DESTINATION)] = False
    """Only connect at the start, without checking that a DICOMweb service answers and accepts the login."""
    server_profile: Annotated[Literal["default", "orthanc"], Parameter(group=DESTINATION)] = "default"
    """Kind of server: 'default' suits every server; 'orthanc' deletes by Orthanc's own interface, and records files
    sent in spite of a conflict as 'unconfirmed', as Orthanc keeps the first one."""
    trust_status: Annotated[Switch, Parameter(group=DESTINATION)] = False
    """Count instances as stored if a 2xx response lists none, for servers that respond with an empty body."""
    user: Annotated[str | None, Parameter(group=LOGIN)] = None
    """User for Basic login; the password comes from BULKSTOW_PASSWORD or --password-file."""
    password_file: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """File with the password in its first line."""
    bearer_file: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """File with a bearer token in its first line, read again before a JWT expires and after a 401. BULKSTOW_BEARER
    holds a fixed token."""
    bearer_command: Annotated[str | None, Parameter(group=LOGIN)] = None
    """Command that prints a bearer token, run again before a JWT expires and after a 401."""
    ca_file: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """Certificates (PEM) to trust instead of the system's."""
    client_cert: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """Client certificate (PEM)."""
    client_key: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """Private key (PEM) of the client certificate, if it is not in the same file."""
    insecure: Annotated[Switch, Parameter(group=LOGIN)] = False
    """Do not verify the server's certificate."""
    # Orthanc takes three times as long for a chunked part of 400 MB.
    chunked: Annotated[Switch, Parameter(group=LOGIN)] = False
    """Send bodies chunked, without a Content-Length; some servers are slower with that."""
    quote_boundary: Annotated[Switch, Parameter(group=LOGIN)] = False
    """Quote the multipart boundary, for servers that require it."""
    # A SYN lost twice is sent again after 3 s and 7 s.
    connect_timeout_s: Annotated[Duration, Parameter(name="--connect-timeout", group=LOGIN)] = 10.0
    """Time limit for establishing a connection."""
    stall_timeout_s: Annotated[Duration, Parameter(name="--stall-timeout", group=LOGIN)] = 60.0
    """Time within which the server must accept some bytes of a body; slow progress is no failure."""
    response_timeout_s: Annotated[Duration, Parameter(name="--response-timeout", group=LOGIN)] = 120.0
    """Time to wait for the response after the body is sent; 1 s is added per MiB and per ten instances of the batch."""

    def __post_init__(self) -> None:
        if not self.url:
            raise ConfigurationError(
                "--url is missing: give the DICOMweb root, such as http://localhost:8042/dicom-web"
            )
        try:
            parts = urlsplit(self.url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is not a number, brackets around an invalid address
            is_usable = False
        if "@" in self.url.partition("//")[2].partition("/")[0]:
            raise ConfigurationError("--url holds a user or password, which would be seen: use --user")
        if not is_usable:
            raise ConfigurationError(f"--url {self.url!r}: expected http://HOST/ROOT or https://HOST/ROOT")
        if parts.query or parts.fragment:
            shown = self.url.partition("#")[0].partition("?")[0]  # the rest may be a token
            raise ConfigurationError(f"--url {shown!r}…: STOW-RS takes no query (PS3.18 §10.5.1); leave out ?… and #…")
        has_authorization = has_header(self.headers, "Authorization")
        logins = [self.user, self.bearer_file, self.bearer_command]
        if sum(login is not None for login in logins) > 1:
            raise ConfigurationError("--user, --bearer-file and --bearer-command: one login at a time")
        if has_authorization and any(login is not None for login in logins):
            raise ConfigurationError(f"--header Authorization: {ONE_LOGIN}")
        if self.client_key and not self.client_cert:
            raise ConfigurationError("--client-key without --client-cert")
        require_positive("--connect-timeout", self.connect_timeout_s)
        require_positive("--stall-timeout", self.stall_timeout_s)
        require_positive("--response-timeout", self.response_timeout_s)

    @property
    def root(self) -> str:
        """The DICOMweb root without a slash at its end; a URL that names /studies itself is understood."""
        parts = urlsplit(self.url)
        return parts._replace(path=parts.path.rstrip("/").removesuffix("/studies").rstrip("/")).geturl()

    @property
    def profile(self) -> ServerProfile:
        """What is peculiar to the kind of server."""
        return PROFILES[self.server_profile]

    @property
    def headers(self) -> dict[str, str]:
        """The user's headers by name."""
        return parse_headers(self.header, "--header")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """How an archive is sent.

    Raises ConfigurationError for a number out of its range.
    """

    ledger: Annotated[Path, Parameter(group=FILES)] = Path("bulkstow.db")
    """Ledger with the outcome of every file; a run with the ledger of an earlier run sends only what is left."""
    retry_failed: Annotated[Switch, Parameter(group=FILES)] = False
    """Send again what an earlier run recorded as refused, and compare again what it recorded as a conflict."""
    on_conflict: Annotated[Literal["report", "send", "newest"], Parameter(group=FILES)] = "report"
    """Files with the same SOP Instance UID but different content: 'report' sends the first and reports the others;
    'send' sends each, one after the other, and lets the server decide; 'newest' sends only the one modified last."""
    accept_missing_preamble: Annotated[Switch, Parameter(group=FILES)] = False
    """Also send files without the 128-byte preamble and 'DICM'."""
    skip_truncated: Annotated[Switch, Parameter(group=FILES)] = False
    """Do not send files that end before their last element; they are unreadable. Every file is read that far."""
    follow_links: Annotated[Switch, Parameter(group=FILES)] = False
    """Also follow symbolic links to directories and to files outside the sources."""
    digest: Annotated[Literal["none", "sha256"], Parameter(group=FILES)] = "none"
    """Digest of each file that is sent, for the ledger; every file is then read twice, the first time to be hashed."""
    allow_empty: Annotated[Switch, Parameter(group=FILES)] = False
    """Accept a source without any file; by default that is a failure, as a share may not be mounted."""
    shard: Annotated[OneShard, Parameter(group=FILES)] = None
    """Send only shard K of N of the sources, such as 3/16: a part that is the same in every run. Each shard needs its
    own --ledger."""
    # By the directory above a file's, studies of STUDY/IM, STUDY/SERIES/IM and PATIENT/STUDY/SERIES/IM stay whole.
    shard_level: Annotated[ShardLevel, Parameter(group=FILES)] = "auto"
    """What is in one shard as a whole: with 'auto' the directory above the one that holds a file, with a number the
    first so many directories below the source, with 'file' only the file."""
    concurrency: Annotated[Concurrency, Parameter(group=BATCHES)] = AUTO
    """Concurrent requests: 'auto' (1 to 32), a number, or bounds such as 2-32 within which the best number is found."""
    per_study: Annotated[Count, Parameter(group=BATCHES)] = 4
    """Concurrent requests of one study; its first request is sent alone, because databases race on a new study."""
    batch_bytes: Annotated[BatchBytes, Parameter(group=BATCHES)] = "auto"
    """Size of a request: 'auto' (256 KiB to 64 MiB, so that it takes about 3 s at most), a size or 'unlimited'. A
    larger file is sent alone."""
    batch_instances: Annotated[BatchInstances, Parameter(group=BATCHES)] = "auto"
    """Instances in a request: 'auto' (1 to 1000, likewise), a number or 'unlimited'."""
    affinity: Annotated[Literal["study", "none"], Parameter(group=BATCHES)] = "study"
    """Keep the instances of a study together in requests and let small studies share one, or batch files as found."""
    processes: Annotated[Processes, Parameter(group=BATCHES)] = "auto"
    """Processes of this computer: 'auto' (this one, and more that send for it while the processor limits the run and
    they help), or a number, this one included."""
    dask: Annotated[str | None, Parameter(group=BATCHES)] = None
    """Address of a Dask scheduler, such as tcp://head:8786: its workers, which need the same files, send for this
    process. 'local' starts a worker for each processor, or one less than --processes, and ends them with the run."""
    read_concurrency: Annotated[Count, Parameter(group=BATCHES)] = 8
    """Files that each process reads concurrently."""
    read_timeout_s: Annotated[Duration, Parameter(name="--read-timeout", group=BATCHES)] = READ_TIMEOUT_S
    """Time limit for one read from storage; after it the file is unreadable, and the run continues."""
    bandwidth: Annotated[Bandwidth, Parameter(group=BATCHES)] = None
    """Bytes of bodies per second, such as 50MiB/s or 400Mbit/s; by local time of day: 08:00-18:00=10MiB/s,100MiB/s."""
    requests_per_s: Annotated[RequestRate, Parameter(name="--requests-per-second", group=BATCHES)] = None
    """Requests started per second, queries included, such as 20 or 0.5."""
    retries: Annotated[Count, Parameter(group=BATCHES)] = 4
    """Retries of an instance after requests without a response; a rejection for load (429, 503) does not count."""
    give_up_after_s: Annotated[GiveUpAfter, Parameter(name="--give-up-after", group=BATCHES)] = None
    """Stop with exit status 3 after the server has been unreachable or full for this time, or 'never'."""
    progress: Annotated[Literal["auto", "bar", "log", "none"], Parameter(group=OUTPUT)] = "auto"
    """Progress on standard error: bars, a line every 30 s, none, or 'auto': bars on a terminal and lines elsewhere."""
    log: Annotated[Path | None, Parameter(group=OUTPUT)] = None
    """File to which a line is appended for each request, failure, retry, outage and change of limits."""
    log_format: Annotated[Literal["text", "json"], Parameter(group=OUTPUT)] = "text"
    """Format of the log's lines."""
    summary: Annotated[str | None, Parameter(allow_leading_hyphen=True, group=OUTPUT)] = None
    """File for the run's figures as one JSON object, or '-' for standard output."""

    def __post_init__(self) -> None:
        require_positive("--per-study", self.per_study)
        require_positive("--read-concurrency", self.read_concurrency)
        require_positive("--read-timeout", self.read_timeout_s)
        for name, limit in (
            ("--batch-bytes", self.batch_bytes),
            ("--batch-instances", self.batch_instances),
            ("--processes", self.processes),
            ("--requests-per-second", self.requests_per_s),
            ("--give-up-after", self.give_up_after_s),
        ):
            if limit is not None and limit != "auto":
                require_positive(name, limit)
        if isinstance(self.shard_level, int):
            require_positive("--shard-level", self.shard_level)
        if self.dask is not None:
            self._check_dask(self.dask)
        if self.retries < 0:
            raise ConfigurationError(f"--retries {self.retries}: expected 0 or more")

    def _check_dask(self, address: str) -> None:
        scheme, separator, host = address.partition("://")
        if address != LOCAL_CLUSTER and not (scheme and separator and host):
            raise ConfigurationError(f"--dask {address!r}: expected tcp://HOST:PORT, tls://HOST:PORT or 'local'")
        if self.processes == 1 or (self.processes != "auto" and address != LOCAL_CLUSTER):
            raise ConfigurationError(
                f"--processes {self.processes}: with --dask {address}, the workers send; leave it out"
            )


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSettings:
    """Filters: a file is selected if all of them let it pass.

    Raises ConfigurationError for a number out of its range.
    """

    include: Annotated[Patterns, Parameter(group=FILTERS)] = ()
    """Select only files that match a pattern such as '*.dcm' or 'CT/**'; may be repeated."""
    exclude: Annotated[Patterns, Parameter(group=FILTERS)] = ()
    """Leave out files, and directories with everything below them, that match a pattern such as '.snapshot'; may be
    repeated."""
    modality: Annotated[Words, Parameter(group=FILTERS)] = None
    """Select only instances of these modalities, such as CT,MR; 'none' is an instance without one."""
    study_date: Annotated[StudyDates, Parameter(group=FILTERS)] = None
    """Select only instances with a study date in a span such as 2020-01-01..2022-12-31, 2020.. or ..2022-06, or 'none'
    for instances without a valid date; several with commas."""
    sop_class: Annotated[Words, Parameter(group=FILTERS)] = None
    """Select only instances of these SOP classes, by UID or by a name such as CTImageStorage."""
    studies: Annotated[Path | None, Parameter(group=FILTERS)] = None
    """File with one Study Instance UID per line, comments after #: select only instances of these studies."""
    min_age_s: Annotated[MinAge, Parameter(name="--min-age", group=FILTERS)] = None
    """Leave out files modified within this time, such as 10m, because they may still be written; or 'any'."""
    max_size_bytes: Annotated[SizeLimit, Parameter(name="--max-size", group=FILTERS)] = None
    """Leave out files that are larger."""

    def __post_init__(self) -> None:
        if self.min_age_s is not None:
            require_positive("--min-age", self.min_age_s)
        if self.max_size_bytes is not None:
            require_positive("--max-size", self.max_size_bytes)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """The output of a plan, beside the settings of the planned upload."""

    format: Annotated[Literal["table", "json"], Parameter(group=PLAN)] = "table"
    """Form of the plan: a table or one JSON object."""
    list_to: Annotated[str | None, Parameter(name="--list", allow_leading_hyphen=True, group=PLAN)] = None
    """File for the names of the files to send, one per line as --files-from reads them, or '-' for standard output."""
    order: Annotated[Literal["scan", "newest"], Parameter(group=PLAN)] = "scan"
    """Order of --list: as found, or the newest study first, and studies without a date last."""
    digest_list: Annotated[Path | None, Parameter(group=PLAN)] = None
    """File for the digests of the files to send, as sha256sum writes and checks them; needs --digest sha256."""
    rate: Annotated[Rate, Parameter(group=PLAN)] = None
    """Bytes per second for the forecast, such as 50MiB/s; by default the rate of the latest upload in the ledger."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSettings:
    """The settings of a verification: level, sample, repeated looks and repair.

    Raises ConfigurationError for a time out of its range.
    """

    level: Annotated[Literal["counts", "instances", "content"], Parameter(group=VERIFICATION)] = "instances"
    """The comparison for each study: the number of its instances (one query), the list of its instances, or also their
    content, which is retrieved and compared with the files."""
    sample: Annotated[SampleOfStudies, Parameter(group=VERIFICATION)] = EVERY_STUDY
    """Studies to verify: 'all', a number such as 500, or a share such as 1%, chosen at random."""
    seed: Annotated[str, Parameter(group=VERIFICATION)] = "bulkstow"
    """Seed of the sample: the same seed chooses the same studies."""
    # A commit interval of Elasticsearch or Lucene behind QIDO-RS is 1 to 30 s.
    settle_s: Annotated[Duration, Parameter(name="--settle", group=VERIFICATION)] = 30.0
    """Time that the server gets to index an instance, from the first query on, before it counts as missing."""
    repair: Annotated[Switch, Parameter(group=VERIFICATION)] = False
    """Send the missing instances, and verify their studies again."""

    def __post_init__(self) -> None:
        if self.settle_s < 0:
            raise ConfigurationError(f"--settle {self.settle_s:g}: expected 0 or more")
        if self.repair and self.level == "counts":
            raise ConfigurationError("--repair with --level counts: counts do not tell which instances are missing")
