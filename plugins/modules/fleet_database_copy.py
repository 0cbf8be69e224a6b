#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""A copy of the control plane's database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_database_copy
short_description: Copy the control plane's database while it runs
description:
  - Makes one consistent copy a O(reason), in C(backups) of the data folder, and removes the oldest beyond O(keep).
author:
  - Fleet Commander maintainers
options:
  home:
    description: The data folder.
    type: path
    required: true
  reason:
    description: What the copy is for, such as the version that comes; it is part of the copy's name.
    type: str
    required: true
  keep:
    description: How many copies are kept.
    type: int
    default: 5
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Copy the database before an upgrade
  fleet.commander.fleet_database_copy:
    home: /var/lib/fleet-commander
    reason: 9f2c11d4a0b37e55
"""

RETURN = r"""
path:
  description: The copy, or null where there is no database yet.
  returned: success
  type: str
  sample: /var/lib/fleet-commander/backups/fleet-before-9f2c11d4a0b37e55.db
"""

import os
import sqlite3
from contextlib import closing

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "reason": {"type": "str", "required": True},
            "keep": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    home, keep = module.params["home"], max(1, module.params["keep"])
    source = os.path.join(home, "fleet.db")
    name = "fleet-before-{}.db".format("".join(letter for letter in module.params["reason"] if letter.isalnum() or letter in "-_"))
    copy = os.path.join(home, "backups", name)
    if not os.path.exists(source):
        module.exit_json(changed=False, path=None, diff={"before": "", "after": ""})
    changed = not os.path.exists(copy)
    if changed and not module.check_mode:
        try:
            make(source, copy)
            prune(os.path.dirname(copy), keep)
        except (OSError, sqlite3.Error) as error:
            module.fail_json(msg=f"The database {source} cannot be copied: {error}; nothing was upgraded. Check the disk and run it again.")
    module.exit_json(changed=changed, path=copy, diff={"before": "", "after": f"{copy}\n" if changed else ""})


def make(source: str, copy: str) -> None:
    """Copy a database as of one moment, for the owner of its folder alone. Raises OSError and sqlite3.Error."""
    owner = os.stat(source)
    os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
    os.chown(os.path.dirname(copy), owner.st_uid, owner.st_gid)
    part = copy + ".part"
    try:
        with closing(sqlite3.connect(source, timeout=30)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
        os.chmod(part, 0o600)
        os.chown(part, owner.st_uid, owner.st_gid)
        os.replace(part, copy)
    finally:
        if os.path.exists(part):
            os.unlink(part)


def prune(folder: str, keep: int) -> None:
    """Remove the oldest copies beyond ``keep``. Raises OSError."""
    copies = [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("fleet-before-") and name.endswith(".db")]
    for path in sorted(copies, key=os.path.getmtime)[:-keep]:
        os.unlink(path)


if __name__ == "__main__":
    main()
