"""Stored models and LoRAs on the node's disk: whole and verified, or not at all.

``files/<sha256>`` are whole files, ``files/<sha256>.part`` what has come of others; ``items/`` notes what they make up, and the time of
a note is when its item was last used; ``library/`` is what the engine reads: links to the files. All calls are from one thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple

from pydantic import ValidationError

from gpu_inference.agent import logs
from gpu_inference.agent.files import make_private_dir, sync_folder, write_private
from gpu_inference.protocol import HeldItem, StoredFile, StoredItem, StoredKey

LORA = "lora"
PART = ".part"
RESERVE_BYTES = 256 * 1024 * 1024
"""So much of the disk is left free."""

ORPHAN_SECONDS = 7 * 86_400.0
"""So long what came of a fetch that was cut off is kept."""

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
Key = Tuple[str, str]


class NoRoom(Exception):
    """It cannot be made to fit."""


def key_of(item: StoredKey) -> Key:
    """Type and name."""
    return item.type, item.name


def library_of(folder: Path) -> Path:
    """Where the engine finds what the cache in ``folder`` holds."""
    return folder / "library"


def _slug(key: Key) -> str:
    return hashlib.sha256("/".join(key).encode("utf-8")).hexdigest()[:24]


class ModelCache:
    """A folder with a limit in bytes. What is used least recently goes first."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._files, self._items, self._library = folder / "files", folder / "items", library_of(folder)
        self._kept: Dict[Key, StoredItem] = {}
        self.gone: Set[Key] = set()
        """What was here since the start, and was evicted or dropped."""
        for each in (folder, self._files, self._items):
            make_private_dir(each)
        self._load()

    def held(self) -> List[HeldItem]:
        """What is whole."""
        return [HeldItem(type=each.type, name=each.name, sha256=each.sha256) for each in self._kept.values()]

    def get(self, key: Key) -> StoredItem:
        """An item that is held. Raises KeyError."""
        return self._kept[key]

    def has(self, item: StoredItem) -> bool:
        """Whether this very item is held."""
        kept = self._kept.get(key_of(item))
        return kept is not None and kept.sha256 == item.sha256

    def whole(self) -> List[str]:
        """The SHA-256 of every whole file."""
        return sorted(each.name for each in self._files.iterdir() if _SHA256.match(each.name))

    def path(self, sha256: str) -> Path:
        """Where a whole file is, or will be. Raises ValueError for what is no checksum."""
        if not _SHA256.match(sha256):
            raise ValueError("That is no SHA-256.")
        return self._files / sha256

    def part(self, sha256: str) -> Path:
        """Where what has come of a file is."""
        path = self.path(sha256)
        return path.with_name(path.name + PART)

    def finish(self, file: StoredFile) -> None:
        """Turns the verified part of a file into the whole, durably."""
        part = self.part(file.sha256)
        descriptor = os.open(str(part), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(str(part), str(self.path(file.sha256)))
        sync_folder(self._files)

    def missing(self, item: StoredItem) -> List[StoredFile]:
        """The files of an item that are not whole yet."""
        return [each for each in item.files if not self.path(each.sha256).is_file()]

    def add(self, item: StoredItem) -> None:
        """Lists an item whose files are all whole, for the engine too."""
        self._kept[key_of(item)] = item
        write_private(self._note(key_of(item)), item.model_dump_json().encode("utf-8"))
        self._link(item)

    def touch(self, key: Key) -> None:
        """Notes that an item is used now."""
        if key in self._kept:
            os.utime(str(self._note(key)))

    def unlist(self, key: Key) -> None:
        """Takes an item out of what the engine reads; its files stay until :meth:`remove`."""
        slug = _slug(key)
        shutil.rmtree(str(self._library / slug), ignore_errors=True)
        for name in (slug + ".safetensors", slug + ".safetensors.json"):
            _unlink(self._library / "loras" / name)

    def remove(self, key: Key) -> None:
        """Forgets an item, and the files that no other has."""
        item = self.shelve(key)
        if item is not None:
            self.discard(item)

    def shelve(self, key: Key) -> Optional[StoredItem]:
        """Forgets an item and keeps its files, as when the engine cannot use it: whoever asks for it again does not fetch them again."""
        self.unlist(key)
        _unlink(self._note(key))
        self.gone.add(key)
        return self._kept.pop(key, None)

    def discard(self, item: StoredItem) -> None:
        """Removes the files of an item, and what came of them, but those that another has."""
        others = {file.sha256 for kept in self._kept.values() for file in kept.files}
        for file in item.files:
            if file.sha256 not in others:
                _unlink(self.path(file.sha256))
            _unlink(self.part(file.sha256))

    def room_for(self, item: StoredItem, in_use: Set[Key]) -> List[Key]:
        """The items that must go, least recently used first, so that ``item`` fits. Raises :class:`NoRoom`."""
        size = sum(file.size for file in item.files)
        if size > self.limit:
            raise NoRoom(f"It has {size:,} bytes, and the cache of this node may have {self.limit:,} (FLEET_AGENT_CACHE_LIMIT_GIB).")
        coming = {file.sha256: file.size for file in item.files}
        parts = sum(_size(self.part(sha256)) for sha256 in coming)
        wanted = sum(file.size for file in self.missing(item)) - parts
        disk = shutil.disk_usage(str(self._files)).free - RESERVE_BYTES - wanted
        going: List[Key] = []
        for key in [each for each in self._by_use() if each not in in_use and each != key_of(item)]:
            if self._used(going, coming) <= self.limit and disk >= 0:
                break
            before = self._used(going, coming)
            going.append(key)
            disk += before - self._used(going, coming)
        if self._used(going, coming) > self.limit:
            raise NoRoom(f"It has {size:,} bytes, and what is in use leaves less of the cache's {self.limit:,}.")
        if disk < 0:
            raise NoRoom(f"The disk has too little room: {-disk:,} bytes more are wanted.")
        return going

    def _used(self, going: List[Key], coming: Dict[str, int]) -> int:
        """Bytes of all files once some items are gone and others have come."""
        sizes = dict(coming)
        for key, item in self._kept.items():
            if key not in going:
                sizes.update({file.sha256: file.size for file in item.files})
        return sum(sizes.values())

    def _by_use(self) -> List[Key]:
        return sorted(self._kept, key=lambda key: self._note(key).stat().st_mtime)

    def _note(self, key: Key) -> Path:
        return self._items / (_slug(key) + ".json")

    def _load(self) -> None:
        """Reads the notes; an item with a file that is not there, or not of its size, is forgotten. The library is made anew."""
        shutil.rmtree(str(self._library), ignore_errors=True)
        for note in sorted(self._items.iterdir()):
            try:
                item = StoredItem.model_validate_json(note.read_bytes())
                sound = note == self._note(key_of(item)) and all(_size(self.path(file.sha256)) == file.size for file in item.files)
            except (OSError, ValidationError):
                sound = False
            if sound:
                self._kept[key_of(item)] = item
            else:
                logs.warning("A note of the cache is not sound and is removed.", file=note.name)
                _unlink(note)
        self._sweep()
        for item in self._kept.values():
            self._link(item)

    def _sweep(self) -> None:
        """Removes files that belong to no item, once they are old: those of a fetch that was cut off are gone on with."""
        wanted = {file.sha256 for item in self._kept.values() for file in item.files}
        for path in self._files.iterdir():
            if path.name not in wanted and time.time() - path.stat().st_mtime > ORPHAN_SECONDS:
                _unlink(path)

    def _link(self, item: StoredItem) -> None:
        slug = _slug(key_of(item))
        if item.type != LORA:
            folder = self._library / slug
            folder.mkdir(parents=True, exist_ok=True)
            for file in item.files:
                _link(self.path(file.sha256), folder / file.name)
            return
        folder = self._library / "loras"
        folder.mkdir(parents=True, exist_ok=True)
        said: Dict[str, Any] = {"name": item.name, "base_model": item.base}
        (folder / (slug + ".safetensors.json")).write_text(json.dumps(said), encoding="utf-8")
        _link(self.path(item.files[0].sha256), folder / (slug + ".safetensors"))


def _link(source: Path, target: Path) -> None:
    _unlink(target)
    try:
        os.link(str(source), str(target))
    except OSError:  # a file system without hard links
        os.symlink(str(source), str(target))


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
