# Copyright: Fleet Commander contributors. Apache-2.0.
"""Looks at the machine that it runs on. What cannot be read is None; nothing raises."""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from typing import Any

from ansible_collections.fleet.commander.plugins.module_utils import jetson
from ansible_collections.fleet.commander.plugins.module_utils.accounts import group_exists
from ansible_collections.fleet.commander.plugins.module_utils.node_disk import LIBRARIES, free_mib, in_use, room_mib

DEVICE_TREES = ("/etc/fleet-lab/device-tree", "/proc/device-tree")  # a lab's node cannot write the second
AGENT_FOLDER = "/opt/fleet/agent"
AGENT_STATE = "/var/lib/fleet-agent"
AGENT_CONTAINER = "/etc/fleet/container.json"
"""There where the agent runs as a container of the swarm, by the role gpu_inference."""

PACKAGES = (
    "nvidia-jetpack", "nvidia-l4t-core", "libnvinfer7", "libnvinfer8", "libnvinfer10",
    "libcudnn7", "libcudnn8", "libcudnn9", "libcudnn9-cuda-12", "libcudnn9-cuda-13",
)  # fmt: skip
TIME_SERVICES = ("systemd-timesyncd", "chrony", "ntpsec", "ntp", "openntpd")
SECONDS = 10
SMI_SECONDS = 30  # without its persistence daemon the driver wakes every card for each question


def look(device_tree: str | None = None) -> dict[str, Any]:
    """Return what this node is; ``fleet_node_info`` documents each key."""
    device_tree = device_tree or next(filter(os.path.isdir, DEVICE_TREES), DEVICE_TREES[0])
    compatible = jetson.nul_separated(read_bytes(os.path.join(device_tree, "compatible")))
    model = jetson.nul_separated(read_bytes(os.path.join(device_tree, "model")))
    soc, capability = jetson.soc_of(compatible)
    l4t = jetson.l4t_of(read("/etc/nv_tegra_release"))
    versions = package_versions()
    if l4t is None and versions.get("nvidia-l4t-core"):
        l4t = versions["nvidia-l4t-core"].split("-")[0]
    is_jetson = l4t is not None or soc is not None
    said = asked_of_gpus("name,uuid,memory.total,driver_version")
    return {
        "is_jetson": is_jetson,
        "jetpack_version": (jetson.jetpack_of(l4t) if l4t else None) or jetson.jetpack_package_of(versions),
        "l4t_version": l4t,
        "cuda_version": cuda_version(),
        "cudnn_version": jetson.cudnn_of(versions),
        "tensorrt_version": jetson.tensorrt_of(versions),
        "board": model[0] if model and is_jetson else None,
        "soc": soc,
        "compute_capability": capability,
        "power_mode": jetson.power_mode_of(output("nvpmodel", "-q")) if is_jetson else None,
        "gpus": gpus(said, soc, capability),
        "nvidia_driver": nvidia_driver(said),
        "nvidia_cards": nvidia_cards(),
        "gpu_groups": [name for name in ("video", "render") if group_exists(name)],
        "memory_mib": memory_mib(read("/proc/meminfo")),
        "cpus": os.cpu_count(),
        "disks": disks(read("/proc/mounts")),
        "room_mib": {"agent": room_mib(AGENT_FOLDER), "temporary": free_mib("/var/tmp")},
        "docker": docker(),
        "docker_installed": shutil.which("dockerd", path=PATH) is not None,
        "nvidia_runtime": shutil.which("nvidia-container-runtime", path=PATH) is not None,
        "machine_id": read("/etc/machine-id").strip() or None,
        "boot_id": boot_id(),
        "hostname": platform.node(),
        "os": operating_system(read("/etc/os-release")),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "ip_vs": ip_vs(),
        "python_version": platform.python_version(),
        "container": os.path.exists("/.dockerenv") or bool(read("/run/systemd/container").strip()),
        "time_service": time_service(),
        "agent": agent(),
    }


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ip_vs(root: str = "/") -> bool:
    """Say whether the kernel has IP_VS, or can load it: a swarm's ingress network wants it."""
    if os.path.exists(os.path.join(root, "proc/net/ip_vs")):
        return True
    modules = os.path.join(root, "lib/modules", platform.release())
    folder = os.path.join(modules, "kernel/net/netfilter/ipvs")
    if os.path.isdir(folder) and any(name.startswith("ip_vs.ko") for name in os.listdir(folder)):
        return True
    return "/ip_vs.ko" in read(os.path.join(modules, "modules.builtin"))


