"""What an engine is given to build from: one folder under a build root, as a tar file.

Guarantees: nothing is read from outside the root, whatever is put in a path's place while it is read; links go along as links and are
never followed; sockets, pipes and devices stay out; the data folder is never part of it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from docker.utils.build import PatternMatcher

from fleet_api.errors import InvalidValue, TooLarge, Unavailable
from fleet_api.kit.validation import shown

LARGEST_DOCKERFILE = 1024 * 1024
MOST_FILES = 500_000
OPEN_FILES = Path("/proc/self/fd")


class BuildStopped(Exception):
    """The build was cancelled while its context was read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A context's folder and the Dockerfile in it, as real paths."""

    folder: Path
    dockerfile: str


@dataclass(frozen=True, slots=True)
class Packed:
    """How much was packed."""

    files: int
    size: int


def find(roots: Sequence[str], home: Path, dockerfile_path: str, context_path: str | None) -> Source:
    """Return where to build from. A relative path is looked for in each root.

    Raises InvalidValue for what is in no root or is not there, Unavailable where no root is set.
    """
    if not roots:
        raise Unavailable("No folder is set that images may be built from; set FLEET_BUILD_ROOTS, such as /srv/images.")
    try:
        return _find(roots, home, dockerfile_path, context_path)
    except OSError as error:  # a name that is too long, a folder that this user may not enter
        raise InvalidValue(f"dockerfile_path: {shown(dockerfile_path)} cannot be looked at: {error.strerror}.") from None


def _find(roots: Sequence[str], home: Path, dockerfile_path: str, context_path: str | None) -> Source:
    file, root = _inside(roots, "dockerfile_path", dockerfile_path)
    if file.is_dir():
        file, root = _inside([str(root)], "dockerfile_path", str(file / "Dockerfile"))
    if not file.is_file():
        raise InvalidValue(
            f"dockerfile_path: there is no file {shown(dockerfile_path)} in the build roots; name a Dockerfile, or its folder."
        )
    if file.stat().st_size > LARGEST_DOCKERFILE:
        raise InvalidValue(f"dockerfile_path: {shown(dockerfile_path)} has more than {LARGEST_DOCKERFILE:,} bytes; is it a Dockerfile?")
    folder = _inside([str(root)], "context_path", context_path)[0] if context_path else file.parent
    if not folder.is_dir():
        raise InvalidValue(f"context_path: there is no folder {shown(context_path)} in the build root {root}.")
    if not file.is_relative_to(folder):
        raise InvalidValue(f"dockerfile_path: {shown(dockerfile_path)} must be in the context's folder, {folder}.")
    data = Path(os.path.realpath(home))
    if data.is_relative_to(folder) or folder.is_relative_to(data):
        raise InvalidValue(f"context_path: {folder} holds the control plane's own data; build from another folder.")
    return Source(folder, str(file.relative_to(folder)))


def pack(source: Source, out: IO[bytes], limit: int, stopped: Callable[[], bool]) -> Packed:
    """Write the context into ``out``. Raises TooLarge, InvalidValue for what cannot be read, BuildStopped."""
    ignored = _ignored(source)
    files = size = 0
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, folder, name in _entries(source.folder, ignored):
            if stopped():
                raise BuildStopped
            files += 1
            try:
                size += _add(tar, path, folder, name, limit - size, stopped)
            except FileNotFoundError:
                continue  # it went away meanwhile
            except OSError as error:
                if error.errno == errno.ELOOP:
                    continue
                raise InvalidValue(f"context_path: {path} cannot be read: {error.strerror or 'it changed while it was read'}.") from None
            except _NoRoom:
                raise _too_large(limit) from None
            if files > MOST_FILES:
                raise _too_large(limit)
    return Packed(files, size)


class _NoRoom(Exception):
    """A file is larger than what is left of the limit; nothing of it was written."""


