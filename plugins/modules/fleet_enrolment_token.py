#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""A token with which one node may join, made on the manager."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_enrolment_token
short_description: Make an enrolment token on a manager
description:
  - Asks the command C(fleet) of a control plane that runs as a service for a token. Run it on the manager, for a node that is not enrolled.
  - What it returns is registered and never shown.
author:
  - Fleet Commander maintainers
options:
  node_id:
    description: The only node that the token is good for.
    type: str
    required: true
  minutes:
    description: How long it is good for.
    type: int
    default: 10
  program:
    description: The command, as role control_plane installs it.
    type: path
    default: /usr/local/bin/fleet
extends_documentation_fragment:
  - fleet.commander.attributes.ONCE
"""

EXAMPLES = r"""
- name: Make a token
  fleet.commander.fleet_enrolment_token:
    node_id: agx0
  delegate_to: manager
  register: made
"""

RETURN = r"""
token:
  description: The token, or an empty text in check mode.
  returned: success
  type: str
  sample: fleet-token_...
"""

import json

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"type": "str", "required": True},
            "minutes": {"type": "int", "default": 10},
            "program": {"type": "path", "default": "/usr/local/bin/fleet"},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=True, token="")
    words = [given["program"], "enrol", given["node_id"], "--minutes", str(given["minutes"]), "--json"]
    code, out, wrong = module.run_command(words, handle_exceptions=False) if module.get_bin_path(given["program"]) else (127, "", "")
    if code != 0:
        why = wrong.strip() or f"there is no {given['program']}; run the playbook control_plane on it first"
        module.fail_json(msg=f"The manager made no enrolment token for {given['node_id']}: {why}")
    try:
        token = str(json.loads(out)["token"])
    except (ValueError, KeyError, TypeError):
        module.fail_json(msg=f"The manager made no enrolment token for {given['node_id']}: its command answered something else.")
    module.exit_json(changed=True, token=token)


if __name__ == "__main__":
    main()
