#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""What agent and control plane are installed from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_bundle
short_description: Make the files that an agent, its engine or a control plane is installed from
description:
  - Runs on the controller. Fetches the wheels for one kind of machine, by hash, and packs them and the wheels of our own.
  - For a node they are two files, as only the second, of 17 MB, changes with each release; for a control plane they are one.
  - Each kind of machine costs the controller one fetch; a file that is there is used again. Nothing on a node is changed.
author:
  - Fleet Commander maintainers
options:
  product:
    description:
      - What is to be installed; V(engine) is the agent and what its engine needs, V(engine_cuda) the same with PyTorch for CUDA (4 GB).
    type: str
    choices: [agent, engine, engine_cuda, control_plane]
    default: agent
  python_version:
    description: The machine's Python.
    type: str
    required: true
  machine:
    description: The machine's architecture.
    type: str
    required: true
  root:
    description: The folder of the collection; in a checkout, the checkout.
    type: path
    required: true
  cache:
    description: Where the files are kept.
    type: path
    required: true
  wheelhouse:
    description: A folder of wheels on the controller. With it no package index is asked.
    type: path
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Make the agent's bundle
  fleet.commander.fleet_bundle:
    python_version: "3.8.10"
    machine: aarch64
    root: .
    cache: ~/.fleet/cache/agent
  delegate_to: localhost
  become: false
"""

RETURN = r"""
digest:
  description: What tells this bundle from another.
  returned: success
  type: str
  sample: 9f2c11d4a0b37e55
files:
  description:
    - The files on the controller, as C(digest), C(path), C(size_mib) and C(needs_mib); first the libraries, if they are apart.
    - C(size_mib) is 0 where there is none yet, in check mode. C(needs_mib) is what installing it takes of a node's disk for a moment,
      and 0 for a control plane, of which it is not told.
  returned: success
  type: list
  elements: dict
  sample:
    - digest: 1d0c5a7f3be2946a
      path: /home/alice/.fleet/cache/agent/agent-libraries-1d0c5a7f3be2946a.tar
      size_mib: 3
      needs_mib: 200
    - digest: 9f2c11d4a0b37e55
      path: /home/alice/.fleet/cache/agent/agent-9f2c11d4a0b37e55.tar
      size_mib: 16
      needs_mib: 100
"""

import os
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import bundle


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "product": {"type": "str", "choices": ["agent", "engine", "engine_cuda", "control_plane"], "default": "agent"},
            "python_version": {"type": "str", "required": True},
            "machine": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
            "wheelhouse": {"type": "path"},
        },
        supports_check_mode=True,
    )
    given = module.params
    product, root, python_version, machine = (given[name] for name in ("product", "root", "python_version", "machine"))
    cache, wheelhouse = given["cache"], given["wheelhouse"]
    try:
        needed = bundle.requirements(bundle.lock_of(product, root, python_version), python_version, machine)

        def fill(holds: tuple[str, ...], folder: str) -> None:
            if "libraries" in holds:
                bundle.add_libraries(folder, cache, product, needed, python_version, machine, wheelhouse)
            if "own" in holds:
                bundle.add_own(folder, product, root)

        digest = bundle.digest_of(needed, _packages(product, root), python_version, machine)
        libraries = bundle.digest_of(needed, [], python_version, machine)
        if wheelhouse and not os.path.isdir(wheelhouse):
            raise bundle.BundleFailed(f"The wheelhouse {wheelhouse} is no folder on the controller.")
        files, made = [], []
        for part in parts(product, digest, libraries):
            path = os.path.join(cache, part["name"])
            if not os.path.exists(path):
                made.append(path)
            if not module.check_mode:
                bundle.make(cache, part["name"], partial(fill, part["holds"]))
            size = os.path.getsize(path) >> 20 if os.path.exists(path) else 0
            files.append({"digest": part["digest"], "path": path, "size_mib": size, "needs_mib": part["needs_mib"]})
    except bundle.BundleFailed as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; check the controller's disk.")
    diff = {"before": "no bundle\n" if made else "", "after": "".join(f"{path}\n" for path in made)}
    module.exit_json(changed=False, digest=digest, files=files, diff=diff)


def parts(product: str, digest: str, libraries: str) -> list[dict[str, Any]]:
    """Return the files of a bundle, given its digest and that of its libraries: name, what it holds, digest, and MiB that it needs."""
    if product not in bundle.APART:
        return [{"name": f"{product}-{digest}.tar", "holds": ("libraries", "own"), "digest": digest, "needs_mib": 0}]
    needs = bundle.NEEDS_MIB[product]
    return [
        {"name": f"{product}-libraries-{libraries}.tar", "holds": ("libraries",), "digest": libraries, "needs_mib": needs},
        {"name": f"{product}-{digest}.tar", "holds": ("own",), "digest": digest, "needs_mib": bundle.OWN_NEEDS_MIB},
    ]


def _packages(product: str, root: str) -> list[str]:
    names = list(bundle.SHIPPED) if product == "control_plane" else ["gpu_inference"]
    return [_package(name, os.path.join(root, name)) for name in names]


def _package(name: str, folder: str) -> str:
    if name not in ("fleet_api", "gpu_inference") or os.path.exists(os.path.join(folder, "__init__.py")):
        return folder
    from importlib.util import find_spec

    found = find_spec(name)
    if found is None or found.origin is None:
        raise bundle.BundleFailed(f"{name} is not installed on the controller; install Fleet Commander there.")
    return os.path.dirname(found.origin)


if __name__ == "__main__":
    main()
