"""What a node's image is made of. Its tag is the hash of this, so that a changed recipe makes a new image."""

from __future__ import annotations

import hashlib
from pathlib import Path

FILES = Path(__file__).parent / "image"
REPOSITORY = "fleet-lab"
SUITE = "bookworm"
PUBLIC_BASE = f"debian:{SUITE}"
OWN_BASE = f"{REPOSITORY}-base:{SUITE}"
USER = "nvidia"

INSTALLED = ("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "sudo", "iproute2", "iptables", "procps", "ca-certificates")

# Not installed, but on a shelf in the image, so that roles install for real and nothing is downloaded.
ON_THE_SHELF = (
    "docker.io", "python3-venv", "chrony", "logrotate", "zram-tools", "rsync", "curl", "xz-utils", "fuse3",
    "docker-registry", "rclone", "nfs-common", "apache2-utils", "openssh-client", "sshpass",
)  # fmt: skip


def dockerfile(base: str) -> str:
    """Return the recipe of a node without an engine."""
    return f"""FROM {base}
ARG DEBIAN_FRONTEND=noninteractive
RUN rm -f /etc/apt/apt.conf.d/docker-* && apt-get update -q && apt-get install -qy --no-install-recommends {" ".join(INSTALLED)} \\
 && apt-get install -qy --no-install-recommends --download-only {" ".join(ON_THE_SHELF)}
COPY shelf.py setup.sh /usr/share/fleet-lab/
RUN python3 /usr/share/fleet-lab/shelf.py && sh /usr/share/fleet-lab/setup.sh {USER}
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
"""


def dockerfile_with_engine(plain: str) -> str:
    """Return the recipe of a node with an engine of its own, made from the image without one."""
    return f"""FROM {plain}
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get install -qy --no-install-recommends docker.io
"""


def tag() -> str:
    """Return the image's tag: a hash of the recipe and of the files that it copies."""
    digest = hashlib.sha256((dockerfile("") + dockerfile_with_engine("")).encode())
    for path in sorted(FILES.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
