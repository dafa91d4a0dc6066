"""The exceptions of bulkstow, and which exit status each of them means.

An instance that cannot be stored is a value (`model.Outcome`), never an exception. What is raised here either
stops the run or stays inside the room that raised it:

    BulkstowError
    ├── ConfigurationError       a setting, a file or an argument is wrong             exit 2
    ├── RunStopped               what no retry mends                                   exit 3
    │   ├── LoginRefused         401 after a fresh token, or 403
    │   ├── DestinationRefused   no server, wrong URL, redirect, TLS not trusted, not a STOW-RS service
    │   ├── StorageGone          so many reads hang that no thread is left to read anything
    │   └── LedgerError          the ledger cannot be opened, is in use, is of another schema, the disk is full
    └── WireError                bytes that are not what they should be; never leaves the program
        ├── HeadError            not an instance that can be stored
        │   └── DamagedHead      it may be an instance, or hold some, and cannot be sent
        ├── MultipartError       a request body that is not multipart/related
        └── StoreResponseError   an answer that is not a Store Instances Response
"""

INTERRUPTED = 130
"""Exit status of a command that a signal ended early: 128 + SIGINT, as shells have it."""


class BulkstowError(Exception):
    """Anything that bulkstow raises on purpose; its text is one line for a person."""

    exit_status = 1


class ConfigurationError(BulkstowError):
    """A setting, a file or an argument is wrong; the text says which, and what was expected."""

    exit_status = 2


class RunStopped(BulkstowError):
    """The run cannot go on, and trying again would not mend it."""

    exit_status = 3


class LoginRefused(RunStopped):
    """The destination does not accept our credentials."""


class DestinationRefused(RunStopped):
    """The destination cannot be reached, or is no STOW-RS service."""


class StorageGone(RunStopped):
    """The storage of the files does not answer."""


class LedgerError(RunStopped):
    """The ledger cannot be trusted or written; sending on without it would be sending blind."""


class WireError(BulkstowError):
    """Bytes are not what they should be."""


class HeadError(WireError):
    """A file is not an instance that can be stored; the text is the reason that the report shows."""


class DamagedHead(HeadError):
    """The file may be an instance, or hold some, and cannot be sent: something may be lost here."""


class MultipartError(WireError):
    """A body is not well-formed multipart/related."""


class StoreResponseError(WireError):
    """A body is not a Store Instances Response in JSON or XML."""


def first_of(error: BaseException) -> BaseException:
    """Return the first exception in a group, and any other one as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
