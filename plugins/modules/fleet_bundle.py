#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""What agent and control plane are installed from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_bundle
short_description: Make the file that an agent, its engine or a control plane is installed from
description:
  - Runs on the controller. Fetches the wheels for one kind of machine, by hash, and puts them and the wheels of our own in one file.
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
size_mib:
  description: The size of the file, in MiB; 0 where there is none yet, in check mode.
  returned: success
  type: int
  sample: 84
needs_mib:
  description: What installing it takes of a node's disk for a moment, in MiB; 0 for a control plane, of which it is not told.
  returned: success
  type: int
  sample: 900
path:
  description: The file on the controller.
  returned: success
  type: str
  sample: /home/alice/.fleet/cache/agent/agent-9f2c11d4a0b37e55.tar
"""

import os

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
    try:
        needed = bundle.requirements(bundle.lock_of(product, root, python_version), python_version, machine)
        digest = bundle.digest_of(needed, _packages(product, root), python_version, machine)
        path = os.path.join(given["cache"], f"{product}-{digest}.tar")
        there = os.path.exists(path)
        if given["wheelhouse"] and not os.path.isdir(given["wheelhouse"]):
            raise bundle.BundleFailed("The wheelhouse {} is no folder on the controller.".format(given["wheelhouse"]))
        if not module.check_mode:
            bundle.make(given["cache"], product, digest, needed, root, python_version, machine, given["wheelhouse"])
    except bundle.BundleFailed as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; check the controller's disk.")
    diff = {"before": "" if there else "no bundle\n", "after": "" if there else f"{path}\n"}
    size = os.path.getsize(path) >> 20 if os.path.exists(path) else 0
    module.exit_json(changed=False, digest=digest, path=path, size_mib=size, needs_mib=bundle.NEEDS_MIB.get(product, 0), diff=diff)


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
