"""Settings as frozen, validated values with units.

Each setting is defined once, here: its name, type, unit, default, help and the evidence for the default. The command
line, the environment (`BULKSTOW_…`) and the TOML file all read this definition. A secret is no setting: settings
name where a secret comes from, so they can be printed, recorded and compared. What a user puts into --header all the
same is left out when they are printed.

This module opens no file and makes no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from cyclopts import Group, Parameter, Token

from bulkstow.errors import ConfigurationError
from bulkstow.quantities import (
    AUTO,
    Span,
    Timetable,
    parse_duration_s,
    parse_per_second,
    parse_size_bytes,
    parse_span,
    parse_timetable,
    require_positive,
    show_duration,
    show_size,
)
from bulkstow.wire.request_headers import has_header, parse_headers


def written_as(
    parse: Callable[[str], object],
    metavar: str,
    *,
    show: Callable[[Any], str | None] = str,
    words: Mapping[str, object] | None = None,
) -> Parameter:
    """Return how a setting is written: as text for `parse`, or as one of some words with a value of their own.

    `show` turns a value back into text that `parse` takes; None where there is nothing to show.
    """
    values = words or {}
    texts = {value: word for word, value in values.items()}

    def convert(_type: object, tokens: Sequence[Token]) -> object:
        text = ",".join(token.value for token in tokens)  # a list in the TOML file has several
        return values[text] if text in values else parse(text)

    return Parameter(
        converter=convert,
        show_default=lambda value: texts[value] if value in texts else show(value),
        show_choices=False,
        n_tokens=1,
        accepts_keys=False,
        negative="",
        metavar=metavar,
    )


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


UNLIMITED: dict[str, object] = {"unlimited": None}
AUTOMATIC: dict[str, object] = {"auto": "auto"}
Automatic = Literal["auto"]
"""bulkstow finds the best value while it runs."""

Size = Annotated[int, written_as(parse_size_bytes, "SIZE", show=show_size)]
SizeLimit = Annotated[int | None, written_as(parse_size_bytes, "SIZE", show=show_size, words=UNLIMITED)]
BatchBytes = Annotated[
    int | Automatic | None, written_as(parse_size_bytes, "SIZE", show=show_size, words=UNLIMITED | AUTOMATIC)
]
Count = Annotated[int, written_as(_whole_number, "INT")]
CountLimit = Annotated[int | None, written_as(_whole_number, "INT", words=UNLIMITED)]
BatchInstances = Annotated[int | Automatic | None, written_as(_whole_number, "INT", words=UNLIMITED | AUTOMATIC)]
Duration = Annotated[float, written_as(parse_duration_s, "TIME", show=show_duration)]
GiveUpAfter = Annotated[float | None, written_as(parse_duration_s, "TIME", show=show_duration, words={"never": None})]
Concurrency = Annotated[Span, written_as(parse_span, "SPAN")]
Bandwidth = Annotated[Timetable | None, written_as(parse_timetable, "RATE", words=UNLIMITED)]
RequestRate = Annotated[float | None, written_as(parse_per_second, "NUMBER", words=UNLIMITED)]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]

ONE_LOGIN = "one login at a time; leave it out, or --user, --bearer-file, --bearer-command and BULKSTOW_BEARER"

READ_TIMEOUT_S = 300.0
"""How long one read may take. A tape library takes minutes to fetch a file; a disk gives up a bad sector within one,
and an NFS server that restarts is back within three."""

LOGIN = Group("Login and connection", sort_key=20)
BATCHES = Group("Batches and speed", sort_key=10)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings:
    """A DICOMweb server, and how to talk to it.

    Raises ConfigurationError for a URL, header or combination that cannot be used.
    """

    url: Annotated[str, Parameter(show_default=False)] = ""
    """The DICOMweb root; instances are posted to URL/studies."""
    header: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = field(default=(), repr=False)
    """A request header 'Name: value'; may be repeated. Other users of this machine see it in the process list."""
    header_file: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """File with a request header 'Name: value' a line, for secrets."""
    user: Annotated[str | None, Parameter(group=LOGIN)] = None
    """User for Basic login; the password comes from BULKSTOW_PASSWORD or --password-file."""
    password_file: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """File whose first line is the password."""
    bearer_file: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """File whose first line is a bearer token (or set BULKSTOW_BEARER); read again when the server says 401."""
    bearer_command: Annotated[str | None, Parameter(group=LOGIN)] = None
    """Command that prints a bearer token; run again when the server says 401."""
    ca_file: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """Certificates (PEM) to trust instead of the system's."""
    client_cert: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """Client certificate (PEM)."""
    client_key: Annotated[Path | None, Parameter(group=LOGIN)] = None
    """Its private key (PEM), where it is not in the same file."""
    insecure: Annotated[Switch, Parameter(group=LOGIN)] = False
    """Do not verify the server's certificate."""
    chunked: Annotated[Switch, Parameter(group=LOGIN)] = False
    """Send chunked, without a Content-Length (slower: Orthanc takes three times as long for a 400 MB part)."""
    quote_boundary: Annotated[Switch, Parameter(group=LOGIN)] = False
    """Put the multipart boundary in quotes."""
    connect_timeout_s: Annotated[Duration, Parameter(name="--connect-timeout", group=LOGIN)] = 10.0
    """Time for a connection to stand; a SYN lost twice is sent again after 3 s and 7 s."""
    stall_timeout_s: Annotated[Duration, Parameter(name="--stall-timeout", group=LOGIN)] = 60.0
    """Time in which the server must take some bytes; slow is fine, nothing is not."""
    response_timeout_s: Annotated[Duration, Parameter(name="--response-timeout", group=LOGIN)] = 120.0
    """Time for the answer once the body is sent; a second is added for each MiB and each ten instances of the batch."""
    no_preflight: Switch = False
    """Only connect at the start; do not check before the first file leaves that a DICOMweb service is there."""
    trust_status: Switch = False
    """Take a 2xx that lists nothing as stored, for servers that answer with an empty body."""

    def __post_init__(self) -> None:
        if not self.url:
            raise ConfigurationError(
                "--url is missing: give the DICOMweb root, such as http://localhost:8042/dicom-web"
            )
        try:
            parts = urlsplit(self.url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number, brackets around what is no address
            is_usable = False
        if "@" in self.url.partition("//")[2].partition("/")[0]:
            raise ConfigurationError("--url holds a user or password, which would be seen: use --user")
        if not is_usable:
            raise ConfigurationError(f"--url {self.url!r}: expected http://HOST/ROOT or https://HOST/ROOT")
        if parts.query or parts.fragment:
            shown = self.url.partition("#")[0].partition("?")[0]  # what follows may be a token
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
    def headers(self) -> dict[str, str]:
        """The user's headers by name."""
        return parse_headers(self.header, "--header")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """How an archive is sent.

    Raises ConfigurationError for a number out of its range.
    """

    ledger: Path = Path("bulkstow.db")
    """The journal of what became of every file; the same one again goes on where it stopped."""
    concurrency: Annotated[Concurrency, Parameter(group=BATCHES)] = AUTO
    """Requests under way at once: 'auto', a number, or bounds such as 2-32 within which the best is found."""
    per_study: Annotated[Count, Parameter(group=BATCHES)] = 4
    """Requests of one study under way at once; the first of a study always goes by itself."""
    batch_bytes: Annotated[BatchBytes, Parameter(group=BATCHES)] = "auto"
    """Size of a request, 'unlimited', or 'auto': so that it takes some 3 s at most; a larger file goes alone."""
    batch_instances: Annotated[BatchInstances, Parameter(group=BATCHES)] = "auto"
    """Instances in a request, 'unlimited', or 'auto', likewise."""
    affinity: Annotated[Literal["study", "none"], Parameter(group=BATCHES)] = "study"
    """Keep a study's instances together in requests, or take them as they come."""
    read_concurrency: Annotated[Count, Parameter(group=BATCHES)] = 8
    """Files read at once."""
    read_timeout_s: Annotated[Duration, Parameter(name="--read-timeout", group=BATCHES)] = READ_TIMEOUT_S
    """Time for the storage to answer one read; after it the file is unreadable, and the rest goes on."""
    bandwidth: Annotated[Bandwidth, Parameter(group=BATCHES)] = None
    """Bytes of bodies a second, such as 50MiB/s or 400Mbit/s; by local time: 08:00-18:00=10MiB/s,100MiB/s."""
    requests_per_s: Annotated[RequestRate, Parameter(name="--requests-per-second", group=BATCHES)] = None
    """Requests begun a second, questions included, such as 20 or 0.5."""
    retries: Count = 4
    """Times that an instance is sent again after a request without an answer."""
    give_up_after_s: Annotated[GiveUpAfter, Parameter(name="--give-up-after")] = None
    """Stop with status 3 when the server has been gone or full for so long, or 'never'."""
    retry_failed: Switch = False
    """Send again what an earlier run found refused, and compare again what it found in conflict."""
    on_conflict: Literal["report", "send", "newest"] = "report"
    """Of files with one SOP Instance UID but different content: send the first and report the others; send each, one
    after the other, and let the server decide; or send only the one modified last."""
    accept_missing_preamble: Switch = False
    """Send files without the 128-byte preamble and DICM too."""
    skip_truncated: Switch = False
    """Do not send files that end before their last element does; each is read to its end, and counts as a failure."""
    follow_links: Switch = False
    """Follow symbolic links to directories, and to files outside the sources, too."""
    allow_empty: Switch = False
    """Accept a source without any file; otherwise that is a failure, as when a share is not mounted."""
    progress: Literal["auto", "bar", "log", "none"] = "auto"
    """What to show on standard error: bars on a terminal, else a line every 30 s."""
    log: Path | None = None
    """File to which a line is added for each request, failure, retry, outage and change of limits."""
    log_format: Literal["text", "json"] = "text"
    """Lines of words, or JSON objects."""
    summary: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """Write the run's figures as one JSON object to this file, or '-' for standard output."""

    def __post_init__(self) -> None:
        require_positive("--per-study", self.per_study)
        require_positive("--read-concurrency", self.read_concurrency)
        require_positive("--read-timeout", self.read_timeout_s)
        for name, limit in (
            ("--batch-bytes", self.batch_bytes),
            ("--batch-instances", self.batch_instances),
            ("--requests-per-second", self.requests_per_s),
            ("--give-up-after", self.give_up_after_s),
        ):
            if limit is not None and limit != "auto":
                require_positive(name, limit)
        if self.retries < 0:
            raise ConfigurationError(f"--retries {self.retries}: expected 0 or more")
