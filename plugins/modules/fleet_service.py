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
            "timeout": {"type": "int", "default": 180},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    given["env"] = {str(key): str(value) for key, value in given["env"].items()}
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
        services.settle(given["name"], given["replicas"], given["timeout"])
    return bool(different)


def _told(service: dict[str, Any] | None) -> str:
    if service is None:
        return "absent\n"
    spec = service["Spec"]
    replicas = ((spec.get("Mode") or {}).get("Replicated") or {}).get("Replicas", 0)
    return f"{spec['TaskTemplate']['ContainerSpec']['Image'].partition('@')[0]}, {replicas} replicas\n"


def _about(image: str, given: dict[str, Any]) -> str:
    return "{}, {} replicas\n".format(image.partition("@")[0], given["replicas"])


if __name__ == "__main__":
    main()
