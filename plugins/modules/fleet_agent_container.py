#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Containers that an agent ran in, away from its node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_agent_container
short_description: Wait until no container of the agent runs on a node, and remove those that have ended
description:
  - For a node that M(fleet.commander.fleet_agent_service) has taken the agent's service from. Nothing is stopped, Swarm does that.
author:
  - Fleet Commander maintainers
options:
  keep:
    description: A service whose containers stay as they are.
    type: str
    default: ""
  seconds:
    description: How long they may take to end.
    type: int
    default: 180
  state:
    description: What becomes of them.
    type: str
    choices: [absent]
    default: absent
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Wait until the container has ended
  fleet.commander.fleet_agent_container:
    seconds: 60
"""

RETURN = r"""
removed:
  description: The containers that were removed, or would be.
  returned: success
  type: list
  elements: str
  sample: [bf98127387e4]
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.images import ImageFailed, docker, last_word

PREFIX = "fleet-agent-"
FORMAT = '{{.ID}} {{.Label "com.docker.swarm.service.name"}}'
LOOK_SECONDS = 0.5


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "keep": {"type": "str", "default": ""},
            "seconds": {"type": "int", "default": 180},
            "state": {"type": "str", "choices": ["absent"], "default": "absent"},
        },
        supports_check_mode=True,
    )
    keep, deadline = module.params["keep"], time.monotonic() + module.params["seconds"]
    try:
        found = containers(keep, "-a")
        while not module.check_mode and containers(keep):
            if time.monotonic() > deadline:
                module.fail_json(
                    msg="The agent's container has not ended after {} s; see 'docker ps' on the node.".format(module.params["seconds"])
                )
            time.sleep(LOOK_SECONDS)
        for each in found if not module.check_mode else []:
            docker("rm", "--volumes", each)  # Swarm may have done it
        left = [] if module.check_mode else containers(keep, "-a")
    except ImageFailed as error:
        module.fail_json(msg=str(error))
    if left:
        module.fail_json(msg="Containers of the agent were not removed: {}; see 'docker ps -a' on the node.".format(", ".join(left)))
    lines = "".join(each + "\n" for each in found)
    module.exit_json(changed=bool(found), removed=found, diff={"before": lines, "after": ""})


def containers(keep: str, *words: str) -> list[str]:
    """Return the containers of the agent's services: those that run, or all with ``-a``. Raises ImageFailed."""
    done = docker("ps", *words, "--no-trunc", "--format", FORMAT)
    if done.returncode:
        raise ImageFailed(f"The engine does not answer: {last_word(done.stdout)}")
    return chosen(done.stdout, keep)


def chosen(said: str, keep: str) -> list[str]:
    """Return the ids of the agent's containers, by what the engine lists. Pure."""
    rows = [line.split(" ", 1) for line in said.splitlines() if " " in line]
    return [row[0] for row in rows if row[1].startswith(PREFIX) and row[1] != keep]


if __name__ == "__main__":
    main()
