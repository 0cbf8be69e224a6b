"""The two kinds of the model store, and the names that things in it may have."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from fleet_api.storage import buckets

CHECKPOINT, LORA = "checkpoint", "lora"
BUCKETS = {CHECKPOINT: buckets.MODELS, LORA: buckets.LORAS}
WORDS = {CHECKPOINT: "model", LORA: "LoRA"}
SUFFIX = ".safetensors"
INDEX = "fleet.json"
"""The object beside a model's files that says what they are; the engines' own manifest is ``manifest.json``."""

UNFINISHED = "unfinished.txt"
"""The object that is there while the files of a model are put beside it."""

NAME_RULE = "must be letters, digits, spaces and ._+@()=-, begin with a letter, digit or _, and not end with a dot or a space"
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9 ._+@()=-]{0,148}[A-Za-z0-9_+@()=-])?")


def is_name(text: str) -> bool:
    """Return whether a text can be a name: every file system and URL takes it as it is."""
    return _NAME.fullmatch(text) is not None


def digest_of(files: list[dict[str, Any]]) -> str:
    """Return the SHA-256 of a model: that of its one file, or that of its list of files."""
    if len(files) == 1:
        return str(files[0]["sha256"])
    lines = "".join(f"{each['sha256']}  {each['name']}\n" for each in sorted(files, key=lambda each: each["name"]))
    return hashlib.sha256(lines.encode()).hexdigest()


def index_of(row: Any, created: str | None) -> bytes:
    """Return the text of :data:`INDEX`."""
    said = {
        "format": 1, "name": row.name, "type": row.type, "size": row.size, "sha256": row.sha256, "base": row.base, "source": row.source,
        "created_at": created, "files": row.files,
    }  # fmt: skip
    return (json.dumps(said, indent=2) + "\n").encode()
