"""A base for the agent's Dockerfiles, made of a lab node itself, with the wheels that its lock wants: a build fetches nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.lab import Node

ROOT = Path(__file__).parents[2]
LOCKS = {ROOT / "gpu_inference" / "requirements.lock": "", ROOT / "requirements" / "runtime.lock": "setuptools"}
"""Each with the one package that is wanted of it, or all: the agent's own build wants setuptools."""

LIBC = ("2_28", "2_27", "2_17", "2_12", "2_5")
ABOUT = "import json, platform as p; print(json.dumps([p.python_version(), p.machine()]))"

IMPORT = r"""
set -e
printf '[global]\nno-index = true\nfind-links = /wheels\n' > /etc/pip.conf
tar -C / -c --numeric-owner --one-file-system \
    --exclude='./etc/machine-id' --exclude='./var/lib/dbus/machine-id' --exclude='./etc/ssh/ssh_host_*' \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./var/log/*' \
    --exclude='./usr/bin/docker*' --exclude='./usr/bin/containerd*' --exclude='./usr/bin/ctr' --exclude='./usr/sbin/dockerd' \
    --exclude='./usr/sbin/runc' --exclude='./usr/share/fleet-lab/apt/[!Pp]*' --exclude='./var/cache/*' . | docker import - "$1"
rm -r /etc/pip.conf /wheels
"""


def wheels(folder: Path, python: str, machine: str) -> None:
    """Fetch what the locks want for a Python and a machine, whatever runs the tests."""
    target = {
        "python_full_version": python, "python_version": python.rpartition(".")[0], "platform_machine": machine, "sys_platform": "linux",
        "os_name": "posix", "platform_system": "Linux", "implementation_name": "cpython",
    }  # fmt: skip
    wanted = []
    for lock, name in LOCKS.items():
        for entry in re.findall(r"^[a-z].*(?:\n .*)*", lock.read_text(), re.M):
            said, _, hashes = entry.partition("\\")
            found = Requirement(said)
            if name in ("", found.name) and (found.marker is None or found.marker.evaluate(target)):
                wanted.append(f"{found.name}{found.specifier} \\{hashes}\n")
    (folder / "wanted.txt").write_text("".join(wanted))
    minor = target["python_version"]
    words = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation", "cp", "--python-version", minor]
    words += [word for abi in (f"cp{minor.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    words += [word for libc in LIBC for word in ("--platform", f"manylinux_{libc}_{machine}")]
    words += [word for old in ("manylinux2014", "manylinux2010", "manylinux1") for word in ("--platform", f"{old}_{machine}")]
    words += ["-q", "-d", str(folder / "wheels"), "-r", str(folder / "wanted.txt")]
    done = subprocess.run([sys.executable, "-m", "pip", "download", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def make(node: Node, image: str, folder: Path) -> None:
    """Make the base on a node, which is still as it was found."""
    wheels(folder, *json.loads(node.run("python3", "-c", ABOUT)))
    pack = subprocess.Popen(["tar", "-C", str(folder), "-c", "wheels"], stdout=subprocess.PIPE)
    subprocess.run(["docker", "exec", "-i", node.name, "tar", "-C", "/", "-x"], stdin=pack.stdout, check=True)
    assert pack.wait() == 0
    node.run("sh", "-c", IMPORT, "sh", image)
