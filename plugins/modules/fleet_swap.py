#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Swap with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_swap
short_description: Make a swap file so that it can be taken away again
description:
  - Makes a swap file, turns it on, and names it in C(/etc/fstab); O(state=restored) undoes all three.
author:
  - Fleet Commander maintainers
options:
  path:
    description: The swap file.
    type: path
    required: true
  size_mib:
    description: Its size in MiB.
    type: int
  state:
    description: Whether it shall be there, or the node be as it was found.
    type: str
    choices: [present, restored]
    default: present
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Make 8 GiB of swap on the NVMe disk
  fleet.commander.fleet_swap:
    path: /mnt/nvme/swap
    size_mib: 8192
"""

RETURN = r"""
size_mib:
  description: The swap file's size now.
  returned: success
  type: int
  sample: 8192
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import swap
from ansible_collections.fleet.commander.plugins.module_utils.file_plans import restored
from ansible_collections.fleet.commander.plugins.module_utils.files import NotOurs, Place
from ansible_collections.fleet.commander.plugins.module_utils.ledger import Ledger
from ansible_collections.fleet.commander.plugins.module_utils.node import read


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size_mib": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
        },
        required_if=[("state", "present", ["size_mib"])],
        supports_check_mode=True,
    )
    path, wanted = module.params["path"], module.params["size_mib"] or 0
    now = swap.size_mib(path)
    try:
        if module.params["state"] == "present":
            changed = now != wanted or not swap.in_use(path, read("/proc/swaps"))
            if changed and not module.check_mode:
                swap.make(path, wanted)
        else:
            changed, wanted = Ledger("swap").get(path) is not None, 0
            if changed and not module.check_mode:
                _take_away(path)
    except (swap.SwapFailed, NotOurs) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or path}: {error.strerror}; check the node's disk.")
    module.exit_json(changed=changed, size_mib=wanted, diff={"before": f"{now} MiB\n", "after": f"{wanted if changed else now} MiB\n"})


def _take_away(path: str) -> None:
    swap.off(path)
    fstab = Place(swap.FSTAB)
    if fstab.entry is not None:
        wanted, _ = restored(swap.FSTAB, fstab.now, fstab.entry)
        fstab.give_back(wanted)
    Ledger("swap").forget(path)


if __name__ == "__main__":
    main()
