"""The edits of a run, from the TOML file of `--edit` and the files that it names."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from importlib import import_module
from pathlib import Path

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.errors import ConfigurationError
from bulkstow.ports import Source
from bulkstow.wire.edit_rules import Edits

KEY_VARIABLE = "BULKSTOW_EDIT_KEY"
"""The variable with the key of new UIDs, if the file of the edits names no file with it."""


async def read_edits(path: Path, threads: Executor, limit: ReadLimit) -> Edits:
    """Return the edits in a file. Raises ConfigurationError if it cannot be read or understood."""

    def on_timeout(_path: Path, why: str) -> Edits:
        raise ConfigurationError(f"--edit {path}: cannot be read ({why})")

    read = partial(edits_in, environ=os.environ)
    (edits,) = [each async for several in map_in_threads(read, [path], on_timeout, threads, limit) for each in several]
    return edits


def edits_in(path: Path, environ: Mapping[str, str]) -> Edits:
    """Return the edits in a file, with a key from another file or the environment; relative names are beside it.

    Blocks. Raises ConfigurationError.
    """
    import csv
    import tomllib

    from bulkstow.wire.edit_file import parse_edits  # pydicom takes 0.2 s to import

    try:
        document = tomllib.loads(_read(path).decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"--edit {path}: {error}") from None

    def read_table(name: str) -> Sequence[Sequence[str]]:
        try:
            text = _read(path.parent / name).decode("utf-8-sig")
            return list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            raise ConfigurationError(f"--edit {path}: {name}: {why}") from None

    def read_key(name: str | None) -> bytes:
        if name is not None:
            return _read(path.parent / name).strip()
        if KEY_VARIABLE not in environ:
            raise ConfigurationError(f"--edit {path}: uids: no key: give a key_file, or set {KEY_VARIABLE}")
        return environ[KEY_VARIABLE].strip().encode()

    return parse_edits(document, f"--edit {path}", read_table, read_key)


def edited(source: Source, edits: Edits) -> Source:
    """Return the source with the edits."""
    # All of it, once: threads that import parts of pydicom at the same time see it partly initialised.
    for module in ("pydicom.charset", "pydicom.datadict", "pydicom.valuerep"):
        import_module(module)
    # pydicom would warn once for each odd value.
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    from bulkstow.source.edited import EditedSource

    return EditedSource(source, edits)


def at_source(source: Source) -> Source:
    """Return a source without its edits."""
    from bulkstow.source.edited import EditedSource

    return source.at_source if isinstance(source, EditedSource) else source


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--edit {path}: cannot be read ({error.strerror or error})") from None
