# Copyright: Fleet Commander contributors. Apache-2.0.
"""A bundle: all that the agent, its engine or the control plane is installed from, as tar files, so that no internet is needed.

Made on the controller, once a kind of machine. A node's is two files, the libraries and what is of our own, as only the second changes
with each release; a control plane's is one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Callable, Iterator

# From NVIDIA's and Debian's oldest C library that each meets: Ubuntu 20.04 for an agent, Debian 12 for a control plane.
_OF_NODES = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28", "manylinux_2_31")
GLIBC = {
    "agent": _OF_NODES,
    "engine": _OF_NODES,
    "engine_cuda": _OF_NODES,
    "control_plane": (
        "manylinux2014",
        "manylinux_2_17",
        "manylinux_2_24",
        "manylinux_2_27",
        "manylinux_2_28",
        "manylinux_2_31",
        "manylinux_2_34",
    ),
}
LAYOUT = 2  # of the files; another one is another bundle
APART = ("agent", "engine", "engine_cuda")
"""What has its libraries in a file, and on the machine in an environment, of their own."""
KEPT = {"agent-libraries": 8, "engine-libraries": 4, "engine_cuda-libraries": 1, "control_plane": 2}  # of 4, 71, 4,000 and 160 MB
KEPT_OF_OUR_OWN = 1  # of 17, which is the built-in model
IN_USE_SECONDS = 24 * 3600
"""So long a bundle is kept whatever comes after it: a run over nodes of several kinds makes all of theirs before it brings the first."""
NEEDS_MIB = {"agent": 200, "engine": 900, "engine_cuda": 16000}
"""Of a node's disk, for a moment, by the libraries: their file, what is unpacked of it, and what is installed."""
OWN_NEEDS_MIB = 100
OLDEST = {"agent": (3, 8), "engine": (3, 8), "engine_cuda": (3, 10), "control_plane": (3, 11)}
LOCKS = {
    "agent": "gpu_inference/requirements-agent{}.lock",
    "engine": "gpu_inference/requirements{}.lock",
    "engine_cuda": "gpu_inference/requirements-cuda.lock",
}
ADDED = {"control_plane": "requirements/vocabulary.lock"}  # data of packages whose own needs are not wanted
LEFT_OUT = ("__pycache__", "build", "dist", "*.egg-info", "training", ".*", "tests", "benchmarks", "docs", "node_modules")
SHIPPED = ("fleet_api", "gpu_inference", "inventory", "meta", "playbooks", "plugins", "roles")


class BundleFailed(Exception):
    """No bundle could be made; the text is a sentence."""


def lock_of(product: str, root: str, python_version: str) -> str:
    """Return the text of a product's lock for a machine's Python. Raises BundleFailed for one that is too old."""
    numbers = tuple(int(part) for part in python_version.split(".")[:2])
    if numbers < OLDEST[product]:
        least = ".".join(str(number) for number in OLDEST[product])
        raise BundleFailed(f"This machine has Python {python_version}, and {least} or later is needed; upgrade its operating system.")
    name = LOCKS.get(product, "requirements/runtime.lock").format("-py38" if numbers < (3, 10) else "")
    return "".join(_text(os.path.join(root, each)) for each in (name, ADDED.get(product)) if each)


def _text(path: str) -> str:
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


