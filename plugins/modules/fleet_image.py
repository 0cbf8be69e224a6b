#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Images built on nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_image
short_description: Build an image on a node from a folder of the controller's, and push it
description:
  - An image says in its label C(fleet.source) what it was built from. The same folder, arguments and platform build nothing anew.
  - C(.dockerignore) holds. Nothing of the folder stays on the node.
  - Values of O(args) are in the image's history, as with every build; they are no place for secrets.
author:
  - Fleet Commander maintainers
options:
  name:
    description: What the image is called, with its registry and tag, such as V(192.0.2.10:5000/my-service:v1).
    type: str
    required: true
  context:
    description: The folder on the controller.
    type: path
  dockerfile:
    description: The Dockerfile in it.
    type: str
    default: Dockerfile
  args:
    description: Values of the Dockerfile's ARGs.
    type: dict
    default: {}
  platform:
    description: The platform, such as V(linux/arm64). Left out, it is the engine's own.
    type: str
    default: ""
  push:
    description: Whether the registry in its name gets it.
    type: bool
    default: false
  state:
    description: Whether it shall be there. V(absent) takes away only what this module built.
    type: str
    choices: [present, absent]
    default: present
  source:
    description: What tells this folder, these arguments and this platform from others. The controller's part of this module fills it in.
    type: str
    default: ""
  archive:
    description: The packed folder on the node. The controller's part of this module fills it in.
    type: path
    default: ""
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Build the agent's image
  fleet.commander.fleet_image:
    name: 192.0.2.10:5000/fleet-agent:jetpack6
    context: .
    dockerfile: gpu_inference/images/jetpack6.Dockerfile
    push: true
"""

RETURN = r"""
image_id:
  description: The image, or null where there is none.
  returned: success
  type: str
  sample: sha256:5a5ff47b2f2d
digest:
  description: Under which digest the registry has it, or an empty text.
  returned: success
  type: str
  sample: sha256:0d6b1c4a
"""

import shutil
import tarfile
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils import images
from ansible_collections.fleet.commander.plugins.module_utils.images import ImageFailed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "context": {"type": "path"},
            "dockerfile": {"type": "str", "default": "Dockerfile"},
            "args": {"type": "dict", "default": {}},
            "platform": {"type": "str", "default": ""},
            "push": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "source": {"type": "str", "default": ""},
            "archive": {"type": "path", "default": ""},
        },
        required_if=[("state", "present", ["context"])],
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "absent":
            _remove(module)
        else:
            _bring(module)
    except ImageFailed as error:
        module.fail_json(msg=str(error))
    except (OSError, tarfile.TarError) as error:
        module.fail_json(msg=f"The context could not be unpacked on the node: {error}; check its disk.")


def _bring(module: AnsibleModule) -> None:
    given, name = module.params, module.params["name"]
    before = images.inspect(name)
    stale = images.source_of(before) != given["source"]
    unpushed = given["push"] and (stale or not images.pushed_digest(before, name))
    diff = {"before": _about(before, name), "after": f"built from {given['source'][:16]}{', pushed' if given['push'] else ''}\n"}
    if not stale and not unpushed:
        _done(module, False, before, {"before": "", "after": ""})
    if module.check_mode:
        _done(module, True, before, diff)
    if stale:
        if not given["archive"]:
            module.exit_json(changed=False, needs_context=True)
        _build(given)
    if given["push"]:
        images.push(name)
    _done(module, True, images.inspect(name), diff)


def _build(given: dict[str, Any]) -> None:
    folder = tempfile.mkdtemp(prefix="fleet-build-")
    try:
        with tarfile.open(given["archive"]) as tar:
            tar.extractall(folder)
        args = {str(key): str(value) for key, value in given["args"].items()}
        images.build(folder, given["name"], given["dockerfile"], args, given["platform"], given["source"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove(module: AnsibleModule) -> None:
    name = module.params["name"]
    before = images.inspect(name)
    ours = bool(images.source_of(before))
    if ours and not module.check_mode:
        images.remove(name)
    _done(
        module,
        ours,
        None if ours else before,
        {"before": _about(before, name), "after": "absent\n"} if ours else {"before": "", "after": ""},
    )


def _about(image: dict[str, Any] | None, name: str) -> str:
    if image is None:
        return "absent\n"
    pushed = ", pushed" if images.pushed_digest(image, name) else ""
    return f"built from {images.source_of(image)[:16] or 'elsewhere'}{pushed}\n"


def _done(module: AnsibleModule, changed: bool, image: dict[str, Any] | None, diff: dict[str, str]) -> None:
    digest = images.pushed_digest(image, module.params["name"])
    module.exit_json(changed=changed, image_id=image["Id"] if image else None, digest=digest, diff=diff)


if __name__ == "__main__":
    main()
