"""The filters of a run, from their settings, a file of Study Instance UIDs, and the names of SOP classes."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.config import SelectionSettings
from bulkstow.errors import ConfigurationError
from bulkstow.policy.globs import globs
from bulkstow.policy.selection import Selection
from bulkstow.wire.uids import is_uid

ABSENT = "none"
"""The word for instances without a modality."""


async def read_selection(
    settings: SelectionSettings, sources: Iterable[str], threads: Executor, limit: ReadLimit
) -> Selection:
    """Return the filters; `sources` are the absolute paths of the files and directories that the user named.

    Raises ConfigurationError for a value that cannot be used, and for a file of studies that cannot be read.
    """
    roots = frozenset(sources)
    return Selection(
        exclude=globs("--exclude", settings.exclude, roots),
        include=globs("--include", settings.include, roots),
        max_size_bytes=settings.max_size_bytes,
        min_age_ns=None if settings.min_age_s is None else round(settings.min_age_s * 1e9),
        studies=None if settings.studies is None else await _read_studies(settings.studies, threads, limit),
        modalities=frozenset("" if word == ABSENT else word.upper() for word in settings.modality or ()),
        study_dates=settings.study_date,
        sop_classes=frozenset(map(sop_class_uid, settings.sop_class or ())),
    )


def sop_class_uid(word: str) -> str:
    """Return the UID of a SOP class; raises ConfigurationError for a name that PS3.6 does not have."""
    if is_uid(word):
        return word
    import pydicom.uid

    uid = getattr(pydicom.uid, word, None)
    if not isinstance(uid, pydicom.uid.UID) or uid.type != "SOP Class":
        raise ConfigurationError(f"--sop-class {word}: expected a UID, or a keyword of PS3.6 such as CTImageStorage")
    return str(uid)


async def _read_studies(path: Path, threads: Executor, limit: ReadLimit) -> frozenset[str]:
    def on_timeout(_path: Path, why: str) -> frozenset[str]:
        raise ConfigurationError(f"--studies {path}: cannot be read ({why})")

    (studies,) = [
        found async for several in map_in_threads(read_studies, [path], on_timeout, threads, limit) for found in several
    ]
    return studies


def read_studies(path: Path) -> frozenset[str]:
    """Return the Study Instance UIDs in a file: one per line, with blank lines and comments after #.

    Raises ConfigurationError for a file that cannot be read, has another line or no UID.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise ConfigurationError(f"--studies {path}: cannot be read ({error.strerror or error})") from error
    studies = set()
    for number, line in enumerate(lines, 1):
        uid = line.partition("#")[0].strip()
        if uid and not is_uid(uid):
            raise ConfigurationError(f"--studies {path}: line {number}, {uid[:70]!r}, is no Study Instance UID")
        studies.add(uid)
    if not studies.difference({""}):
        raise ConfigurationError(f"--studies {path}: has no Study Instance UID; expected one per line")
    return frozenset(studies - {""})