class _Watched:
    """A file that is read in pieces, and not to its end once the build was stopped."""

    def __init__(self, file: IO[bytes], stopped: Callable[[], bool]) -> None:
        self._file = file
        self._stopped = stopped

    def read(self, size: int) -> bytes:
        if self._stopped():
            raise BuildStopped
        return self._file.read(size)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The build context has more than {limit:,} bytes or {MOST_FILES:,} files; leave some out with .dockerignore.")


def _inside(roots: Sequence[str], field: str, given: str) -> tuple[Path, Path]:
    """Return the real path of what was given, and the real root that it is in."""
    real = [Path(os.path.realpath(root)) for root in roots]
    candidates = [Path(given)] if os.path.isabs(given) else [root / given for root in real]
    found = [Path(os.path.realpath(path)) for path in candidates]
    fits = [(path, root) for path in found for root in real if path.is_relative_to(root)]
    if not fits:
        raise InvalidValue(f"{field}: {shown(given)} is not allowed; it must be in one of the build roots: {', '.join(roots)}.")
    return next((fit for fit in fits if fit[0].exists()), fits[0])


def _ignored(source: Source) -> PatternMatcher:
    lines: list[str] = []
    for name in (f"{source.dockerfile}.dockerignore", ".dockerignore"):
        path = source.folder / name
        if path.is_file() and not path.is_symlink():
            if path.stat().st_size > LARGEST_DOCKERFILE:
                raise InvalidValue(f"context_path: {name} has more than {LARGEST_DOCKERFILE:,} bytes; list fewer patterns.")
            lines = path.read_text(errors="replace").splitlines()
            break
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    try:
        found = PatternMatcher([*patterns, f"!{source.dockerfile}"])
        found.matches("x")  # type: ignore[arg-type]  # each pattern is read at its first use
    except re.error as error:
        raise InvalidValue(f"context_path: .dockerignore has a pattern that cannot be read: {error}; mend it.") from None
    return found


def _entries(top: Path, ignored: PatternMatcher) -> Iterator[tuple[str, int, str]]:
    """Yield (path in the context, the open folder that it is in, name) for all that goes along."""
    kept_below = [pattern.cleaned_pattern for pattern in ignored.patterns if pattern.exclusion]
    for folder, folders, names, handle in os.fwalk(top, onerror=_refuse, follow_symlinks=False):
        inner = os.path.relpath(folder, top)
        if inner == "." and OPEN_FILES.exists() and os.readlink(OPEN_FILES / str(handle)) != str(top):
            raise InvalidValue(f"context_path: {top} was replaced by something else while it was looked at.")
        prefix = "" if inner == "." else f"{inner}/"
        for name in sorted(folders + names):
            path = prefix + name
            left_out = ignored.matches(path)  # type: ignore[arg-type]
            if left_out and name in folders and not any(each.startswith(f"{path}/") or "*" in each for each in kept_below):
                folders.remove(name)
            if not left_out:
                yield path, handle, name


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise InvalidValue(f"context_path: the folder {error.filename} cannot be read: {error.strerror}.")


def _add(tar: tarfile.TarFile, path: str, folder: int, name: str, room: int, stopped: Callable[[], bool]) -> int:
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    entry = tarfile.TarInfo(path)
    entry.mode, entry.mtime = stat.S_IMODE(about.st_mode), about.st_mtime
    entry.uname = entry.gname = "root"
    if stat.S_ISDIR(about.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(about.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
    elif stat.S_ISREG(about.st_mode):
        return _add_file(tar, entry, folder, name, room, stopped)
    else:
        return 0
    tar.addfile(entry)
    return 0


def _add_file(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: int, name: str, room: int, stopped: Callable[[], bool]) -> int:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            return 0
        entry.size = about.st_size
        if entry.size > room:
            raise _NoRoom
        tar.addfile(entry, _Watched(file, stopped))  # type: ignore[arg-type]
    return entry.size
