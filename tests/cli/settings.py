"""All settings for tests: a sample value for each, the defaults, and the settings of a command line."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from bulkstow.bench.settings import BenchSettings
from bulkstow.cli.accept import accept
from bulkstow.cli.bench import measure
from bulkstow.cli.body import body
from bulkstow.cli.config import config
from bulkstow.cli.demo import demo
from bulkstow.cli.forget import forget
from bulkstow.cli.plan import plan
from bulkstow.cli.report import report
from bulkstow.cli.serve import serve
from bulkstow.cli.upload import upload
from bulkstow.cli.verify import verify
from bulkstow.config import DestinationSettings, PlanSettings, SelectionSettings, UploadSettings, VerificationSettings
from bulkstow.days import Days
from bulkstow.engine.job import Job
from bulkstow.engine.plan import PlanJob
from bulkstow.quantities import Hours, Shard, Span, Timetable
from bulkstow.setting_types import AfterStored
from bulkstow.source_settings import SourceSettings, WatchSettings

URL = "http://pacs.example/dicom-web"
COMMANDS: dict[str, Callable[..., int]] = {
    "upload": upload,
    "plan": plan,
    "verify": verify,
    "report": report,
    "forget": forget,
    "accept": accept,
    "bench": measure,
    "demo": demo,
    "serve": serve,
    "body": body,
    "config": config,
}

PATTERNS = ("*.dcm", "CT/**")
HEADERS = ("X-One: 1 and more", "X-Two: 2")

SAMPLES: dict[str, tuple[str, object]] = {
    # flag: what to write, what comes of it; each another value than the default
    "url": ("https://elsewhere.example/rs", "https://elsewhere.example/rs"),
    "header": ("\n".join(HEADERS), HEADERS),
    "header-file": ("headers", Path("headers")),
    "user": ("ada", "ada"),
    "password-file": ("word", Path("word")),
    "bearer-file": ("token", Path("token")),
    "bearer-command": ("print a token", "print a token"),
    "ca-file": ("ca.pem", Path("ca.pem")),
    "client-cert": ("me.pem", Path("me.pem")),
    "client-key": ("key.pem", Path("key.pem")),
    "insecure": ("true", True),
    "chunked": ("true", True),
    "quote-boundary": ("true", True),
    "connect-timeout": ("500ms", 0.5),
    "stall-timeout": ("5m", 300.0),
    "response-timeout": ("2h", 7200.0),
    "no-preflight": ("true", True),
    "server-profile": ("orthanc", "orthanc"),
    "trust-status": ("true", True),
    "ledger": ("other.db", Path("other.db")),
    "concurrency": ("2-17", Span(2, 17)),
    "per-study": ("2", 2),
    "processes": ("3", 3),
    "dask": ("local", "local"),
    "batch-bytes": ("64MiB", 64 * 2**20),
    "batch-instances": ("unlimited", None),
    "affinity": ("none", "none"),
    "read-concurrency": ("3", 3),
    "bandwidth": (
        "08:00-18:00=10MiB/s,400Mbit/s",
        Timetable((Hours(8 * 3600, 18 * 3600, 10 * 2**20),), 50_000_000),
    ),
    "requests-per-second": ("0.5", 0.5),
    "retries": ("0", 0),
    "give-up-after": ("30s", 30.0),
    "retry-failed": ("true", True),
    "on-conflict": ("newest", "newest"),
    "digest": ("sha256", "sha256"),
    "accept-missing-preamble": ("true", True),
    "skip-truncated": ("true", True),
    "follow-links": ("true", True),
    "read-timeout": ("30s", 30.0),
    "allow-empty": ("true", True),
    "shard": ("3/16", Shard(3, 16)),
    "shard-level": ("2", 2),
    "include": ("\n".join(PATTERNS), PATTERNS),
    "exclude": ("\n".join(PATTERNS), PATTERNS),
    "modality": ("CT,MR", ("CT", "MR")),
    "study-date": ("2020..2022-06,none", Days((("20200000", "20220699"), ("", "")))),
    "sop-class": ("CTImageStorage,1.2.3", ("CTImageStorage", "1.2.3")),
    "studies": ("studies", Path("studies")),
    "min-age": ("10m", 600.0),
    "max-size": ("2GiB", 2**31),
    "archives": ("only", "only"),
    "spool-bytes": ("64MiB", 64 * 2**20),
    "spool-directory": ("/scratch", Path("/scratch")),
    "dicomdir": ("true", True),
    "edit": ("edits.toml", Path("edits.toml")),
    "source-anonymous": ("true", True),
    "source-endpoint": ("http://minio.example:9000", "http://minio.example:9000"),
    "source-region": ("eu-central-1", "eu-central-1"),
    "source-user": ("ida", "ida"),
    "source-password-file": ("word", Path("word")),
    "source-bearer-file": ("token", Path("token")),
    "source-bearer-command": ("print a token", "print a token"),
    "source-header": ("\n".join(HEADERS), HEADERS),
    "source-header-file": ("headers", Path("headers")),
    "source-ca-file": ("ca.pem", Path("ca.pem")),
    "source-client-cert": ("me.pem", Path("me.pem")),
    "source-client-key": ("key.pem", Path("key.pem")),
    "source-insecure": ("true", True),
    "source-concurrency": ("3", 3),
    "source-bandwidth": ("400Mbit/s", Timetable((), 50_000_000)),
    "watch": ("true", True),
    "rescan": ("5m", 300.0),
    "after-stored": ("move /sent", AfterStored("move", "/sent")),
    "progress": ("log", "log"),
    "log": ("run.log", Path("run.log")),
    "log-format": ("json", "json"),
    "summary": ("figures.json", "figures.json"),
    "files-from": ("list", "list"),
    "null": ("true", True),
    "dry-run": ("true", True),
}
OTHERS = {
    "url": "https://third.example/",
    "header": "X-Three: 3",
    "source-header": "X-Three: 3",
    "include": "*.ima",
    "exclude": "*.ima",
    "modality": "CR",
    "study-date": "2019",
    "sop-class": "1.2.4",
    "affinity": "study",
    "server-profile": "default",
    "on-conflict": "send",
    "digest": "none",
    "progress": "bar",
    "log-format": "text",
    "bandwidth": "5MB/s",
    "archives": "no",
    "source-bandwidth": "5MB/s",
    "after-stored": "delete",
    "shard": "1/2",
    "dask": "tcp://head:8786",
}
"""A second value for settings whose sample cannot be varied."""
REPEATED = ("header", "source-header", "include", "exclude")
"""Settings that may be given several times."""
IN_COMPANY = {
    "client-key": ("--client-cert", "me.pem"),
    "source-client-key": ("--source-client-cert", "me.pem"),
}
"""Other settings that a setting requires."""


def flag_of(name: str, hint: object) -> str:
    """Return the flag of a field, without its dashes: its given name, or that of the field."""
    if get_origin(hint) is Annotated:
        for note in get_args(hint)[1:]:
            if isinstance(note, Parameter) and note.name:
                return next(iter(note.name)).removeprefix("--")
    return name.replace("_", "-")


def defaults_of(*all_settings: type) -> dict[str, object]:
    """Return every flag of some settings with its default."""
    defaults: dict[str, object] = {}
    for settings in all_settings:
        hints = get_type_hints(settings, include_extras=True)
        defaults |= {flag_of(field.name, hints[field.name]): field.default for field in dataclasses.fields(settings)}
    return defaults


def values_of(*all_settings: object) -> dict[str, object]:
    """Return every flag of some settings with its value."""
    values: dict[str, object] = {}
    for settings in all_settings:
        hints = get_type_hints(type(settings), include_extras=True)
        values |= {flag_of(name, hints[name]): getattr(settings, name) for name in hints}
    return values


def upload_defaults() -> dict[str, object]:
    """Return every flag of `upload` with its default."""
    others = {"files-from": None, "null": False, "dry-run": False}
    return defaults_of(DestinationSettings, UploadSettings, SelectionSettings, SourceSettings, WatchSettings) | others


def watch_defaults() -> dict[str, object]:
    """Return every flag for the actions of an upload after it has sent the files, with its default."""
    return defaults_of(WatchSettings)


def upload_values(wanted: Wanted) -> dict[str, object]:
    """Return every flag of `upload` with its value."""
    job = wanted.job
    others = {"files-from": job.files_from, "null": job.null_separated, "dry-run": wanted.is_dry_run}
    watch = job.watch if isinstance(job, Job) else WatchSettings()
    return values_of(job.destination, job.settings, job.selection, job.source_settings, watch) | others


def plan_defaults() -> dict[str, object]:
    """Return every flag of `plan` that `upload` does not have, with its default."""
    return defaults_of(PlanSettings)


def verify_defaults() -> dict[str, object]:
    """Return every flag of `verify` with its default."""
    every = defaults_of(DestinationSettings, UploadSettings, SelectionSettings, SourceSettings, VerificationSettings)
    return every | {"format": "table", "files-from": None, "null": False}


def verify_own_defaults() -> dict[str, object]:
    """Return every flag of `verify` that `upload` does not have, with its default."""
    return defaults_of(VerificationSettings) | {"format": "table"}


def bench_defaults() -> dict[str, object]:
    """Return every flag of `bench` with its default."""
    return defaults_of(DestinationSettings, BenchSettings)


class Wanted:
    """A replacement for `upload`'s work that keeps the job."""

    job: Job | PlanJob
    is_dry_run = False

    def __call__(self, job: Job) -> int:
        """Keep the job."""
        self.job, self.is_dry_run = job, False
        return 0

    def plan(self, job: PlanJob) -> int:
        """Keep the job of a dry run."""
        self.job, self.is_dry_run = job, True
        return 0

    @property
    def destination(self) -> DestinationSettings:
        """The settings of the server."""
        assert isinstance(self.job.destination, DestinationSettings)
        return self.job.destination


def serve_defaults() -> dict[str, object]:
    """Return every flag of `serve` with its default."""
    parameters = inspect.signature(serve).parameters.values()
    return {parameter.name.replace("_", "-"): parameter.default for parameter in parameters}


def as_flags(flag: str, text: str) -> list[str]:
    """Return the words that set a setting on the command line."""
    if SAMPLES[flag][1] is True:
        return [f"--{flag}"] if text == "true" else []
    return [word for line in text.split("\n") for word in (f"--{flag}", line)]


def as_toml(flag: str, text: str) -> str:
    """Return the line that sets a setting in a file."""
    if flag in REPEATED:
        return f"{flag} = {text.splitlines()}"
    return f"{flag} = {text if text in ('true', 'false') or text.isdigit() else repr(text)}"
