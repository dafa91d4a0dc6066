"""The part of an archive that the last uploads did not examine; its files are not in a ledger's report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from bulkstow.ledger import RunRecord
from bulkstow.quantities import counted
from bulkstow.report.history import has_finished

SHOWN_SOURCES = 5
"""Sources without a file that are named, as in the closing text of a run."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of the archive that is not in the report."""

    title: str
    words: str
    is_wanted: bool = False
    """The user chose it, by filters."""


def gaps(last_uploads: Sequence[RunRecord]) -> list[Gap]:
    """Return the gaps in the report, from the last upload of each ledger to each destination."""
    by_destination = groupby(sorted(last_uploads, key=attrgetter("destination")), key=attrgetter("destination"))
    return [gap for url, uploads in by_destination for gap in _gaps(url, list(uploads))]


def _gaps(url: str, uploads: Sequence[RunRecord]) -> Iterator[Gap]:
    if not all(upload.command for upload in uploads):
        yield Gap(
            "The end of the last upload is not known",
            f"The last upload to {url} was made with an older bulkstow, or its ledger was recovered: whether it "
            "finished, and which files it left out, is not known.",
        )
    if not all(has_finished(upload) for upload in uploads if upload.command):
        yield Gap(
            "The last upload did not finish",
            f"The last upload to {url} was interrupted, stopped or killed, or is still running: files that it did not "
            "reach are not in this report.",
        )
    if empty := [source for upload in uploads for source in (upload.summary or {}).get("empty_sources", ())]:
        more = f" and {len(empty) - SHOWN_SOURCES:,} more" if len(empty) > SHOWN_SOURCES else ""
        yield Gap(
            "A source had no files",
            f"The last upload to {url} found no file in {', '.join(empty[:SHOWN_SOURCES])}{more}: perhaps it was not "
            "mounted.",
        )
    if missing := _missing_shards(uploads):
        yield Gap(
            "Shards are missing",
            f"The ledgers of this report are of a part of the sources: files of {missing} were not sent to {url} with "
            "them.",
        )
    if left_out := _left_out(uploads):
        yield Gap(
            "Filters left out files",
            f"The last upload to {url} left out {left_out}. Only those that an earlier upload has sent are in this "
            "report.",
            is_wanted=True,
        )


def _missing_shards(uploads: Sequence[RunRecord]) -> str:
    """Return the shards that no ledger has, in words; nothing if an upload was of all of them."""
    shards = {upload.settings.get("shard") for upload in uploads}
    if None in shards:
        return ""
    count = max(int(str(shard).partition("/")[2]) for shard in shards)
    return f"{counted(count - len(shards), 'shard')} of {count:,}" if len(shards) < count else ""


def _left_out(uploads: Sequence[RunRecord]) -> str:
    """Return the files and directories that filters left out, in words; "" if there are none."""
    summaries = [upload.summary or {} for upload in uploads]
    files: Counter[str] = Counter()
    for summary in summaries:
        files.update(summary.get("left_out", {}))
    directories = sum(summary.get("pruned_directories", 0) for summary in summaries)
    by_filter = ", ".join(f"{count:,} by --{name}" for name, count in files.most_common())
    words = (
        f"{counted(files.total(), 'file')} ({by_filter})" if files.total() else "",
        f"{counted(directories, 'directory', 'directories')} (by --exclude)" if directories else "",
    )
    return " and ".join(filter(None, words))
