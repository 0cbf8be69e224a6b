"""Where the collection ``fleet.commander`` is. ``python -m fleet_api.collection link`` lets Ansible find it in a checkout."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from fleet_api.errors import Conflict, NotFound

IN_SITE_PACKAGES = Path("ansible_collections") / "fleet" / "commander"


class NoCollection(NotFound):
    """Neither a checkout nor an installed collection is here."""


class LinkTaken(Conflict):
    """Something else is where the link should be."""


def root() -> Path:
    """Return the collection's folder: a checkout's root, or where the wheel put it. Raises NoCollection."""
    for folder in (Path(__file__).resolve().parents[1], site_packages() / IN_SITE_PACKAGES):
        if (folder / "playbooks").is_dir() and (folder / "roles").is_dir():
            return folder
    raise NoCollection(
        "The playbooks are not installed; install Fleet Commander again with: pip install --force-reinstall fleet-commander."
    )


def site_packages() -> Path:
    """Return where this Python's packages are."""
    return Path(sysconfig.get_paths()["purelib"])


def link(checkout: Path, packages: Path) -> Path:
    """Link the collection's place among the packages to a checkout, and return it. Raises LinkTaken when real files are there."""
    place = packages / IN_SITE_PACKAGES
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        raise LinkTaken(f"{place} holds an installed collection; remove it with 'pip uninstall fleet-commander', and try again.")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(checkout, target_is_directory=True)
    return place


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    if words != ["link"]:
        sys.stderr.write("Usage: python -m fleet_api.collection link\n")
        return 2
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / "galaxy.yml").is_file():
        sys.stderr.write("This is no checkout; an installed Fleet Commander has its collection already.\n")
        return 1
    try:
        link(checkout, site_packages())
    except LinkTaken as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
