#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""A Python environment of its own for agent or control plane."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_venv
short_description: Install an agent or a control plane from a bundle, offline
description:
  - Makes a virtual environment beside the one in use, fills it from the bundle by hash, and only then switches over.
  - An installation that is cut off leaves the one in use as it is. Older ones are removed.
  - With O(libraries) they are in an environment of their own, which stays in use until other ones are wanted.
author:
  - Fleet Commander maintainers
options:
  folder:
    description: Where the environments are; C(current) in it is the one in use.
    type: path
    default: /opt/fleet/agent
  digest:
    description: The bundle's digest.
    type: str
    required: true
  bundle:
    description: The bundle on the node; it is removed once it is installed.
    type: path
    required: true
  libraries:
    description: The libraries of the bundle, where they are apart from it.
    type: dict
    suboptions:
      digest:
        description: Their digest.
        type: str
        required: true
      bundle:
        description: Their file on the node, which is only there if they are not in use yet; it is removed once it is installed.
        type: path
        required: true
  system_modules:
    description:
      - Modules that come with the operating system and from no wheel, such as JetPack's C(tensorrt).
      - Those that are there are linked into the environment; the rest of the system's modules stays out of it.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Install the agent
  fleet.commander.fleet_venv:
    digest: 9f2c11d4a0b37e55
    bundle: /opt/fleet/agent/agent-9f2c11d4a0b37e55.tar
    libraries:
      digest: 1d0c5a7f3be2946a
      bundle: /opt/fleet/agent/agent-libraries-1d0c5a7f3be2946a.tar
"""

RETURN = r"""
digest:
  description: The bundle in use.
  returned: success
  type: str
  sample: 9f2c11d4a0b37e55
"""

import glob
import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import Iterable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.node_disk import (
    CURRENT,
    LIBRARIES,
    in_use,
    leftovers,
    libraries_name,
)

PYTHON = "/usr/bin/python3"


class InstallFailed(Exception):
    """It could not be installed; the text is a sentence."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "default": "/opt/fleet/agent"},
            "digest": {"type": "str", "required": True},
            "bundle": {"type": "path", "required": True},
            "libraries": {
                "type": "dict",
                "options": {"digest": {"type": "str", "required": True}, "bundle": {"type": "path", "required": True}},
            },
            "system_modules": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    current = os.path.join(given["folder"], CURRENT)
    before = in_use(given["folder"])[0] or ""
    other = before != given["digest"]
    lacking = {} if other else links(current, given["system_modules"])
    changed = other or bool(lacking)
    if changed and not module.check_mode:
        try:
            if other:
                install(given["folder"], given["digest"], given["bundle"], given["libraries"], given["system_modules"])
            for path, target in lacking.items():
                os.symlink(target, path)
        except InstallFailed as error:
            module.fail_json(msg=str(error))
        except (OSError, tarfile.TarError) as error:
            module.fail_json(msg=f"The bundle cannot be installed: {error}; check the node's disk and run it again.")
    after = "".join(f"{line}\n" for line in (given["digest"], *sorted(lacking.values())))
    module.exit_json(changed=changed, digest=given["digest"], diff={"before": f"{before}\n", "after": after})


def links(place: str, names: list[str], system: str = "/usr/lib") -> dict[str, str]:
    """Return which of the system's modules an environment lacks: where the link goes, and where it leads."""
    found = {}
    for packages in glob.glob(os.path.join(place, "lib", "python3*", "site-packages")):
        python = os.path.basename(os.path.dirname(packages))
        for name in names:
            there = [os.path.join(system, each, "dist-packages", name) for each in (python, "python3")]
            target = next(filter(os.path.exists, there), None)
            if target is not None and not os.path.lexists(os.path.join(packages, name)):
                found[os.path.join(packages, name)] = target
    return found


def install(folder: str, digest: str, bundle: str, libraries: dict[str, str] | None, system_modules: list[str]) -> None:
    """Install a bundle and switch to it. Raises InstallFailed, OSError and TarError."""
    place, current = os.path.join(folder, digest), os.path.join(folder, CURRENT)
    if os.path.islink(current) and in_use(folder)[0] is None:
        os.unlink(current)  # what it leads to is made anew, and nothing must tell meanwhile that it is there
    tidy(folder, keep=[bundle] if libraries is None else [bundle, libraries["bundle"]])
    if libraries is not None and libraries["digest"] != in_use(folder)[1]:
        fill(os.path.join(folder, libraries_name(libraries["digest"])), libraries["bundle"])
    fill(place, bundle)
    if libraries is not None:
        see(place, libraries_name(libraries["digest"]))
    for path, target in links(place, system_modules).items():
        os.symlink(target, path)
    link = os.path.join(folder, ".current")
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(digest, link)
    os.replace(link, current)
    tidy(folder)


def fill(place: str, bundle: str) -> None:
    """Make an environment of what is in a file. Raises InstallFailed, OSError and TarError."""
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=os.path.dirname(place)) as unpacked:
        with tarfile.open(bundle) as tar:
            tar.extractall(unpacked)
        _run([PYTHON, "-m", "venv", place], "python3 -m venv failed; install python3-venv")
        python = os.path.join(place, "bin", "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-index", "--no-deps", "--no-cache-dir"]
        needed = os.path.join(unpacked, "requirements.txt")
        if os.path.exists(needed):
            wheels = os.path.join(unpacked, "wheels")
            _run([*pip, "--require-hashes", "--find-links", wheels, "-r", needed], "The wheels do not fit this machine")
        own = os.path.join(unpacked, "own")  # by their names, as pip would note the way to a file, which is another one each time
        if os.path.exists(own):
            names = sorted(name.split("-")[0] for name in os.listdir(own))
            _run([*pip, "--find-links", own, *names], "Fleet Commander's own wheels do not fit this machine")


def see(place: str, libraries: str) -> None:
    """Let an environment see another one's packages: by a path for Python's module ``site``, and by a link for us. Raises OSError.

    The path does not go by the link, which a process that still runs would lose with its environment.
    """
    for packages in glob.glob(os.path.join(place, "lib", "python3*", "site-packages")):
        path = os.path.join(os.path.dirname(place), libraries, os.path.relpath(packages, place))
        with open(os.path.join(packages, f"{LIBRARIES}.pth"), "w", encoding="utf-8") as file:
            file.write(os.path.relpath(path, packages) + "\n")
    os.symlink(os.path.join(os.pardir, libraries), os.path.join(place, LIBRARIES))


def tidy(folder: str, keep: Iterable[str] = ()) -> None:
    """Remove all but what is in use: older environments, and what is left of an installation that was cut off. Raises OSError."""
    kept = [os.path.basename(path) for path in keep]
    for path in leftovers(folder):
        if os.path.basename(path) not in kept:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def _run(words: list[str], what: str) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise InstallFailed("{}: {}.".format(what, " ".join(done.stdout.split())[-300:].rstrip(".")))


if __name__ == "__main__":
    main()
