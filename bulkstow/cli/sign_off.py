"""Writes the page for the sign-off of a migration, and the tables that belong to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bulkstow import __version__
from bulkstow.cli.files import check_writable, write_whole, writing_whole
from bulkstow.ledger import LedgerReader
from bulkstow.printing import shown
from bulkstow.report.aggregate import Aggregate
from bulkstow.report.fields import FILE_COLUMNS, STUDY_COLUMNS, Fields, file_fields, study_fields
from bulkstow.report.history import history_of
from bulkstow.report.page import Attachment, SignOff, html
from bulkstow.report.writing import write_csv


def write_sign_off(ledgers: Sequence[Path], page: Path) -> int:
    """Write the page and its tables, and print their names with the SHA-256 of each table."""
    check_writable("--html", page)
    studies, files = (page.with_name(f"{page.stem}-{kind}.csv") for kind in ("studies", "files"))
    with LedgerReader(ledgers) as reader, Aggregate() as counts:

        def counted_files() -> Iterator[Fields]:
            for entry in reader.entries():
                counts.add(entry)
                yield file_fields(entry)

        of_files = _attach(files, "every file", FILE_COLUMNS, counted_files())
        of_studies = _attach(
            studies, "every study, and the files of no known study", STUDY_COLUMNS, map(study_fields, counts.by_study())
        )
        facts = SignOff(
            counts=counts,
            history=history_of(reader.runs()),
            attachments=(of_studies, of_files),
            ledgers=tuple(str(path) for path in ledgers),
            instances=reader.count_instances(),
            shared_instances=reader.count_shared_instances() if len(ledgers) > 1 else 0,
            version=__version__,
            written_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
        write_whole("--html", page, html(facts))
    print(f"the page: {shown(str(page))}")
    print(f"the table of studies: {shown(str(studies))} (SHA-256 {of_studies.sha256})")
    print(f"the table of files: {shown(str(files))} (SHA-256 {of_files.sha256})")
    return 0


def _attach(path: Path, content: str, columns: Sequence[str], rows: Iterable[Fields]) -> Attachment:
    """Write a table of a page, and return its figures."""
    count = 0

    def counted_rows() -> Iterator[Fields]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    with writing_whole("--html", path) as file:
        write_csv(columns, counted_rows(), file)
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
        return Attachment(path.name, content, count, os.fstat(written.fileno()).st_size, digest)
