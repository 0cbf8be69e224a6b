"""One archive: a gzipped tar whose last file is the manifest. Written and read as a stream; every byte is counted and hashed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import ValidationError

from fleet_api.backups.manifest import FORMAT, MANIFEST, ROOTS, BackupFailed, FileEntry, Manifest, Noted, damaged
from fleet_api.backups.sources import Source, stays_inside

CHUNK = 1024 * 1024
LEVEL = 3  # pictures do not get smaller, and a database does well enough
LARGEST_MANIFEST = 512 * 1024 * 1024
Going = Callable[[], None]
"""Called for each chunk; raises to stop."""


def write(path: Path, manifest: Manifest, sources: list[Source], going: Going) -> Manifest:
    """Write an archive of files, durable, and return its manifest. A file that has gone meanwhile is left out. Raises OSError."""
    with open(path, "wb", opener=_private) as raw:
        counted = _Counted(raw)
        packed = gzip.GzipFile(fileobj=counted, mode="wb", compresslevel=LEVEL, mtime=int(manifest.created_at), filename="")
        with packed, tarfile.open(fileobj=packed, mode="w|", bufsize=CHUNK) as tar:
            for source in sources:
                if source.link:
                    manifest.files.append(_add_link(tar, source.name, source.link))
                    continue
                try:
                    file = source.path.open("rb")
                except FileNotFoundError:
                    continue
                with file:
                    manifest.files.append(_add(tar, source.name, file, going))
            manifest.count = len(manifest.files)
            text = manifest.model_dump_json().encode()
            about = tarfile.TarInfo(MANIFEST)
            about.size, about.mode, about.mtime = len(text), 0o600, int(manifest.created_at)
            tar.addfile(about, io.BytesIO(text))
        raw.flush()
        os.fsync(raw.fileno())
    return manifest.model_copy(update={"size": counted.size, "sha256": counted.digest.hexdigest()})


def read(chunks: Iterator[bytes], expected: Noted | None, name: str, going: Going, folder: Path | None = None) -> Manifest:
    """Read every byte of an archive and check it; with a ``folder``, unpack it there. Raises BackupDamaged, and OSError of the folder.

    ``expected`` is what was noted beside the archive; without one the archive is judged by its own manifest.
    """
    source = _Source(chunks)
    found: dict[str, FileEntry] = {}
    manifest: Manifest | None = None
    try:
        packed = gzip.GzipFile(fileobj=source, mode="rb")  # type: ignore[call-overload]
        with packed, tarfile.open(fileobj=packed, mode="r|", bufsize=CHUNK) as tar:
            for member in tar:
                if manifest is not None or not (member.isreg() or member.issym()):
                    raise damaged(name, f"it holds {member.name[:80]!r}, which no backup does")
                if member.issym():
                    found[member.name] = _take_link(member, name, folder)
                    continue
                file = tar.extractfile(member)
                assert file is not None
                if member.name == MANIFEST:
                    manifest = _manifest(file, member.size, name)
                else:
                    found[member.name] = _take(file, member, name, going, folder)
            while packed.read(CHUNK):  # with the end comes the check of what was packed
                going()
        source.drain()
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise damaged(name, f"its archive cannot be read ({error})") from None
    if manifest is None:
        raise damaged(name, "it has no manifest")
    if {each.path: each for each in manifest.files} != found:
        raise damaged(name, "its files are not those that its manifest names, or a checksum differs")
    if expected is not None:
        if (source.size, source.digest.hexdigest()) != (expected.size, expected.sha256):
            raise damaged(name, "its checksum is another one")
        if manifest.noted().model_copy(update={"size": expected.size, "sha256": expected.sha256}) != expected:
            raise damaged(name, "its manifest is another one than the note beside it")
    return manifest.model_copy(update={"size": source.size, "sha256": source.digest.hexdigest()})


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """Return a file's content, a chunk at a time."""
    return iter(lambda: file.read(CHUNK), b"")


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes], going: Going) -> FileEntry:
    about = tarfile.TarInfo(name)
    found = os.fstat(file.fileno())
    about.size, about.mode, about.mtime = found.st_size, 0o600, int(found.st_mtime)
    counted = _Reading(file, going)
    tar.addfile(about, counted)
    return FileEntry(path=name, size=about.size, sha256=counted.digest.hexdigest())


def _add_link(tar: tarfile.TarFile, name: str, link: str) -> FileEntry:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = tarfile.SYMTYPE, link
    tar.addfile(about)
    return FileEntry(path=name, size=0, sha256="", link=link)


def _take_link(member: tarfile.TarInfo, name: str, folder: Path | None) -> FileEntry:
    """Links lead to their own folder or below, so that nothing is written elsewhere through one."""
    path = _place(member, name)
    if not stays_inside(path, member.linkname):
        raise damaged(name, f"its link {member.name[:80]!r} leads out of its folder")
    if folder is not None:
        target = folder.joinpath(*path.parts)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.symlink_to(member.linkname)
    return FileEntry(path=member.name, size=0, sha256="", link=member.linkname)


def _place(member: tarfile.TarInfo, name: str) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if not path.parts or path.parts[0] not in ROOTS or ".." in path.parts or "\0" in member.name:
        raise damaged(name, f"it holds {member.name[:80]!r}, which no backup does")
    return path


def _take(file: IO[bytes], member: tarfile.TarInfo, name: str, going: Going, folder: Path | None) -> FileEntry:
    place = _place(member, name)
    digest, size = hashlib.sha256(), 0
    target: IO[bytes] | None = None
    if folder is not None:
        path = folder.joinpath(*place.parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = open(path, "xb", opener=_private)  # noqa: SIM115 - closed below
    try:
        for chunk in chunks_of(file):
            going()
            digest.update(chunk)
            size += len(chunk)
            if target is not None:
                target.write(chunk)
        if target is not None:
            target.flush()
            os.fsync(target.fileno())
    finally:
        if target is not None:
            target.close()
    return FileEntry(path=member.name, size=size, sha256=digest.hexdigest())


def _manifest(file: IO[bytes], size: int, name: str) -> Manifest:
    if size > LARGEST_MANIFEST:
        raise damaged(name, "its manifest is too large")
    try:
        found = Manifest.model_validate_json(file.read())
    except ValidationError:
        raise damaged(name, "its manifest cannot be read") from None
    if found.format > FORMAT:
        raise BackupFailed(f"The backup {name} has format {found.format}, which this version does not know: a newer version wrote it.")
    return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Counted:
    """What is written, counted and hashed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size, self.digest = 0, hashlib.sha256()

    def flush(self) -> None:
        self._file.flush()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return self._file.write(data)


class _Reading:
    """A file that is read, hashed; tarfile asks for so many bytes."""

    def __init__(self, file: IO[bytes], going: Going) -> None:
        self._file = file
        self._going = going
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        self._going()
        data = self._file.read(size)
        self.digest.update(data)
        return data


class _Source:
    """An archive's chunks as a file to read from, counted and hashed."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks: Any = chunks
        self._rest, self._at = b"", 0
        self.size, self.digest = 0, hashlib.sha256()

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            if self._at == len(self._rest):
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self.size += len(chunk)
                self.digest.update(chunk)
                self._rest, self._at = chunk, 0
            part = self._rest[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drain(self) -> None:
        """Read what is after the archive's end."""
        while self.read(CHUNK):
            pass
