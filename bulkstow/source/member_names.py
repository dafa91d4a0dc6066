"""The locations of the members of an archive."""

from __future__ import annotations

from bulkstow.source.hash_set import HashSet

MARK = "!"
SEPARATOR = MARK + "/"
"""Between the location of an archive and the name of a member."""

OUTSIDE = "its name leads out of the archive"


class MemberLocations:
    """Gives each member of one archive a location of its own, the same in every run.

    Remembers a hash of each name, some 20 bytes a member: another member with the name of an earlier one, which
    unpacking would replace, has `#2` after its name.
    """

    def __init__(self, archive_location: str) -> None:
        self._before = archive_location + SEPARATOR
        self._taken = HashSet()
        self._numbers: dict[str, int] = {}
        """The last number of each name that occurs more than once."""

    def take(self, name: str) -> str:
        """Return the location of the next member; `name` is as the archive has it."""
        unique = name = plain_name(name)
        while not self._taken.add(unique):
            number = self._numbers[name] = self._numbers.get(name, 1) + 1
            unique = f"{name}#{number}"
        return self._before + unique


def plain_name(name: str) -> str:
    """Return a name up to a null byte, as unzip does, without the `./` that `tar -C directory .` writes in front."""
    name = name.partition("\0")[0]
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def leads_outside(name: str) -> bool:
    """Return whether a name is absolute or has `..`, by the rules of Windows, too."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or (len(parts[0]) > 1 and parts[0][1] == ":")
