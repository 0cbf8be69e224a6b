#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Secret files with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_secret_file
short_description: Bring a file of the controller's to the node, and show to nobody what is in it
description:
  - As M(fleet.commander.fleet_file), but the content comes from a file on the controller and is in no argument list, log or difference.
  - With O(merge) the file on the controller holds a JSON object whose keys are set in the node's file; the rest of that file stays.
author:
  - Fleet Commander maintainers
options:
  path:
    description: Which file on the node.
    type: path
    required: true
  source:
    description: Which file on the controller.
    type: path
  state:
    description: What shall be there.
    type: str
    choices: [present, restored]
    default: present
  merge:
    description: Whether only the keys of the JSON object in O(source) are Fleet Commander's.
    type: bool
    default: false
  content:
    description: What the file holds, in base64. The controller's part of this module fills it in.
    type: str
  mode:
    description: Its mode, as an octal text.
    type: str
    default: "0600"
  owner:
    description: Its user.
    type: str
    default: root
  group:
    description: Its group. Left out, it is that of O(owner).
    type: str
  folder_mode:
    description: The mode of folders that are made for it.
    type: str
    default: "0755"
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Bring the registry's key
  fleet.commander.fleet_secret_file:
    path: /etc/fleet/registry/registry.key
    source: ~/.fleet/registry/registry.key
    group: docker-registry
    mode: "0640"
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/fleet/registry/registry.key
"""

import base64
import grp
import json
import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import file_plans
from ansible_collections.fleet.commander.plugins.module_utils.files import NotOurs, Place, Stat


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "source": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
            "merge": {"type": "bool", "default": False},
            "content": {"type": "str", "no_log": True},
            "mode": {"type": "str", "default": "0600"},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str"},
            "folder_mode": {"type": "str", "default": "0755"},
        },
        required_if=[("state", "present", ["source", "content"])],
        supports_check_mode=True,
    )
    given = module.params
    try:
        place = Place(given["path"])
        now = place.now
        if given["state"] == "restored":
            wanted = _restore(module, place)
        else:
            wanted, note = _plan(module, place)
            if wanted != now and not module.check_mode:
                place.put(wanted, note, int(given["folder_mode"], 8))
    except NotOurs as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="{} cannot be written: {}.".format(error.filename or given["path"], error.strerror))
    module.exit_json(changed=wanted != now, path=place.path, diff=_diff(place.path, now, wanted))


def _plan(module: AnsibleModule, place: Place) -> tuple[Stat, dict[str, Any]]:
    given = module.params
    if place.now.kind == "directory":
        raise NotOurs(f"{place.path} is a folder, and a file is wanted there; move it out of the way.")
    mode, uid, gid = int(given["mode"], 8), *_ids(module)
    content = base64.b64decode(given["content"])
    if not given["merge"]:
        return file_plans.whole(content, mode, uid, gid)
    try:
        keys = json.loads(content)
    except ValueError:
        raise NotOurs("{} on the controller is not JSON.".format(given["source"])) from None
    return file_plans.keys(place.path, place.now, place.entry, keys, mode, uid, gid)


def _restore(module: AnsibleModule, place: Place) -> Stat:
    entry = place.entry
    if entry is None:
        return place.now
    wanted, edited = file_plans.restored(place.path, place.now, entry)
    if edited:
        module.warn(f"{place.path} was changed by somebody; it goes all the same, as it holds a secret of the fleet.")
    if not module.check_mode:
        place.give_back(wanted)
    return wanted


def _ids(module: AnsibleModule) -> tuple[int, int]:
    given = module.params
    try:
        account = pwd.getpwnam(given["owner"])
        return account.pw_uid, grp.getgrnam(given["group"]).gr_gid if given["group"] else account.pw_gid
    except KeyError as error:
        if not module.check_mode:
            module.fail_json(msg="{}: {} on this node.".format(given["path"], str(error).strip("\"'")))
        return os.getuid(), os.getgid()  # an earlier task would have made it


def _diff(path: str, now: Stat, wanted: Stat) -> dict[str, str]:
    sides = {"before_header": path, "after_header": path}
    if now == wanted:
        return {"before": "", "after": "", **sides}
    return {"before": _about(now, "as it was"), "after": _about(wanted, "another one"), **sides}


def _about(side: Stat, which: str) -> str:
    return "absent\n" if side.kind == "absent" else f"{side.kind} {side.mode:04o} {side.uid}:{side.gid}, {which}, not shown\n"


if __name__ == "__main__":
    main()
