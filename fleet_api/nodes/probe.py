"""First contact with a machine: one command that says what it is. Pure but for the command's text."""

from __future__ import annotations

from dataclasses import dataclass

COMMAND = """LC_ALL=C; export LC_ALL
echo "hostname=$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
echo "machine_id=$(cat /etc/machine-id 2>/dev/null)"
echo "boot_id=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
echo "arch=$(uname -m)"
echo "python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
echo "systemd=$(test -d /run/systemd/system && echo yes)"
echo "apt=$(command -v apt-get)"
echo "l4t=$(head -n 1 /etc/nv_tegra_release 2>/dev/null | cut -c 1-120)"
"""
OLDEST_PYTHON = (3, 8)


@dataclass(frozen=True, slots=True)
class Contact:
    """What a machine says of itself."""

    hostname: str
    machine_id: str
    boot_id: str
    arch: str
    python: tuple[int, int] | None
    systemd: bool
    apt: bool
    l4t: str

    @classmethod
    def of(cls, output: str) -> Contact:
        """Read the command's output; what is missing is empty."""
        output = output.encode("utf-8", "replace").decode()
        said = dict(line.split("=", 1) for line in output.split("\n") if "=" in line)
        major, _, minor = said.get("python", "").partition(".")
        python = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None
        said = {name: "".join(filter(str.isprintable, value)).strip()[:120] for name, value in said.items()}
        text = {name: said.get(name, "") for name in ("hostname", "machine_id", "boot_id", "arch", "l4t")}
        return cls(**text, python=python, systemd=said.get("systemd") == "yes", apt=bool(said.get("apt")))

    def refusal(self) -> str | None:
        """Return why this machine cannot become a node, in a sentence; None if it can."""
        if self.l4t.startswith("# R32"):
            return (
                "This Jetson runs JetPack 4 (L4T R32), whose Python 3.6 is too old for Ansible 2.19; flash JetPack 5 or later, then retry."
            )
        if self.python is None:
            return "The machine has no Python 3; install python3 on it, then retry."
        if self.python < OLDEST_PYTHON:
            return f"The machine has Python {self.python[0]}.{self.python[1]}; 3.8 or later is needed. Upgrade its system, then retry."
        if not self.systemd:
            return "The machine does not run systemd, which starts the agent and Docker there; use a system that does."
        if not self.apt:
            return "The machine has no apt-get; only Debian, Ubuntu and JetPack are known so far."
        return None
