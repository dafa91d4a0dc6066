"""Finds where the data set of a file begins, and how it is encoded, from the file's first bytes."""

from __future__ import annotations

from dataclasses import dataclass

from bulkstow.wire.elements import EXPLICIT, ElementReader, Syntax
from bulkstow.wire.part10 import DEFLATED, META_AT, TRANSFER_SYNTAX, has_magic
from bulkstow.wire.steps import MemoryWindow, Problem, run
from bulkstow.wire.tolerant_reader import announced_syntax, read_meta


@dataclass(frozen=True, slots=True)
class DataSetStart:
    """The beginning of a file's data set."""

    offset: int
    transfer_syntax_uid: str
    """As the file meta information names it; empty if the file has none."""
    syntax: Syntax
    """The encoding of the elements, after inflating them if the transfer syntax is deflated."""
    is_file: bool
    """The file has the preamble and the prefix of a DICOM file (PS3.10 §7.1)."""

    @property
    def is_deflated(self) -> bool:
        """The data set is compressed as a whole (PS3.5 §A.5)."""
        return self.transfer_syntax_uid in DEFLATED


def find_data_set(head: bytes) -> DataSetStart | None:
    """Return where the data set begins in a file that begins with `head`; None if these bytes do not show it.

    A file without preamble begins with its file meta information or its data set.
    """
    is_file = has_magic(head)
    at = META_AT if is_file else 0
    window = MemoryWindow(head)
    meta = run(read_meta(at, len(head)), window)
    if meta.problem or meta.end_at >= len(head):
        return None
    transfer_syntax_uid = meta.uids.get(TRANSFER_SYNTAX, "")
    if transfer_syntax_uid in DEFLATED:
        return DataSetStart(meta.end_at, transfer_syntax_uid, EXPLICIT, is_file)
    reader = ElementReader(len(head))
    try:
        syntax = run(reader.syntax_at(meta.end_at, announced_syntax(transfer_syntax_uid)), window)
    except Problem:
        return None
    return DataSetStart(meta.end_at, transfer_syntax_uid, syntax, is_file)
