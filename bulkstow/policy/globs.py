"""Patterns of paths, as `--include` and `--exclude` take them.

A pattern matches a file, or a directory with everything below it. Without a slash it is compared with each name; with
one it is compared with the names at the end of a path, or with the whole path if it begins with a slash. `*` matches
within a name, `**` any number of names, and a slash at the end only a directory.

The library pathspec turns a pattern into a regular expression, by the rules of Git's ignore files.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bulkstow.errors import ConfigurationError

IN_ANY_DIRECTORY = "(?:.+/)?"


@dataclass(frozen=True, slots=True)
class Globs:
    """A list of patterns; an empty list matches no path.

    The directories above a source match no pattern, unless it begins with a slash: an archive in /tmp/archive can be
    sent with `--exclude tmp`.
    """

    floating: tuple[re.Pattern[str], ...] = ()
    """Compared with the end of a path, or with the end of a directory above it."""
    anchored: tuple[re.Pattern[str], ...] = ()
    """Compared with a path from its beginning."""
    sources: frozenset[str] = frozenset()
    """Absolute paths of the sources. A path below none of them, as in a list of files, is compared from the root."""

    def __bool__(self) -> bool:
        return bool(self.floating or self.anchored)

    def match(self, path: str) -> bool:
        """Return whether a pattern matches a file or a directory above it."""
        start = path.startswith("/")
        names = path[start:]
        if any(pattern.match(names) for pattern in self.anchored):
            return True
        for pattern in self.floating:
            # IN_ANY_DIRECTORY is greedy, so this is the path itself, or the innermost directory that matches.
            if (matched := pattern.match(names)) and self._is_at_source(path, start + matched.end()):
                return True
        return False

    def match_directory(self, path: str) -> bool:
        """Return whether a pattern matches a directory, so that it matches everything below it."""
        return self.match(f"{path}/")

    def _is_at_source(self, path: str, end: int) -> bool:
        """Return whether the beginning of a path, up to `end`, is at or below a source, if the path itself is."""
        if end >= len(path) or "/" in self.sources:
            return True
        slash = path.find("/", 1)
        while slash > 0:
            if path[:slash] in self.sources:
                return slash < end
            slash = path.find("/", slash + 1)
        return path not in self.sources


def globs(flag: str, patterns: Iterable[str], sources: frozenset[str] = frozenset()) -> Globs:
    """Return patterns, ready to be compared. Raises ConfigurationError for a pattern that cannot be used."""
    patterns = tuple(patterns)
    floating = tuple(_compiled(flag, one, IN_ANY_DIRECTORY) for one in patterns if not one.startswith("/"))
    anchored = tuple(_compiled(flag, one, "") for one in patterns if one.startswith("/"))
    return Globs(floating, anchored, sources)


def _compiled(flag: str, pattern: str, before: str) -> re.Pattern[str]:
    """Return a regular expression for the beginning of a path, without a slash before it, up to the end of a name."""
    from pathspec.patterns.gitignore import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    # A pattern with a slash at its beginning has no other special character there, such as # or !.
    from_root = f"/{pattern.removeprefix('/')}"
    with suppress(GitIgnorePatternError, re.error), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of [[], which is a bracket
        expression, _ = GitIgnoreSpecPattern.pattern_to_regex(from_root)
        # Paths are absolute and have no names "." and "..", so a pattern with one would match nothing.
        if expression is not None and pattern.strip("/ ") and {".", ".."}.isdisjoint(pattern.split("/")):
            is_anything = not expression.startswith("^")  # "." for ** and "/" for **/, to be searched for
            from_begin = f".+{expression.removeprefix('.')}" if is_anything else expression.removeprefix("^")
            return re.compile(before + from_begin, re.DOTALL)  # a name may contain a newline
    raise ConfigurationError(
        f"{flag} {pattern!r}: expected a pattern such as *.dcm, CT/*.dcm or /archive/old; [ as itself is written \\["
    )
