#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""A picture made on the node itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_render_check
short_description: Make a picture with what is installed on a node, and see that it is one
description:
  - Asks the agent's own HTTP on the node's loopback for it, so that it is made by the engine that works for the fleet.
  - Where the agent has none there, or other work all the time, runs C(fleet-worker render) as its user, in a folder that is removed.
  - Fails where no picture comes of it, where it has another size, or shows nothing. Nothing is changed; the control plane is not asked.
  - Where the engines of the node's first model are yet to be built, the picture is one of the built-in model.
  - In check mode no picture is made.
author:
  - Fleet Commander maintainers
options:
  program:
    description: The worker's command.
    type: path
    default: /opt/fleet/agent/current/bin/fleet-worker
  user:
    description: As whom.
    type: str
    default: fleet-agent
  groups:
    description: Groups that the agent's unit has beside the user's own.
    type: list
    elements: str
    default: []
  settings:
    description: Files with the agent's settings, the later ones win; those that are not there are left out.
    type: list
    elements: path
    default: [/etc/fleet/agent.env, /etc/fleet/engine.env]
  container:
    description:
      - The container that the agent runs in, as M(fleet.commander.fleet_engine_info) tells it; empty where it is a unit of the node.
      - In a container its own command, user and settings are taken.
    type: str
    default: ""
  prompt:
    description: What to show.
    type: str
    default: a red circle on blue
  size:
    description: Width and height in pixels.
    type: str
    default: 256x256
  steps:
    description: Steps of the sampler.
    type: int
    default: 4
  seconds:
    description: How long it may take, with the model's loading; as long again where it is made beside an agent that did not answer.
    type: int
    default: 300
extends_documentation_fragment:
  - fleet.commander.attributes.info
"""

EXAMPLES = r"""
- name: Make a picture
  fleet.commander.fleet_render_check:
    size: 512x512
"""

RETURN = r"""
picture:
  description:
    - What came of it; null in check mode.
    - C(by_agent) says whether the agent's own engine made it.
    - C(unbuilt) says why it is of the built-in model where the node's first model lacks its engines.
  returned: success
  type: dict
  sample: {width: 256, height: 256, bytes: 48123, seconds: 2.4, by_agent: true, unbuilt: ""}
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.agent_command import TookTooLong, run
from ansible_collections.fleet.commander.plugins.module_utils.agent_door import DEFAULT, NotMade, picture
from ansible_collections.fleet.commander.plugins.module_utils.agent_settings import FILES, call, program, settings
from ansible_collections.fleet.commander.plugins.module_utils.png import NoPicture, size_of

UNBUILT = ("fleet-worker engines build", "has no graphs for TensorRT")
"""What the worker says where a model's engines of TensorRT are yet to be built, or cannot be."""

BUILTIN = "builtin"


class RenderFailed(Exception):
    """No picture was made; the text is a sentence."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "default": "/opt/fleet/agent/current/bin/fleet-worker"},
            "user": {"type": "str", "default": "fleet-agent"},
            "groups": {"type": "list", "elements": "str", "default": []},
            "settings": {"type": "list", "elements": "path", "default": FILES},
            "container": {"type": "str", "default": ""},
            "prompt": {"type": "str", "default": "a red circle on blue"},
            "size": {"type": "str", "default": "256x256"},
            "steps": {"type": "int", "default": 4},
            "seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    if not re.fullmatch(r"\d{2,4}x\d{2,4}", given["size"]):
        module.fail_json(msg="fleet_render_check: size must be WIDTHxHEIGHT in pixels, such as 512x512; it is '{}'.".format(given["size"]))
    if module.check_mode:
        module.exit_json(changed=False, picture=None)
    try:
        module.exit_json(changed=False, picture=rendered(given))
    except (RenderFailed, NotMade, NoPicture) as error:
        module.fail_json(msg=f"This node made no picture: {error}")
    except KeyError:
        module.fail_json(msg="There is no user {} on this node; install the agent first.".format(given["user"]))
    except OSError as error:
        module.fail_json(msg="This node made no picture: {}: {}.".format(error.filename or given["program"], error.strerror))


def rendered(given: dict[str, Any]) -> dict[str, Any]:
    """Make the picture and return what it is like. Raises RenderFailed, NotMade, NoPicture, KeyError and OSError."""
    begun = time.monotonic()
    unbuilt, content, by_agent = "", None, False
    try:
        content = _by_agent(given)
        by_agent = content is not None
        content = content or _made(given)
    except (RenderFailed, NotMade) as error:
        if not any(words in str(error) for words in UNBUILT):
            raise
        unbuilt, content = str(error), _made({**given, "model": BUILTIN})
    took = time.monotonic() - begun
    width, height = size_of(content)
    if f"{width}x{height}" != given["size"].lower():
        raise RenderFailed("it has {} x {} pixels, and {} were asked for.".format(width, height, given["size"]))
    return {"width": width, "height": height, "bytes": len(content), "seconds": round(took, 2), "by_agent": by_agent, "unbuilt": unbuilt}


def _by_agent(given: dict[str, Any]) -> bytes | None:
    width, height = map(int, given["size"].split("x"))
    known = _settings_in(given["container"]) if given["container"] else settings(given["settings"])
    address = known.get("FLEET_AGENT_HTTP", DEFAULT)
    asked = {"prompt": given["prompt"], "width": width, "height": height, "steps": given["steps"]}
    return picture(address, asked, given["seconds"])


def _settings_in(container: str) -> dict[str, str]:
    """Return the environment that a container was given; it is in the node's network."""
    words = ["docker", "inspect", "--format", "{{json .Config.Env}}", container]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else []
    return dict(each.split("=", 1) for each in found or [] if "=" in each)


def _made(given: dict[str, Any]) -> bytes:
    return _in_container(given) if given["container"] else _on_node(given)


def _on_node(given: dict[str, Any]) -> bytes:
    account = pwd.getpwnam(given["user"])
    folder = tempfile.mkdtemp(prefix="fleet-render-")
    try:
        os.chown(folder, account.pw_uid, account.pw_gid)
        path = os.path.join(folder, "picture.png")
        _run(given, _words(given, path), folder)
        with open(path, "rb") as file:
            return file.read()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_container(given: dict[str, Any]) -> bytes:
    path = f"/tmp/fleet-render-{os.getpid()}.png"
    try:
        _run(given, _words(given, path))
        return _run(given, ["cat", path])
    finally:
        subprocess.run(call(given, ["rm", "-f", path]).words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)


def _words(given: dict[str, Any], path: str) -> list[str]:
    model = ["--model", given["model"]] if given.get("model") else []
    return [program(given), "render", given["prompt"], "--size", given["size"], "--steps", str(given["steps"]), "-o", path, *model]


def _run(given: dict[str, Any], words: list[str], folder: str = "") -> bytes:
    """Return what a command prints, in a folder that is its own. Raises RenderFailed with its last words."""
    try:
        done = run(given, words, given["seconds"], folder=folder or "/", temporary=folder)
    except TookTooLong:
        raise RenderFailed("it took longer than {} s.".format(given["seconds"])) from None
    if done.code:
        said = (done.wrong or done.said.decode("utf-8", "replace")).strip().splitlines() or [f"it ended with code {done.code}"]
        raise RenderFailed("{}.".format(said[-1][-400:].rstrip(".")))
    return done.said


if __name__ == "__main__":
    main()