def boot_id() -> str | None:
    """Return the id of this boot."""
    return read("/proc/sys/kernel/random/boot_id").strip() or None


def read(path: str) -> str:
    """Return a file's text, or an empty one."""
    return read_bytes(path).decode("utf-8", "replace")


def read_bytes(path: str) -> bytes:
    """Return a file's content, or nothing."""
    try:
        with open(path, "rb") as file:
            return file.read(1_000_000)
    except OSError:
        return b""


def output(*words: str, seconds: float = SECONDS) -> str:
    """Return what a command prints, or an empty text where it is not there, fails, or takes longer."""
    command = shutil.which(words[0], path=PATH)
    if command is None:
        return ""
    try:
        done = subprocess.run(
            [command, *words[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def package_versions() -> dict[str, str]:
    """Return the versions of NVIDIA's packages that are installed."""
    command = shutil.which("dpkg-query", path=PATH)
    if command is None:
        return {}
    words = [command, "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n", *PACKAGES]
    try:  # it fails where one of them is unknown, and still tells of the others
        said = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (line.split(" ") for line in said.decode("utf-8", "replace").splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 3 and line[2] == "installed"}


def cuda_version() -> str | None:
    """Return CUDA's version by its own file, or by the name of its runtime library."""
    try:
        return str(json.loads(read("/usr/local/cuda/version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        pass
    for folder in ("/usr/local/cuda/lib64", "/usr/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu"):
        for name in sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []:
            found = re.match(r"libcudart\.so\.(\d+\.\d+\.\d+)$", name)
            if found:
                return found.group(1)
    return None


def gpus(said: str, soc: str | None, capability: str | None) -> list[dict[str, Any]]:
    """Return the GPUs by what nvidia-smi says, or a Jetson's own one."""
    found = gpus_of(said, asked_of_gpus("compute_cap") if said.strip() else "")  # an older driver knows no such question
    return found or ([{"name": soc, "uuid": None, "memory_mib": None, "compute_capability": capability}] if soc else [])


def asked_of_gpus(what: str) -> str:
    """Return what nvidia-smi says of each GPU, a line each; an empty text where it does not answer."""
    return output("nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", seconds=SMI_SECONDS)


def gpus_of(said: str, capabilities: str) -> list[dict[str, Any]]:
    """Return the GPUs by what nvidia-smi says of them, and of what each can compute. Pure."""
    can = [line.strip() for line in capabilities.splitlines()]
    found = []
    for number, line in enumerate(said.splitlines()):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 4:
            capability = can[number] if number < len(can) and re.match(r"\d+\.\d+$", can[number]) else None
            memory = int(cells[2]) if cells[2].isdigit() else None
            found.append({"name": cells[0], "uuid": cells[1], "memory_mib": memory, "compute_capability": capability})
    return found


def nvidia_cards(root: str = "/sys/bus/pci/devices") -> int:
    """Return how many cards of NVIDIA's that display or compute the PCI bus has, with a driver or without."""
    folders = glob.glob(os.path.join(root, "*"))
    return sum(
        read(os.path.join(folder, "vendor")).strip() == "0x10de" and read(os.path.join(folder, "class")).startswith("0x03")
        for folder in folders
    )


def nvidia_driver(said: str) -> str | None:
    """Return the driver's version as nvidia-smi tells it of the first GPU, or None. Pure."""
    cells = [cell.strip() for cell in said.strip().splitlines()[0].split(",")] if said.strip() else []
    return cells[3] if len(cells) == 4 and re.match(r"\d+(\.\d+)+$", cells[3]) else None


def memory_mib(text: str) -> int | None:
    """Return the memory that ``/proc/meminfo`` tells of."""
    found = re.search(r"MemTotal:\s*(\d+) kB", text)
    return int(found.group(1)) // 1024 if found else None


def disks(mounts: str) -> list[dict[str, Any]]:
    """Return the file systems on disks, and the root's whatever it is on, each device once."""
    found, seen = [], set()
    for line in mounts.splitlines():
        device, mount = line.split(" ")[:2]
        if (
            (not device.startswith("/dev/") and mount != "/")
            or device in seen
            or device.startswith("/dev/loop")
            or not os.path.isdir(mount)
        ):
            continue
        seen.add(device)
        try:
            space = os.statvfs(mount)
        except OSError:
            continue
        unit = space.f_frsize / 1024 / 1024
        found.append({"mount": mount, "device": device, "size_mib": int(space.f_blocks * unit), "free_mib": int(space.f_bavail * unit)})
    return found


def docker() -> dict[str, Any] | None:
    """Return what the Docker Engine tells of itself, or None where none answers."""
    try:
        info = json.loads(output("docker", "info", "--format", "{{json .}}"))
    except ValueError:
        return None
    if not info.get("ServerVersion"):
        return None
    return {
        "version": info["ServerVersion"],
        "data_root": info.get("DockerRootDir"),
        "default_runtime": info.get("DefaultRuntime"),
        "runtimes": sorted(info.get("Runtimes") or {}),
        "containers": info.get("Containers"),
        "swarm": (info.get("Swarm") or {}).get("LocalNodeState"),
        "gpu_resources": gpu_resources(info.get("GenericResources") or []),
    }


def gpu_resources(told: list[dict[str, Any]]) -> int:
    """Return how many of the generic resource NVIDIA-GPU an engine offers to its swarm. Pure."""
    named = [each["NamedResourceSpec"]["Kind"] for each in told if each.get("NamedResourceSpec")]
    counted = [each["DiscreteResourceSpec"] for each in told if each.get("DiscreteResourceSpec")]
    return named.count("NVIDIA-GPU") + sum(int(each["Value"]) for each in counted if each["Kind"] == "NVIDIA-GPU")


def operating_system(text: str) -> dict[str, str | None]:
    """Return what ``/etc/os-release`` tells."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    names = {"id": "ID", "version": "VERSION_ID", "codename": "VERSION_CODENAME", "name": "PRETTY_NAME"}
    return {key: fields[name].strip('"') if name in fields else None for key, name in names.items()}


def time_service() -> str | None:
    """Return the installed service that sets the clock."""
    for name in TIME_SERVICES:
        if any(os.path.exists(f"{folder}/{name}.service") for folder in ("/lib/systemd/system", "/usr/lib/systemd/system")):
            return name
    return None


def agent(folder: str = AGENT_FOLDER, state: str = AGENT_STATE, container: str = AGENT_CONTAINER) -> dict[str, Any]:
    """Return which agent is installed, whether with an engine, how it runs, and as which node it is enrolled. Needs root."""
    link = os.path.join(folder, "current")
    bundle, libraries = in_use(folder)
    packages = os.path.join(link, LIBRARIES if libraries else "", "lib", "python3*", "site-packages")
    engine = bool(glob.glob(os.path.join(packages, "numpy")))  # by which the agent itself tells
    product = "agent" if not engine else "engine_cuda" if has_cuda_torch(packages, platform.machine()) else "engine"
    node_id, service = _of_json(os.path.join(state, "identity.json"), "node_id"), _of_json(container, "service")
    if service is None:
        running = output("systemctl", "is-active", "fleet-agent").strip() == "active"
    else:
        running = bool(output("docker", "ps", "-q", "--filter", f"label=com.docker.swarm.service.name={service}").strip())
    return {
        "bundle": bundle, "libraries": libraries, "product": product if bundle else None, "engine": engine, "enrolled": node_id is not None,
        "node_id": node_id, "running": running, "container": service,
    }  # fmt: skip


def has_cuda_torch(packages: str, machine: str) -> bool:
    """Say whether an environment has PyTorch for CUDA where a bundle of it can be made: one that a Jetson was given by hand is left out."""
    there = glob.glob(os.path.join(packages, "torch", "lib", "libtorch_cuda.so"))
    return bool(there) and machine == "x86_64" and sys.version_info >= (3, 10)


def _of_json(path: str, name: str) -> str | None:
    """Return a text of a file of JSON, or None."""
    try:
        found = json.loads(read(path))[name]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
