#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""What an agent is installed from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_agent_bundle
short_description: Make the file that an agent is installed from
description:
  - Runs on the controller. Fetches the agent's wheels for one kind of node, by hash, and puts them and the worker's own wheel in one file.
  - Each kind of node costs the controller one fetch; a file that is there is used again. Nothing on a node is changed.
author:
  - Fleet Commander maintainers
options:
  python_version:
    description: The node's Python.
    type: str
    required: true
  machine:
    description: The node's architecture.
    type: str
    required: true
  worker:
    description: The folder of the worker's package, with the agent's locks.
    type: path
    required: true
  cache:
    description: Where the files are kept.
    type: path
    required: true
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Make the agent's bundle
  fleet.commander.fleet_agent_bundle:
    python_version: "3.8.10"
    machine: aarch64
    worker: gpu_inference
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
            "python_version": {"type": "str", "required": True},
            "machine": {"type": "str", "required": True},
            "worker": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    python_version, machine, worker = given["python_version"], given["machine"], given["worker"]
    try:
        needed = bundle.requirements(bundle.lock_of(worker, python_version), python_version, machine)
        digest = bundle.digest_of(needed, _package(worker), python_version, machine)
        path = os.path.join(given["cache"], f"agent-{digest}.tar")
        there = os.path.exists(path)
        if not module.check_mode:
            bundle.make(given["cache"], digest, needed, worker, python_version, machine)
    except bundle.BundleFailed as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; check the controller's disk.")
    diff = {"before": "" if there else "no bundle\n", "after": "" if there else f"{path}\n"}
    module.exit_json(changed=False, digest=digest, path=path, diff=diff)


def _package(worker: str) -> str:
    if os.path.exists(os.path.join(worker, "__init__.py")):
        return worker
    from importlib.util import find_spec

    found = find_spec("gpu_inference")
    if found is None or found.origin is None:
        raise bundle.BundleFailed("fleet-worker is not installed beside Fleet Commander; install it with: pip install fleet-worker.")
    return os.path.dirname(found.origin)


if __name__ == "__main__":
    main()
