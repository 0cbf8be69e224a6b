#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Users with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_account
short_description: Make a user so that it can be taken away again
description:
  - Makes a user, and adds it to groups; the node's ledger has what that changed, and O(state=restored) undoes exactly that.
  - A user that was there before stays, without the groups it was given.
author:
  - Fleet Commander maintainers
options:
  name:
    description: The user.
    type: str
    required: true
  state:
    description: Whether it shall be there, or the node be as it was found.
    type: str
    choices: [present, restored]
    default: present
  system:
    description: Whether it is a service's user, without a home.
    type: bool
    default: false
  home:
    description: Its home folder.
    type: path
  shell:
    description: Its shell. Left out, it cannot sign in.
    type: path
  groups:
    description: Groups that it shall be in, beside those it is in.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: A user for the agent
  fleet.commander.fleet_account:
    name: fleet-agent
    system: true
"""

RETURN = r"""
account:
  description: What the user was like.
  returned: success
  type: dict
  sample: {exists: false, uid: null, groups: []}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.accounts import Account, AccountFailed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
            "system": {"type": "bool", "default": False},
            "home": {"type": "path"},
            "shell": {"type": "path"},
            "groups": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    account = Account(given["name"])
    now = account.now
    try:
        if given["state"] == "present":
            changed = not now["exists"] or bool(account.missing(given["groups"]))
            after = {"exists": True, "groups": sorted({*now["groups"], *given["groups"]})}
            if changed and not module.check_mode:
                account.make(given["system"], given["home"], given["shell"], given["groups"])
        else:
            entry = account.entry
            changed = entry is not None
            after = {"exists": now["exists"] and (entry is None or entry["existed"]), "groups": []}
            if changed:
                after["groups"] = [group for group in now["groups"] if entry is None or group not in entry["joined"]]
                if not module.check_mode:
                    account.give_back()
            else:
                after["groups"] = now["groups"]
    except AccountFailed as error:
        module.fail_json(msg=str(error))
    before = {"exists": now["exists"], "groups": now["groups"]}
    module.exit_json(changed=changed, account=now, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
