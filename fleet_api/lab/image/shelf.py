"""Runs while a node's image is made: turns the packages that apt has fetched into a repository in the image, and the only one it uses."""

import hashlib
import subprocess
from pathlib import Path

SHELF = Path("/usr/share/fleet-lab/apt")
APT = Path("/etc/apt")

SHELF.mkdir(parents=True)
entries = []
for package in sorted(Path("/var/cache/apt/archives").glob("*.deb")):
    content = package.read_bytes()
    control = subprocess.run(["dpkg-deb", "-f", str(package)], check=True, capture_output=True, text=True).stdout.rstrip()
    digest = hashlib.sha256(content).hexdigest()
    entries.append(f"{control}\nFilename: ./{package.name}\nSize: {len(content)}\nSHA256: {digest}\n")
    package.rename(SHELF / package.name)
(SHELF / "Packages").write_text("\n".join(entries))

for source in [APT / "sources.list", *(APT / "sources.list.d").iterdir()]:
    if source.is_file():
        source.rename(source.with_name(source.name + ".online"))
(APT / "sources.list").write_text(f"deb [trusted=yes] file:{SHELF} ./\n")
for stale in Path("/var/lib/apt/lists").glob("*_*"):
    stale.unlink()
subprocess.run(["apt-get", "update", "-q"], check=True)
