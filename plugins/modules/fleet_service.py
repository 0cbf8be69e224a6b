#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Services of a swarm."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_service
short_description: Run an image as a service of the swarm, and wait until it runs
description:
  - Runs on a manager of the swarm. A service that is as asked for is left alone.
  - Another image is brought by a rolling update; where anything else is to change, the service is made anew.
  - Ports are published on the nodes where it runs.
author:
  - Fleet Commander maintainers
options:
  name:
    description: What the service is called.
    type: str
    required: true
  image:
    description: The image; the nodes fetch it as root of this manager may.
    type: str
    default: ""
  replicas:
    description: How many tasks run.
    type: int
    default: 1
  cluster:
    description: Only on nodes with this label C(cluster); on all where it is empty.
    type: str
    default: ""
  env:
    description: Its environment.
    type: dict
    default: {}
  publish:
    description: Ports, such as V(8188:8188).
    type: list
    elements: str
    default: []
  command:
    description: The command, instead of the image's own.
    type: list
    elements: str
    default: []
  gpus:
    description: How many GPUs each task gets, by the generic resource C(NVIDIA-GPU).
    type: int
    default: 0
  mode:
    description: V(replicated) runs O(replicas) tasks, V(global) one on each node that fits.
    type: str
    choices: [replicated, global]
    default: replicated
  constraints:
    description: Where it may run, such as V(node.labels.disk==fast).
    type: list
    elements: str
    default: []
  mounts:
    description: What its containers see of a node. A V(source) that is a path is a folder or a file of the node, else a volume.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: The path or the volume.
        type: str
        required: true
      target:
        description: Where the containers see it.
        type: str
        required: true
      read_only:
        description: Whether they may only read it.
        type: bool
        default: false
  user:
    description: As whom it runs, such as V(998:996), instead of the image's own user.
    type: str
    default: ""
  groups:
    description: Further groups of that user.
    type: list
    elements: str
    default: []
  networks:
    description: Networks of the swarm, or V(host) for the node's own.
    type: list
    elements: str
    default: []
  stop_grace:
    description: Seconds that a container may take to end; 0 is Docker's ten.
    type: int
    default: 0
  memory_mib:
    description: Memory that each task may take, in MiB; 0 is no limit.
    type: int
    default: 0
  labels:
    description: Further labels of the service.
    type: dict
    default: {}
  timeout:
    description: Seconds within which it must run.
    type: int
    default: 180
  state:
    description: Whether it shall run.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Run it
  fleet.commander.fleet_service:
    name: comfyui
    image: 192.0.2.10:5000/comfyui:latest
    cluster: vision
    gpus: 1

- name: Run one on each node that has the label
  fleet.commander.fleet_service:
    name: exporter
    image: 192.0.2.10:5000/exporter:v1
    mode: global
    constraints: [node.labels.nvidia==true]
    mounts:
      - {source: /srv/figures, target: /figures, read_only: true}
    networks: [host]
"""

RETURN = r"""
service_id:
  description: The service, or null where there is none.
  returned: success
  type: str
  sample: 9mnpnzenvg8p8tdbtq4wvbkcz
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import services
from ansible_collections.fleet.commander.plugins.module_utils.images import ImageFailed

MOUNT = {
    "source": {"type": "str", "required": True},
    "target": {"type": "str", "required": True},
    "read_only": {"type": "bool", "default": False},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "image": {"type": "str", "default": ""},
            "replicas": {"type": "int", "default": 1},
            "cluster": {"type": "str", "default": ""},
            "env": {"type": "dict", "default": {}, "no_log": True},
            "publish": {"type": "list", "elements": "str", "default": []},
            "command": {"type": "list", "elements": "str", "default": []},
            "gpus": {"type": "int", "default": 0},
            "mode": {"type": "str", "choices": ["replicated", "global"], "default": "replicated"},
            "constraints": {"type": "list", "elements": "str", "default": []},
            "mounts": {"type": "list", "elements": "dict", "default": [], "options": MOUNT},
            "user": {"type": "str", "default": ""},
            "groups": {"type": "list", "elements": "str", "default": []},
            "networks": {"type": "list", "elements": "str", "default": []},
            "stop_grace": {"type": "int", "default": 0},
            "memory_mib": {"type": "int", "default": 0},
            "labels": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 180},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    for name in ("env", "labels"):
        given[name] = {str(key): str(value) for key, value in given[name].items()}
    try:
        before = services.look(given["name"])
        if given["state"] == "absent":
            changed = before is not None
            if changed and not module.check_mode:
                services.remove(given["name"])
            after = None
        else:
            changed = _bring(module, before)
            after = services.look(given["name"]) if not module.check_mode else before
    except ImageFailed as error:
        module.fail_json(msg=str(error))
    wanted = "absent\n" if given["state"] == "absent" else _about(given["image"], given)
    diff = {"before": _told(before) if changed else "", "after": wanted if changed else ""}
    module.exit_json(changed=changed, service_id=after["ID"] if after else None, diff=diff)


def _bring(module: AnsibleModule, before: dict[str, Any] | None) -> bool:
    given = module.params
    if not given["image"]:
        module.fail_json(msg="fleet_service: name the image.")
    different = ["service"] if before is None else services.differences(before, given, services.local_digest(given["image"]))
    if module.check_mode:
        return bool(different)
    if different == ["image"]:
        services.update(given)
    elif different:
        if before is not None:
            services.remove(given["name"])
        services.create(given)
    if different:
        services.settle(given["name"], None if given["mode"] == services.GLOBAL else given["replicas"], given["timeout"])
    return bool(different)


def _told(service: dict[str, Any] | None) -> str:
    if service is None:
        return "absent\n"
    spec = service["Spec"]
    mode = spec.get("Mode") or {}
    where = "on each node" if "Global" in mode else "{} replicas".format((mode.get("Replicated") or {}).get("Replicas", 0))
    return "{}, {}\n".format(spec["TaskTemplate"]["ContainerSpec"]["Image"].partition("@")[0], where)


def _about(image: str, given: dict[str, Any]) -> str:
    where = "on each node" if given["mode"] == services.GLOBAL else "{} replicas".format(given["replicas"])
    return "{}, {}\n".format(image.partition("@")[0], where)


if __name__ == "__main__":
    main()