def shipped_files(folder: str) -> list[str]:
    """Return the files of a package that are shipped, relative to its folder."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not any(fnmatch(name, pattern) for pattern in LEFT_OUT))
        found += [
            os.path.relpath(os.path.join(place, name), folder) for name in sorted(names) if not name.endswith((".pyc", ".lock", ".in"))
        ]
    return found


def digest_of(needed: str, packages: list[str], python_version: str, machine: str) -> str:
    """Return what tells one bundle from another: its wheels, the packages of our own and the kind of machine.

    Without packages, what tells its libraries from others.
    """
    digest = hashlib.sha256("{}\0{}\0{}\0{}\0".format(LAYOUT, needed, python_version.rsplit(".", 1)[0], machine).encode())
    for package in packages:
        for name in shipped_files(package):
            with open(os.path.join(package, name), "rb") as file:
                digest.update(name.encode("utf-8") + b"\0" + hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]


def make(cache: str, name: str, fill: Callable[[str], None]) -> str:
    """Return the path of a file ``name`` of the cache, packed from the folder that ``fill`` filled if it is not there.

    Raises BundleFailed and OSError.
    """
    os.makedirs(cache, mode=0o755, exist_ok=True)
    path = os.path.join(cache, name)
    with _alone(cache):
        if os.path.exists(path):
            os.utime(path)
            return path
        folder = tempfile.mkdtemp(prefix=".bundle-", dir=cache)
        try:
            fill(folder)
            with tarfile.open(path + ".part", "w") as tar:
                for each in sorted(os.listdir(folder)):
                    tar.add(os.path.join(folder, each), each)
            os.replace(path + ".part", path)
            _prune(cache, _kind(name))
        finally:
            shutil.rmtree(folder)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + ".part")  # of one that was cut off
    return path


def add_libraries(
    folder: str, cache: str, product: str, needed: str, python_version: str, machine: str, wheelhouse: str | None = None
) -> None:
    """Put what pip takes into a folder: ``requirements.txt`` and ``wheels``. Raises BundleFailed and OSError.

    With ``wheelhouse``, a folder of wheels, no package index is asked.
    """
    with open(os.path.join(folder, "requirements.txt"), "w", encoding="utf-8") as file:
        file.write(needed)
    _download(folder, os.path.join(cache, "wheels"), GLIBC[product], python_version, machine, wheelhouse)


def add_own(folder: str, product: str, root: str) -> None:
    """Put the wheels of our own into a folder, as ``own``. Raises BundleFailed and OSError."""
    own = os.path.join(folder, "own")
    os.mkdir(own)
    _wheel("fleet-worker", os.path.join(root, "gpu_inference"), own)
    if product == "control_plane":
        _wheel("fleet-commander", root, own)


def _kind(name: str) -> str:
    return name.rsplit("-", 1)[0]


def _prune(cache: str, kind: str) -> None:
    """Remove files that are too many of a kind, but none that a run may still be bringing to nodes of another one."""
    kept = [os.path.join(cache, name) for name in os.listdir(cache) if name.endswith(".tar") and _kind(name) == kind]
    for path in sorted(kept, key=os.path.getmtime)[: -KEPT.get(kind, KEPT_OF_OUR_OWN)]:
        if os.path.getmtime(path) < time.time() - IN_USE_SECONDS:
            os.unlink(path)


def _download(folder: str, kept: str, glibc: tuple[str, ...], python_version: str, machine: str, wheelhouse: str | None = None) -> None:
    platforms = [word for libc in glibc for word in ("--platform", f"{libc}_{machine}")]
    needed = os.path.join(folder, "requirements.txt")
    sources, what, advice = [], "The wheels cannot be fetched", "check that the controller reaches its package index"
    if wheelhouse:
        with open(needed, encoding="utf-8") as file:
            lacking = missing(file.read(), [wheelhouse, kept])
        if lacking:
            raise BundleFailed(
                "The wheelhouse {} lacks {} for Python {} on {}; bring the wheels there with 'pip download'.".format(
                    wheelhouse, ", ".join(lacking), python_version, machine
                )
            )
        sources = ["--no-index", "--find-links", wheelhouse]
        what, advice = f"The wheelhouse {wheelhouse} does not serve", f"it wants wheels for Python {python_version} on {machine}"
    _pip(
        ["download", "--no-deps", "--only-binary", ":all:", "--python-version", python_version, "--implementation", "cp", *platforms,
         "--require-hashes", *sources, "--find-links", kept, "-r", needed, "-d", os.path.join(folder, "wheels")],
        what, advice,
    )  # fmt: skip
    os.makedirs(kept, exist_ok=True)
    for name in os.listdir(os.path.join(folder, "wheels")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(kept, name))  # one of other content, of which pip has just fetched the right one
        os.link(os.path.join(folder, "wheels", name), os.path.join(kept, name))  # both are in the cache


def missing(needed: str, folders: list[str]) -> list[str]:
    """Return which pins, such as ``numpy==2.4.6``, have no wheel of that name and version in any of ``folders``."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import Version

    there = set()
    for folder in folders:
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            try:
                found = parse_wheel_filename(name)
            except InvalidWheelFilename:
                continue
            there.add((found[0], found[1]))
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", needed, re.M)
    return [f"{name}=={version}" for name, version in pins if (canonicalize_name(name), Version(version)) not in there]


def _wheel(name: str, source: str, folder: str) -> None:
    """Make the wheel of a distribution of our own, from a checkout or from what is installed here."""
    if not os.path.exists(os.path.join(source, "pyproject.toml")):
        _pack_installed(name, folder)
        return
    with tempfile.TemporaryDirectory(prefix="fleet-wheel-") as copy:
        place = os.path.join(copy, os.path.basename(os.path.realpath(source)))
        shutil.copytree(source, place, ignore=shutil.ignore_patterns(*LEFT_OUT))
        words = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, place]
        _pip(words, f"The wheel of {name} cannot be made", "check that setuptools is installed on the controller")


def _pack_installed(name: str, folder: str) -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise BundleFailed(f"{name} is not installed on the controller; install it with: pip install {name}.") from None
    wheel_name = "{}-{}-py3-none-any.whl".format(name.replace("-", "_"), found.version)
    with zipfile.ZipFile(os.path.join(folder, wheel_name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in found.files or []:
            if (
                ".." not in file.parts
                and "__pycache__" not in file.parts
                and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json")
            ):
                wheel.write(str(file.locate()), str(file))


def _pip(words: list[str], what: str, advice: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        errors = [line[len("ERROR: ") :] for line in done.stdout.splitlines() if line.startswith("ERROR: ")]
        last = (errors or done.stdout.strip().splitlines() or ["pip gave no reason"])[0]
        raise BundleFailed(f"{what}: {last[:300].rstrip('.')}; {advice}.")


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    with open(os.path.join(folder, ".lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
