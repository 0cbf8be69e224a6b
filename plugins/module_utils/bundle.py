# Copyright: Fleet Commander contributors. Apache-2.0.
"""A bundle: all that an agent needs on a node, as one tar file, so that the node needs no internet.

Made on the controller, once a kind of node.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from contextlib import contextmanager
from typing import Iterator

LOCKS = {True: "requirements-agent-py38.lock", False: "requirements-agent.lock"}
GLIBC = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_31")


class BundleFailed(Exception):
    """No bundle could be made; the text is a sentence."""


def lock_of(folder: str, python_version: str) -> str:
    """Return the text of the lock for a node's Python. Raises BundleFailed for one that is too old."""
    numbers = tuple(int(part) for part in python_version.split(".")[:2])
    if numbers < (3, 8):
        raise BundleFailed(f"The node has Python {python_version}, and the agent needs 3.8 or later; flash JetPack 5 or later.")
    path = os.path.join(folder, LOCKS[numbers < (3, 10)])
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise BundleFailed(f"{path} cannot be read ({error.strerror}); install Fleet Commander again.") from None


def requirements(lock: str, python_version: str, machine: str) -> str:
    """Return the part of a lock that is for one kind of node, without its conditions. pip would judge them by its own Python."""
    from packaging.markers import Marker

    environment = {
        "python_version": ".".join(python_version.split(".")[:2]),
        "python_full_version": python_version,
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    kept = []
    for block in re.split(r"\n(?=\S)", "\n".join(line for line in lock.splitlines() if line and not line.startswith("#"))):
        head, _, rest = block.partition("\n")
        pin, _, condition = head.rstrip(" \\").partition(" ; ")
        if not condition or Marker(condition).evaluate(environment):
            kept.append(f"{pin} \\\n{rest}")
    return "\n".join(kept) + "\n"


def worker_files(folder: str) -> list[str]:
    """Return the files of the worker's package that are shipped, relative to its folder."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "build", "training") and not name.endswith(".egg-info"))
        found += [
            os.path.relpath(os.path.join(place, name), folder) for name in sorted(names) if not name.endswith((".pyc", ".lock", ".in"))
        ]
    return found


def digest_of(needed: str, worker: str, python_version: str, machine: str) -> str:
    """Return what tells one bundle from another: its wheels, its worker and the kind of node."""
    digest = hashlib.sha256(f"{needed}\0{python_version.rsplit('.', 1)[0]}\0{machine}\0".encode())
    for name in worker_files(worker):
        with open(os.path.join(worker, name), "rb") as file:
            digest.update(name.encode("utf-8") + b"\0" + hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]


def make(cache: str, digest: str, needed: str, worker: str, python_version: str, machine: str) -> str:
    """Return the path of the bundle in ``cache``, made if it is not there. Raises BundleFailed and OSError."""
    os.makedirs(cache, mode=0o755, exist_ok=True)
    path = os.path.join(cache, f"agent-{digest}.tar")
    with _alone(cache):
        if os.path.exists(path):
            return path
        folder = tempfile.mkdtemp(prefix=".bundle-", dir=cache)
        try:
            with open(os.path.join(folder, "requirements.txt"), "w", encoding="utf-8") as file:
                file.write(needed)
            _download(folder, os.path.join(cache, "wheels"), python_version, machine)
            os.mkdir(os.path.join(folder, "worker"))
            _worker_wheel(worker, os.path.join(folder, "worker"))
            with tarfile.open(path + ".part", "w") as tar:
                for name in ("requirements.txt", "wheels", "worker"):
                    tar.add(os.path.join(folder, name), name)
            os.replace(path + ".part", path)
        finally:
            shutil.rmtree(folder)
    return path


def _download(folder: str, kept: str, python_version: str, machine: str) -> None:
    platforms = [word for libc in GLIBC for word in ("--platform", f"{libc}_{machine}")]
    _pip(
        ["download", "--no-deps", "--only-binary", ":all:", "--python-version", python_version, "--implementation", "cp", *platforms,
         "--require-hashes", "--find-links", kept, "-r", os.path.join(folder, "requirements.txt"), "-d", os.path.join(folder, "wheels")],
        "The agent's wheels cannot be fetched",
    )  # fmt: skip
    os.makedirs(kept, exist_ok=True)
    for name in os.listdir(os.path.join(folder, "wheels")):
        shutil.copy2(os.path.join(folder, "wheels", name), kept)


def _worker_wheel(worker: str, folder: str) -> None:
    if not os.path.exists(os.path.join(worker, "pyproject.toml")):
        _pack_installed(folder)
        return
    with tempfile.TemporaryDirectory(prefix="fleet-worker-") as copy:
        source = os.path.join(copy, "gpu_inference")
        shutil.copytree(worker, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "training"))
        _pip(["wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], "The worker's wheel cannot be made")


def _pack_installed(folder: str) -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        worker = distribution("fleet-worker")
    except PackageNotFoundError:
        raise BundleFailed("fleet-worker is not installed beside Fleet Commander; install it with: pip install fleet-worker.") from None
    name = f"fleet_worker-{worker.version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in worker.files or []:
            if (
                ".." not in file.parts
                and "__pycache__" not in file.parts
                and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json")
            ):
                wheel.write(str(file.locate()), str(file))


def _pip(words: list[str], what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        errors = [line[len("ERROR: ") :] for line in done.stdout.splitlines() if line.startswith("ERROR: ")]
        last = (errors or done.stdout.strip().splitlines() or ["pip gave no reason"])[0]
        raise BundleFailed(f"{what}: {last[:300].rstrip('.')}; check that the controller reaches its package index.")


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    with open(os.path.join(folder, ".lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
