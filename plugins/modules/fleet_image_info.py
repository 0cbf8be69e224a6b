#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""An image as its registry has it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_image_info
short_description: Tell under which digest a registry has an image
description:
  - Asks the registry through the node's engine, which must trust it, with root's sign-in.
  - That it has no such image is an answer, not a failure.
author:
  - Fleet Commander maintainers
options:
  name:
    description: The image, with its registry and tag.
    type: str
    required: true
extends_documentation_fragment:
  - fleet.commander.attributes.info
"""

EXAMPLES = r"""
- name: Look which image that is
  fleet.commander.fleet_image_info:
    name: 192.0.2.10:5000/fleet-agent:jetpack6
  register: found
"""

RETURN = r"""
image:
  description: What the registry has.
  returned: success
  type: dict
  contains:
    digest:
      description: Its digest, or null where there is no such image.
      type: str
      sample: sha256:0d6b1c4a
    pinned:
      description: The image with its digest, or null.
      type: str
      sample: 192.0.2.10:5000/fleet-agent:jetpack6@sha256:0d6b1c4a
    platforms:
      description: For which platforms it is.
      type: list
      elements: str
      sample: [linux/arm64]
"""

import base64
import json
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import swarm
from ansible_collections.fleet.commander.plugins.module_utils.node import read

SIGN_IN = "/root/.docker/config.json"
MISSING = ("manifest unknown", "name unknown", "not found", "no such image")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"name": {"type": "str", "required": True}}, supports_check_mode=True)
    name = module.params["name"].partition("@")[0]
    found = {"digest": None, "pinned": None, "platforms": []}
    try:
        header = {"X-Registry-Auth": sign_in(read(SIGN_IN), name.partition("/")[0])}
        told = swarm.ask("GET", f"/distribution/{quote(module.params['name'], safe='/:@')}/json", headers=header)
    except swarm.SwarmFailed as error:
        if not any(words in str(error).lower() for words in MISSING):
            module.fail_json(msg=f"The registry could not be asked for {module.params['name']}. {error}")
    else:
        digest = told["Descriptor"]["digest"]
        platforms = ["{}/{}".format(each.get("os"), each.get("architecture")) for each in told.get("Platforms") or []]
        found = {"digest": digest, "pinned": f"{name}@{digest}", "platforms": platforms}
    module.exit_json(changed=False, image=found)


def sign_in(config: str, registry: str) -> str:
    """Return root's sign-in to a registry as the engine takes it, an empty one where there is none. Pure."""
    try:
        kept = base64.b64decode(json.loads(config)["auths"][registry]["auth"]).decode("utf-8")
        user, _, password = kept.partition(":")
        said = {"username": user, "password": password, "serveraddress": registry}
    except (ValueError, KeyError, TypeError):
        said = {}
    return base64.urlsafe_b64encode(json.dumps(said).encode("utf-8")).decode("ascii")


if __name__ == "__main__":
    main()
