"""The choice of a shard: which of N parts of a source a file belongs to.

Each of N processes, which need not know each other, takes one part. A hash of some directory names below the source
decides, so the parts are disjoint and complete, and a file stays in its part in every run, on every machine and at
every mount point. Files with the same deciding names, a unit, stay together.

Names are hashed in Unicode's form NFC, because macOS shows them decomposed on some file systems, by Unicode 3.2; and by
the tables of that version, so that every Python has the same ones.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

from bulkstow.quantities import Shard

ShardLevel = int | Literal["auto", "file"]
"""Which names decide: the first so many directories below the source; with 'auto' all directories except the one that
holds the file, at least one; with 'file' all directories and the file's name."""

Names = tuple[str, ...]
"""Names of directories below a source, from the top."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """One shard of a source, and the names that decide."""

    shard: Shard
    level: ShardLevel = "auto"

    @property
    def root(self) -> Place:
        """The place of a source itself."""
        return self.place(())

    def listed(self, directory: str) -> Place:
        """Return the place of a directory in a list: it is one unit, by its name as it is written there."""
        return Place(self, (), owns_files=self.owns(_names_in(directory)), is_one_unit=True)

    def owns_listed(self, file: str) -> bool:
        """Return whether a file that is named itself belongs to the shard, by its name as it is written."""
        *directories, name = _names_in(file) or ("",)
        return self.place(tuple(directories)).owns_file(name)

    def place(self, names: Names) -> Place:
        """Return the place of the directory with these names below a source."""
        match self.level:
            case "auto":
                return Place(self, names, owns_files=self.owns(names[: max(1, len(names) - 1)]), is_one_unit=False)
            case "file":
                return Place(self, names, owns_files=False, is_one_unit=False)
            case level:
                return Place(self, names, owns_files=self.owns(names[:level]), is_one_unit=len(names) >= level)

    def owns(self, names: Names) -> bool:
        """Return whether the unit with these names belongs to the shard."""
        text = unicodedata.ucd_3_2_0.normalize("NFC", "/".join(names))
        digest = blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) % self.shard.count == self.shard.number - 1


@dataclass(frozen=True, slots=True)
class Place:
    """A directory, and the part of it that belongs to a shard."""

    sharding: Sharding
    names: Names
    owns_files: bool
    """The files directly in it belong to the shard; False if each file decides for itself."""
    is_one_unit: bool
    """Everything in it and below it belongs to the same shard."""

    @property
    def is_entered(self) -> bool:
        """Whether anything in it or below it may belong to the shard."""
        return self.owns_files or not self.is_one_unit

    def owns_file(self, name: str) -> bool:
        """Return whether a file directly in it belongs to the shard."""
        if self.sharding.level == "file" and not self.is_one_unit:
            return self.sharding.owns((*self.names, name))
        return self.owns_files

    def below(self, name: str) -> Place:
        """Return the place of a directory in it."""
        return self if self.is_one_unit else self.sharding.place((*self.names, name))

    def behind_link(self, name: str) -> Place:
        """Return the place of a directory that a link in it leads to: it is one unit, by the link's names.

        So it does not matter by which of several links a walk reaches a directory first.
        """
        if self.is_one_unit:
            return self
        place = self.below(name)
        owns_files = self.sharding.owns(place.names) if self.sharding.level == "file" else place.owns_files
        return replace(place, owns_files=owns_files, is_one_unit=True)


def _names_in(path: str) -> Names:
    return tuple(name for name in path.split("/") if name not in ("", "."))
