#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""How the agent of a node runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_agent_info
short_description: Tell as whom and with which settings the agent of a node runs
description:
  - What a container needs that is to be the same agent.
author:
  - Fleet Commander maintainers
options:
  user:
    description: The agent's user.
    type: str
    default: fleet-agent
  groups:
    description: Groups that it has beside its own; those that are not there are left out.
    type: list
    elements: str
    default: []
  settings:
    description: Files with the agent's settings, the later ones win.
    type: list
    elements: path
    default: [/etc/fleet/agent.env]
extends_documentation_fragment:
  - fleet.commander.attributes.info
"""

EXAMPLES = r"""
- name: Look at the agent
  fleet.commander.fleet_agent_info:
    groups: [video, render]
  register: found
"""

RETURN = r"""
agent:
  description: What is known of it.
  returned: success
  type: dict
  contains:
    uid:
      description: Its user's number; -1 where there is no such user.
      type: int
      sample: 998
    gid:
      description: Its group's number; -1 where there is no such user.
      type: int
      sample: 996
    groups:
      description: Numbers of the further groups.
      type: list
      elements: int
      sample: [44, 105]
    settings:
      description: Its settings, C(FLEET_AGENT_*), without an enrolment token.
      type: dict
      sample: {FLEET_AGENT_LOG: info}
    tegrastats:
      description: Where NVIDIA's C(tegrastats) is, or an empty text.
      type: str
      sample: /usr/bin/tegrastats
"""

import grp
import pwd
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.agent_settings import FILES, settings
from ansible_collections.fleet.commander.plugins.module_utils.node import PATH


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "default": "fleet-agent"},
            "groups": {"type": "list", "elements": "str", "default": []},
            "settings": {"type": "list", "elements": "path", "default": FILES[:1]},
        },
        supports_check_mode=True,
    )
    given = module.params
    known = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    try:
        account = pwd.getpwnam(given["user"])
        uid, gid = account.pw_uid, account.pw_gid
    except KeyError:
        uid = gid = -1
    found = {
        "uid": uid,
        "gid": gid,
        "groups": [known[name] for name in given["groups"] if name in known],
        "settings": {name: value for name, value in settings(given["settings"]).items() if name != "FLEET_AGENT_TOKEN"},
        "tegrastats": shutil.which("tegrastats", path=PATH) or "",
    }
    module.exit_json(changed=False, agent=found)


if __name__ == "__main__":
    main()
