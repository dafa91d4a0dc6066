"""The exceptions of bulkstow, with the exit status of each.

An instance that cannot be stored is a value (`model.FileResult`), never an exception. An exception either stops the
run, or is caught in the package that raised it:

    BulkstowError
    ├── ConfigurationError       a setting, a file or an argument is wrong             exit 2
    ├── RunStopped               an error that no retry fixes                          exit 3
    │   ├── LoginRefused         401 after a fresh token, or 403
    │   ├── DestinationRefused   no server, wrong URL, redirect, TLS not trusted, not a STOW-RS service
    │   ├── StorageGone          so many reads hang that no thread is left to read anything
    │   └── LedgerError          the ledger cannot be opened, is in use, is of another schema, the disk is full
    ├── InstanceChanged          a source cannot give the bytes that its scan found; caught by the destination
    ├── SpoolError               the spool cannot take an instance; caught by the source
    │   └── SpoolExceeded        it has no room, and will not have any
    └── WireError                malformed bytes; always caught inside the program
        ├── HeadError            not an instance that can be stored
        │   └── DamagedHead      it may be an instance, or contain some, but cannot be sent
        ├── MultipartError       a request body that is not multipart/related
        └── StoreResponseError   a response body that is not a Store Instances Response
"""

INTERRUPTED = 130
"""Exit status of a command that a signal ended early: 128 + SIGINT, the convention of shells."""


class BulkstowError(Exception):
    """The base class; the text of every exception is one line for the user."""

    exit_status = 1


class ConfigurationError(BulkstowError):
    """A setting, a file or an argument is wrong; the text says which, and what was expected."""

    exit_status = 2


class RunStopped(BulkstowError):
    """The run cannot go on, and a retry would not fix the cause."""

    exit_status = 3


class LoginRefused(RunStopped):
    """The destination does not accept the credentials."""


class DestinationRefused(RunStopped):
    """The destination cannot be reached, or is not a STOW-RS service."""


class StorageGone(RunStopped):
    """The storage of the files does not respond."""


class LedgerError(RunStopped):
    """The ledger cannot be read or written, so no outcome could be recorded."""


class InstanceChanged(BulkstowError):
    """An instance cannot be read as the scan found it; the text is the reason for the report."""


class SpoolError(BulkstowError):
    """The spool cannot take an instance; the text is the reason for the report."""


class SpoolExceeded(SpoolError):
    """The spool has no room for an instance, and will not have any."""


class WireError(BulkstowError):
    """Bytes are malformed."""


class HeadError(WireError):
    """The file is not an instance that can be stored; the text is the reason for the report."""


class DamagedHead(HeadError):
    """The file may be an instance, or contain some, but cannot be sent, so it counts as a failure."""


class MultipartError(WireError):
    """A body is not well-formed multipart/related."""


class StoreResponseError(WireError):
    """A body is not a Store Instances Response in JSON or XML."""


def first_of(error: BaseException) -> BaseException:
    """Return the first exception of a group; return any other exception unchanged."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
