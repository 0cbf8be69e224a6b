# Copyright: Fleet Commander contributors. Apache-2.0.
"""Images of a node's engine, by the engine's own command."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

SOURCE = "fleet.source"
"""The label that says what an image was built from."""

LAST_WORDS = 400

HEEDED = re.compile(r"PATH|HOME|TMPDIR|(DOCKER|BUILDKIT|BUILDX|LD|GO)[A-Z0-9_]*")
"""Variables that the engine's command itself goes by: in its environment they would change what it does."""


class ImageFailed(Exception):
    """The engine did not do it; the text is a sentence."""


def inspect(name: str) -> dict[str, Any] | None:
    """Return what the engine knows of an image; None where it has none of that name. Raises ImageFailed."""
    done = docker("image", "inspect", name)
    if done.returncode:
        if "no such image" in done.stdout.lower():
            return None
        raise ImageFailed(f"The engine does not answer: {last_word(done.stdout)}")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("[") :])[0]
    return found


def source_of(image: dict[str, Any] | None) -> str:
    """Return what an image was built from; empty where this collection did not build it. Pure."""
    labels = ((image or {}).get("Config") or {}).get("Labels") or {}
    return str(labels.get(SOURCE, ""))


def pushed_digest(image: dict[str, Any] | None, name: str) -> str:
    """Return the digest under which the registry has this image; empty where it has not. Pure."""
    repository = name.rpartition(":")[0]
    for each in (image or {}).get("RepoDigests") or []:
        if each.startswith(repository + "@"):
            return str(each.partition("@")[2])
    return ""


def build(folder: str, name: str, dockerfile: str, args: dict[str, str], platform: str, source: str) -> None:
    """Build an image from a folder. Raises ImageFailed.

    The values of ``args`` go by the environment, and so into no list of processes, but for those that the command would heed.
    """
    words = ["build", "--tag", name, "--file", os.path.join(folder, dockerfile), "--label", f"{SOURCE}={source}"]
    words += [word for key in sorted(args) for word in ("--build-arg", f"{key}={args[key]}" if HEEDED.fullmatch(key) else key)]
    words += ["--platform", platform] if platform else []
    done = docker(*words, folder, environment={key: args[key] for key in args if not HEEDED.fullmatch(key)})
    if done.returncode:
        raise ImageFailed(f"{name} was not built: {last_word(done.stdout)}")


def push(name: str) -> None:
    """Push an image. Raises ImageFailed."""
    done = docker("push", name)
    if done.returncode:
        raise ImageFailed(f"{name} was built, but not pushed: {last_word(done.stdout)}")


def remove(name: str) -> None:
    """Take an image's name away, and the image where it has no other. Raises ImageFailed."""
    done = docker("image", "rm", name)
    if done.returncode and "no such image" not in done.stdout.lower():
        raise ImageFailed(f"{name} was not removed: {last_word(done.stdout)}")


def docker(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the engine's command. Raises ImageFailed where there is none."""
    try:
        return subprocess.run(
            ["docker", *words],
            env={**os.environ, "HOME": "/root", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise ImageFailed("There is no Docker Engine on this node; run the role docker_engine first.") from None


def last_word(said: str) -> str:
    """Return the end of what a command said, as a sentence. Pure."""
    text = " ".join(said.split())[-LAST_WORDS:].rstrip(".")
    return f"{text or 'it said nothing'}."
