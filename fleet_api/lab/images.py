"""Makes a node's image from what can be reached, once."""

from __future__ import annotations

import fcntl
import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from fleet_api.lab import recipe
from fleet_api.lab.engine import LABEL
from fleet_api.lab.errors import LabFailed

Say = Callable[[str], None]
MIRROR = "http://deb.debian.org/debian"
NO_BASE = (
    "debian:bookworm is neither here nor can be pulled, and debootstrap is not installed; pull it where there is a registry, "
    "or, as root, 'apt-get install debootstrap'"
)


def node_image(client: docker.DockerClient, with_engine: bool, say: Say) -> str:
    """Return the name of the image, made if it is not there, by one lab of a user at a time. Raises LabFailed with what stopped it."""
    with _alone(say):
        return _made(client, with_engine, say)


@contextmanager
def _alone(say: Say) -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"fleet-lab-image-{os.getuid()}.lock"
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LabFailed(f"{path}, which keeps two labs from making the image at once, cannot be opened: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another lab, which makes the image.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _made(client: docker.DockerClient, with_engine: bool, say: Say) -> str:
    plain = f"{recipe.REPOSITORY}:{recipe.tag()}"
    if not _there(client, plain):
        base = _base(client, say)
        say("Making the lab's image (about two minutes, once).")
        _build(client, recipe.dockerfile(base), plain)
    if not with_engine:
        return plain
    full = f"{plain}-docker"
    if not _there(client, full):
        say("Adding a Docker Engine to it.")
        _build(client, recipe.dockerfile_with_engine(plain), full)
    return full


def mirror_of(sources: str) -> str:
    """Return the Debian mirror that apt's ``sources`` name, in either of apt's forms, or Debian's own. Pure."""
    found = re.search(r"^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(https?://\S+/debian)/?(?:\s|$)", sources, re.M)
    return found[1] if found else MIRROR


def _there(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _base(client: docker.DockerClient, say: Say) -> str:
    for name in (recipe.PUBLIC_BASE, recipe.OWN_BASE):
        if _there(client, name):
            return name
    try:
        client.images.pull(recipe.PUBLIC_BASE)
    except (APIError, DockerException, OSError):
        _bootstrap(client, say)
        return recipe.OWN_BASE
    return recipe.PUBLIC_BASE


def _bootstrap(client: docker.DockerClient, say: Say) -> None:
    command = shutil.which("debootstrap", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if command is None or platform.system() != "Linux":
        raise LabFailed(f"The lab's image has nothing to start from: {NO_BASE}.")
    say("No registry can be reached: making the base with debootstrap.")
    mirror = mirror_of("\n".join(path.read_text(errors="replace") for path in _apt_sources()))
    with tempfile.TemporaryDirectory(prefix="fleet-lab-") as folder:
        root, tar = Path(folder) / "root", Path(folder) / "root.tar"
        for words in (
            [command, "--variant=minbase", recipe.SUITE, str(root), mirror],
            ["tar", "-C", str(root), "-cf", str(tar), "--exclude=./var/cache/apt/archives/*.deb", "--exclude=./dev/*", "."],
        ):
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:]
                raise LabFailed(
                    f"The lab's base could not be made: {words[0]} said '{''.join(last)}'; run as root where Debian's mirror answers."
                )
        repository, tag = recipe.OWN_BASE.split(":")
        client.api.import_image_from_file(str(tar), repository=repository, tag=tag, changes=[f"LABEL {LABEL}=image"])


def _apt_sources() -> list[Path]:
    apt = Path("/etc/apt")
    return [path for path in (apt / "sources.list", *sorted(apt.glob("sources.list.d/*"))) if path.is_file()]


def _build(client: docker.DockerClient, dockerfile: str, name: str) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path in sorted(recipe.FILES.iterdir()):
            if path.is_file():
                tar.add(path, path.name)
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile.encode())
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    context.seek(0)
    try:
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True, labels={LABEL: "image"}, timeout=1200)
    except BuildError as error:
        said = "".join(str(line.get("stream", "")) for line in error.build_log if isinstance(line, dict))
        complaints = re.findall(r"E: .*", said)
        reason = complaints[-1] if complaints else str(error)
        raise LabFailed(
            f"The lab's image could not be made: {reason[:300]}; check that Debian's mirror can be reached from containers."
        ) from error
