#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""An image that a node has of a registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_pulled_image
short_description: Have an image of a registry on a node, with a way back
description:
  - Notes in the node's ledger which images it pulled; V(only) and V(absent) take no others away.
author:
  - Fleet Commander maintainers
options:
  name:
    description: The image with its digest.
    type: str
    default: ""
  state:
    description: V(present) pulls it where it is missing, V(only) takes away others that this module pulled, V(absent) all that it pulled.
    type: str
    choices: [present, only, absent]
    default: present
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Have the image there before it is needed
  fleet.commander.fleet_pulled_image:
    name: 192.0.2.10:5000/fleet-agent:jetpack6@sha256:0d6b1c4a
"""

RETURN = r"""
pulled:
  description: The images that this module pulled, and that are there.
  returned: success
  type: list
  elements: str
  sample: [192.0.2.10:5000/fleet-agent@sha256:0d6b1c4a]
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import images
from ansible_collections.fleet.commander.plugins.module_utils.images import ImageFailed
from ansible_collections.fleet.commander.plugins.module_utils.ledger import Ledger

IN_USE_SECONDS = 20.0
"""How long a container that has just ended may hold its image."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["present", "only", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["name"]), ("state", "only", ["name"])],
        supports_check_mode=True,
    )
    name, state, ledger = by_digest(module.params["name"]), module.params["state"], Ledger("image")
    before = ledger.names()
    try:
        if state == "present":
            missing = images.inspect(name) is None
            after = sorted({*before, name}) if missing else before
            if missing and not module.check_mode:
                ledger.note(name, {"kind": "absent"})
                pull(name)
            changed = missing
        else:
            after = [each for each in before if state == "only" and each == name]
            changed = after != before
            if not module.check_mode:
                for each in sorted(set(before) - set(after)):
                    remove(each)
                    ledger.forget(each)
    except ImageFailed as error:
        module.fail_json(msg=str(error))
    diff = {"before": _lines(before), "after": _lines(after)} if changed else {"before": "", "after": ""}
    module.exit_json(changed=changed, pulled=after, diff=diff)


def by_digest(name: str) -> str:
    """Return an image's name without its tag, as the engine keeps what it pulled by a digest. Pure."""
    place, at, digest = name.partition("@")
    host, slash, path = place.rpartition("/")
    return host + slash + path.partition(":")[0] + at + digest if at else name


def pull(name: str) -> None:
    """Pull an image. Raises ImageFailed."""
    done = images.docker("pull", "--quiet", name)
    if done.returncode:
        raise ImageFailed(f"{name} was not pulled: {images.last_word(done.stdout)}")


def remove(name: str) -> None:
    """Remove an image, once no container holds it. Raises ImageFailed."""
    deadline = time.monotonic() + IN_USE_SECONDS
    while True:
        try:
            return images.remove(name)
        except ImageFailed as error:
            if "conflict" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _lines(names: list[str]) -> str:
    return "".join(name + "\n" for name in names)


if __name__ == "__main__":
    main()
