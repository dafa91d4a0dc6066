"""An upload job: source, destination and settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings
from bulkstow.destination.auth import Auth
from bulkstow.engine.names import absolute_name
from bulkstow.errors import ConfigurationError
from bulkstow.ports import Destination, Source
from bulkstow.source_settings import SourceSettings, WatchSettings


@dataclass(frozen=True, slots=True)
class Job:
    """The source, destination and settings of an upload.

    Raises ConfigurationError for a shard of a source that is an object, and for a cluster that would need an object.
    """

    source: tuple[str, ...] | Source
    """Paths of files and directories, or an object that yields instances."""
    destination: DestinationSettings | Destination
    """A DICOMweb server, or an object that sends; the caller opens and closes such an object."""
    settings: UploadSettings
    files_from: str | None = None
    """File with one more path a line, '-' for standard input."""
    null_separated: bool = False
    auth: Auth | None = None
    """The login at a DICOMweb server, instead of that of its settings."""
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    """Filters: which files of the source are sent."""
    source_settings: SourceSettings = field(default_factory=SourceSettings)
    """How archives and other sources than files are read."""
    watch: WatchSettings = field(default_factory=WatchSettings)
    """The actions after the files are sent."""

    def __post_init__(self) -> None:
        if self.settings.shard is not None and not isinstance(self.source, tuple):
            raise ConfigurationError(f"--shard {self.settings.shard}: a Source chooses its instances by itself")
        is_object = not isinstance(self.destination, DestinationSettings) or self.auth is not None
        if self.settings.dask is not None and (is_object or not isinstance(self.source, tuple)):
            raise ConfigurationError(
                f"--dask {self.settings.dask}: workers can be given paths, a URL and the logins of settings, no objects"
            )

    @property
    def destination_name(self) -> str:
        """The name in ledger and summary."""
        return self.destination.root if isinstance(self.destination, DestinationSettings) else self.destination.name

    @property
    def source_fields(self) -> dict[str, object]:
        """The source for the ledger, with absolute paths."""
        if not isinstance(self.source, tuple):
            return {"source": self.source_names}
        return {"source": [absolute_name(name) for name in self.source], "files_from": self.files_from}

    @property
    def source_names(self) -> list[str]:
        """The names for the log."""
        return list(self.source) if isinstance(self.source, tuple) else [type(self.source).__qualname__]
