"""Makes a node answer as a Jetson does: files, tools and packages as captured on real ones. The packages are real, and hold only that."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from docker.models.containers import Container

from fleet_api.lab.captured import BOARDS, RELEASES, Board, Release
from fleet_api.lab.engine import complaint
from fleet_api.lab.errors import BadLab, LabFailed

DEVICE_TREE = "etc/fleet-lab/device-tree"
"""Where a node keeps its device tree, as /proc/device-tree cannot be written."""
TOOLS = Path(__file__).parent / "image" / "jetson"


@dataclass(frozen=True)
class Jetson:
    """One captured machine."""

    release: str
    software: Release
    board: Board

    def files(self) -> dict[str, dict[str, bytes]]:
        """Return, for each package, its files by path."""
        soft = self.software
        modes = "".join(f"{number} {name}\n" for number, name in enumerate(soft.power_modes))
        found = {
            "nvidia-l4t-core": {"etc/nv_tegra_release": soft.tegra_release.encode()},
            "nvidia-l4t-tools": {
                "usr/bin/tegrastats": _tool("tegrastats"),
                "usr/bin/jetson_clocks": _tool("jetson_clocks"),
                "usr/share/fleet-lab/tegrastats.txt": soft.tegrastats.encode(),
                "usr/share/fleet-lab/jetson_clocks.txt": soft.clocks.encode(),
            },
            "nvidia-l4t-nvpmodel": {"usr/sbin/nvpmodel": _tool("nvpmodel"), "usr/share/fleet-lab/power_modes": modes.encode()},
            "nvidia-container-toolkit": {"usr/bin/nvidia-container-runtime": _tool("nvidia-container-runtime")},
        }
        if soft.cuda:
            found["cuda-toolkit"] = {
                "usr/local/cuda/version.json": f'{{"cuda": {{"name": "CUDA SDK", "version": "{soft.cuda}"}}}}\n'.encode()
            }
        found |= {name: {} for name in soft.packages if name not in found}
        return found

    def device_tree(self) -> dict[str, bytes]:
        """Return the device tree's files, which end in NUL as the kernel's do."""
        return {
            f"{DEVICE_TREE}/model": self.board.model.encode() + b"\0",
            f"{DEVICE_TREE}/compatible": b"".join(name.encode() + b"\0" for name in self.board.compatible),
            f"{DEVICE_TREE}/serial-number": b"1420000000001\0",
        }


def of(release: str) -> Jetson:
    """Return the machine captured for an L4T release such as ``r35.4.1``. Raises BadLab naming those there are."""
    if release not in RELEASES:
        raise BadLab(f"--jetson: {release!r:.40} is not captured; it must be one of {', '.join(RELEASES)}.")
    software = RELEASES[release]
    return Jetson(release, software, BOARDS[software.board])


def archive(jetson: Jetson) -> bytes:
    """Return a tar with the device tree and, under ``var/tmp/fleet-lab``, one tree a package, ready for ``dpkg-deb``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in jetson.device_tree().items():
            _add(tar, path, content)
        for name, files in jetson.files().items():
            root = f"var/tmp/fleet-lab/{name}"
            _add(tar, f"{root}/DEBIAN/control", _control(name, jetson.software.packages.get(name, jetson.software.core)))
            for path, content in files.items():
                _add(tar, f"{root}/{path}", content)
    return buffer.getvalue()


def install(container: Container, jetson: Jetson) -> None:
    """Put a personality on a running node. Raises LabFailed with what dpkg said."""
    container.put_archive("/", archive(jetson))
    script = (
        "cd /var/tmp/fleet-lab && for name in *; do"
        " dpkg-deb --root-owner-group -Znone -b $name /var/tmp/$name.deb >/dev/null || exit 1; done"
        " && dpkg --force-depends -i /var/tmp/*.deb && rm -rf /var/tmp/fleet-lab /var/tmp/*.deb"
    )
    said = complaint(container, script)
    if said:
        raise LabFailed(f"{container.name} did not become a Jetson: {said}; this is a fault of the lab.")


def _tool(name: str) -> bytes:
    return (TOOLS / name).read_bytes()


def _control(name: str, version: str) -> bytes:
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Fleet Commander <nobody@fleet.invalid>\n"
        f"Description: lab stand-in for {name}\n"
    ).encode()


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    entry.mode = 0o755 if "/bin/" in path or "/sbin/" in path else 0o644
    tar.addfile(entry, io.BytesIO(content))
