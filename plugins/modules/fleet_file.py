#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Files and folders with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_file
short_description: Write a file so that the node can get back what it had
description:
  - Keeps what was there in the node's ledger before the first change; O(state=restored) gives it back.
  - With O(lines) or O(keys) only those are Fleet Commander's, and the rest of the file stays whoever else's it is.
  - Folders that are made for a file are taken away with it when they are empty.
author:
  - Fleet Commander maintainers
options:
  path:
    description: Which file or folder.
    type: path
    required: true
  state:
    description: What shall be there.
    type: str
    choices: [present, directory, restored]
    default: present
  content:
    description: All that the file shall hold.
    type: str
  lines:
    description: Lines that a text file shall hold.
    type: list
    elements: str
  keys:
    description: Keys that a JSON file's object shall hold.
    type: dict
  mode:
    description: Its mode, as an octal text. A file that is only in part ours keeps the one it has.
    type: str
  owner:
    description: Its user.
    type: str
  group:
    description: Its group. Left out, it is that of O(owner).
    type: str
  folder_mode:
    description: The mode of folders that are made for it; other than V(0755) they belong to O(owner).
    type: str
    default: "0755"
  validate:
    description: A command that must accept the new file before it is put in place; C(%s) stands for it.
    type: str
  purge:
    description: With V(restored), take a folder away with all that is in it, if it was not there before.
    type: bool
    default: false
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Bound the engine's logs, whatever else the file says
  fleet.commander.fleet_file:
    path: /etc/docker/daemon.json
    keys:
      log-opts: {max-size: 10m}

- name: Give the file back as it was
  fleet.commander.fleet_file:
    path: /etc/docker/daemon.json
    state: restored
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/docker/daemon.json
"""

import grp
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import file_plans
from ansible_collections.fleet.commander.plugins.module_utils.files import NotOurs, Place, Stat
from ansible_collections.fleet.commander.plugins.module_utils.leftovers import empty


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "directory", "restored"], "default": "present"},
            "content": {"type": "str"},
            "lines": {"type": "list", "elements": "str"},
            "keys": {"type": "dict", "no_log": False},
            "mode": {"type": "str"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "folder_mode": {"type": "str", "default": "0755"},
            "validate": {"type": "str"},
            "purge": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("content", "lines", "keys")],
        supports_check_mode=True,
    )
    given = module.params
    if given["state"] == "present" and all(given[name] is None for name in ("content", "lines", "keys")):
        module.fail_json(msg="fleet_file: give content, lines or keys for {}.".format(given["path"]))
    for mode in (given["mode"], given["folder_mode"]):
        if mode and not set(mode) <= set("01234567"):
            module.fail_json(msg=f"fleet_file: a mode must be an octal text such as '0644', and '{mode}' was given.")
    try:
        place = Place(given["path"])
        if given["state"] == "restored":
            _restore(module, place)
        else:
            _put(module, place)
    except NotOurs as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg="{} cannot be written: {}.".format(error.filename or given["path"], error.strerror))


def _put(module: AnsibleModule, place: Place) -> None:
    given, now, entry = module.params, place.now, place.entry
    partly = given["lines"] is not None or given["keys"] is not None
    mode, uid, gid = _attributes(module, now, partly)
    if given["state"] == "directory":
        if now.kind == "file":
            raise NotOurs(f"{place.path} is a file, and a folder is wanted there; move it out of the way.")
        wanted, note = file_plans.folder(mode, uid, gid)
    elif now.kind == "directory":
        raise NotOurs(f"{place.path} is a folder, and a file is wanted there; move it out of the way.")
    elif given["lines"] is not None:
        wanted, note = file_plans.lines(now, entry, given["lines"], mode, uid, gid)
    elif given["keys"] is not None:
        wanted, note = file_plans.keys(place.path, now, entry, given["keys"], mode, uid, gid)
    else:
        wanted, note = file_plans.whole(given["content"].encode("utf-8"), mode, uid, gid)
    changed = wanted != now
    if changed and given["validate"]:
        _validate(given["validate"], wanted.content or b"", place.path)
    if changed and not module.check_mode:
        place.put(wanted, note, int(given["folder_mode"], 8))
    module.exit_json(changed=changed, path=place.path, diff=_diff(place.path, now, wanted))


def _restore(module: AnsibleModule, place: Place) -> None:
    entry = place.entry
    if entry is None:
        module.exit_json(changed=False, path=place.path, diff={"before": "", "after": ""})
    wanted, edited = file_plans.restored(place.path, place.now, entry)
    # A folder that holds what others put there stays, and so does the mode they may rely on.
    if wanted.kind == "absent" and place.now.kind == "directory" and not module.params["purge"] and os.listdir(place.path):
        wanted = place.now
    changed = wanted != place.now
    if not module.check_mode:
        if edited:
            kept = place.path + ".before-retire"
            shutil.copy2(place.path, kept)
            module.warn(f"{place.path} was changed by somebody; that version is kept as {kept}.")
        if wanted.kind == "absent" and place.now.kind == "directory" and module.params["purge"]:
            empty(place.path)
        place.give_back(wanted)
    module.exit_json(changed=changed, path=place.path, diff=_diff(place.path, place.now, wanted))


def _attributes(module: AnsibleModule, now: Stat, partly: bool) -> tuple[int, int, int]:
    given = module.params
    there = now.kind != "absent"
    default = 0o755 if given["state"] == "directory" else 0o644
    mode = int(given["mode"], 8) if given["mode"] else (now.mode if there and (partly or given["state"] == "directory") else default)
    try:
        account = pwd.getpwnam(given["owner"]) if given["owner"] else None
        uid, gid = (account.pw_uid, account.pw_gid) if account else (now.uid, now.gid) if there and partly else (0, 0)
        gid = grp.getgrnam(given["group"]).gr_gid if given["group"] else gid
    except KeyError as error:
        if not module.check_mode:
            module.fail_json(msg="{}: {} on this node.".format(module.params["path"], str(error).strip("\"'")))
        uid, gid = -1, -1  # an earlier task would have made it
    return mode, uid, gid


def _validate(command: str, content: bytes, path: str) -> None:
    with tempfile.NamedTemporaryFile(prefix="fleet-") as file:
        file.write(content)
        file.flush()
        words = [word.replace("%s", file.name) for word in shlex.split(command)]
        try:
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        except OSError as error:
            raise NotOurs(f"{path} was left as it is: {words[0]} cannot be run ({error.strerror}).") from None
    if done.returncode:
        raise NotOurs("{} was left as it is: {} refused the new one: {}".format(path, words[0], " ".join(done.stdout.split())[:300]))


def _diff(path: str, now: Stat, wanted: Stat) -> dict[str, str]:
    sides = {"before_header": path, "after_header": path}
    if now.content is None and wanted.content is None:
        return {"before": f"{now.kind} {now.mode:04o}\n", "after": f"{wanted.kind} {wanted.mode:04o}\n", **sides}
    before, after = ((side.content or b"").decode("utf-8", "replace") for side in (now, wanted))
    if before == after and now[2:] != wanted[2:]:
        before, after = (f"{side.mode:04o} {side.uid}:{side.gid}\n" for side in (now, wanted))
    return {"before": before, "after": after, **sides}


if __name__ == "__main__":
    main()
