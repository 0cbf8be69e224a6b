#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""The agent of one node as a container of the swarm."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_agent_service
short_description: Run the agent of one node as a task of the swarm, and wait until it runs
description:
  - Runs on a manager, about one member. Members with the same options share a service that runs one task on each node whose label
    C(fleet.inference) names it; the service is made where it is missing, and removed where no label names it.
  - A service is never changed. With another image or other settings a node gets another label, and other nodes stay as they are.
  - Two agents cannot work on one state folder; take one that runs otherwise away first, by V(absent) and
    M(fleet.commander.fleet_agent_container).
  - The container is in the network of its node.
author:
  - Fleet Commander maintainers
options:
  node_id:
    description: Docker's id of the member.
    type: str
    required: true
  image:
    description: The image with its digest.
    type: str
  env:
    description: Its environment. It can be seen in the swarm, and is no place for secrets.
    type: dict
    default: {}
  mounts:
    description: What the container sees of the node, as for M(fleet.commander.fleet_service).
    type: list
    elements: dict
    default: []
  folders:
    description: Folders of the node that the container may read, at the same path.
    type: list
    elements: path
    default: []
  user:
    description: As whom it runs, as numbers.
    type: str
    default: ""
  groups:
    description: Further groups of that user, as numbers.
    type: list
    elements: str
    default: []
  gpus:
    description: How many of the node's generic resources C(NVIDIA-GPU) it takes.
    type: int
    default: 0
  memory_mib:
    description: Memory that it may take, in MiB; 0 is no limit.
    type: int
    default: 0
  stop_grace:
    description: Seconds that it may take to end.
    type: int
    default: 10
  seconds:
    description: How long it may take until a container runs.
    type: int
    default: 300
  state:
    description: Whether the node's agent shall run so.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Run the node's agent in a container
  fleet.commander.fleet_agent_service:
    node_id: q5pl7lb0r0szqdxm5qzl1x0gn
    image: 192.0.2.10:5000/fleet-agent:jetpack6@sha256:0d6b1c4a
    user: "998:996"
    mounts:
      - {source: /var/lib/fleet-agent, target: /var/lib/fleet-agent}
  delegate_to: manager
"""

RETURN = r"""
service:
  description: The service that runs it, or an empty text.
  returned: success
  type: str
  sample: fleet-agent-5d41402abc4b
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import agent_services, services, swarm
from ansible_collections.fleet.commander.plugins.module_utils.agent_services import PREFIX
from ansible_collections.fleet.commander.plugins.module_utils.images import ImageFailed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"type": "str", "required": True},
            "image": {"type": "str"},
            "env": {"type": "dict", "default": {}},
            "mounts": {"type": "list", "elements": "dict", "default": []},
            "folders": {"type": "list", "elements": "path", "default": []},
            "user": {"type": "str", "default": ""},
            "groups": {"type": "list", "elements": "str", "default": []},
            "gpus": {"type": "int", "default": 0},
            "memory_mib": {"type": "int", "default": 0},
            "stop_grace": {"type": "int", "default": 10},
            "seconds": {"type": "int", "default": 300},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["image"])],
        supports_check_mode=True,
    )
    given = module.params
    given["env"] = {str(name): str(value) for name, value in given["env"].items()}
    try:
        if given["state"] == "absent":
            _leave(module)
        else:
            _bring(module)
    except (agent_services.TaskFailed, ImageFailed, swarm.SwarmFailed) as error:
        module.fail_json(msg=str(error))


def _bring(module: AnsibleModule) -> None:
    given = module.params
    service = agent_services.wanted(given)
    before = agent_services.label_of(agent_services.member(given["node_id"]))
    changed = before != service["mark"] or services.look(service["name"]) is None
    if not module.check_mode:
        if changed:
            agent_services.bring(given["node_id"], service, given["seconds"])
        else:
            old = agent_services.ids_of(service["mark"], given["node_id"])
            agent_services.steady(given["node_id"], service["mark"], old, given["seconds"])
    _done(module, changed, before, service["mark"], service["image"])


def _leave(module: AnsibleModule) -> None:
    raw = swarm.member(module.params["node_id"])
    before = agent_services.label_of(raw) if raw is not None else ""
    if before and not module.check_mode:
        agent_services.leave(module.params["node_id"])
    _done(module, bool(before), before, "", "")


def _done(module: AnsibleModule, changed: bool, before: str, after: str, image: str) -> None:
    diff: dict[str, Any] = {"before": "", "after": ""}
    if changed:
        diff = {"before": PREFIX + before + "\n" if before else "absent\n", "after": f"{PREFIX}{after}, {image}\n" if after else "absent\n"}
    module.exit_json(changed=changed, service=PREFIX + after if after else "", diff=diff)


if __name__ == "__main__":
    main()
