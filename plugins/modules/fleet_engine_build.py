#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Engines of TensorRT, built on the node that runs them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_engine_build
short_description: Build the engines of TensorRT that a node lacks for its models
description:
  - Runs C(fleet-worker engines build) as the agent's user and with the agent's settings, or in the agent's container, model by model.
  - An engine that is there already is left alone. What is built is told while it is.
  - In check mode it is asked which models have engines; that these fit the model as it is now is known to a build alone.
author:
  - Fleet Commander maintainers
options:
  models:
    description: Names of models that the agent serves.
    type: list
    elements: str
    required: true
  policy:
    description:
      - V(auto) builds nothing where the agent's Python cannot import C(tensorrt), and leaves models out that have no graphs for it.
      - With V(always) both are failures.
    type: str
    choices: [auto, always]
    default: auto
  seconds:
    description: How long each model may take.
    type: int
    default: 3600
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
    description: The container that the agent runs in; empty where it is a service of the node's own.
    type: str
    default: ""
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Build what is missing
  fleet.commander.fleet_engine_build:
    models: [sdxl-base]
"""

RETURN = r"""
tensorrt:
  description: The release of TensorRT, or an empty text where there is none.
  returned: success
  type: str
  sample: 10.3.0
built:
  description: How many engines were built, by model; in check mode 1 for a model that has none.
  returned: success
  type: dict
  sample: {sdxl-base: 4}
skipped:
  description: Why models were left out.
  returned: success
  type: dict
  sample: {}
"""

import os
import re
import subprocess
import threading
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.agent_settings import FILES, call, program
from ansible_collections.fleet.commander.plugins.module_utils.progress import Progress

RELEASE = "import tensorrt; print(tensorrt.__version__)"
NO_GRAPHS = "has no graphs for TensorRT"
TELLING = re.compile(r"^(\d+)/(\d+) (\S.*)$")
COUNT = re.compile(r": (\d+) engines built$")


class BuildFailed(Exception):
    """No engine was built; the text is a sentence."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "models": {"type": "list", "elements": "str", "required": True},
            "policy": {"type": "str", "choices": ["auto", "always"], "default": "auto"},
            "seconds": {"type": "int", "default": 3600},
            "program": {"type": "path", "default": "/opt/fleet/agent/current/bin/fleet-worker"},
            "user": {"type": "str", "default": "fleet-agent"},
            "groups": {"type": "list", "elements": "str", "default": []},
            "settings": {"type": "list", "elements": "path", "default": FILES},
            "container": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**engines(module.params, module.check_mode))
    except BuildFailed as error:
        module.fail_json(msg=str(error))
    except KeyError:
        module.fail_json(msg="There is no user {} on this node; install the agent first.".format(module.params["user"]))
    except OSError as error:
        module.fail_json(msg="Engines cannot be built: {}: {}.".format(error.filename or module.params["program"], error.strerror))


def engines(given: dict[str, Any], foretell: bool) -> dict[str, Any]:
    """Build what is missing, or tell what would be. Raises BuildFailed, KeyError and OSError."""
    worker = program(given)
    code, release, wrong = run(given, [os.path.join(os.path.dirname(worker), "python"), "-c", RELEASE], 120)
    result: dict[str, Any] = {"changed": False, "tensorrt": "", "built": {}, "skipped": {}, "diff": {"before": "", "after": ""}}
    if code != 0:
        if given["policy"] == "always":
            raise BuildFailed(f"The agent's Python cannot import tensorrt ({last_line(wrong)}), so that no engine can be built.")
        return result
    result["tensorrt"] = release = release.strip()
    if foretell:
        code, listed, wrong = run(given, [worker, "engines", "list"], 120)
        if code != 0:
            raise BuildFailed(f"The engines of this node cannot be listed: {last_line(wrong)}.")
        there = have(listed, release)
        result["built"] = {model: 1 for model in given["models"] if model not in there}
    else:
        for model in given["models"]:
            count, why = build(given, worker, model)
            if why:
                result["skipped"][model] = why
            elif count:
                result["built"][model] = count
    result["changed"] = bool(result["built"])
    if result["changed"]:
        result["diff"]["after"] = "".join(f"{model}: engines of TensorRT {release}\n" for model in result["built"])
    return result


def build(given: dict[str, Any], worker: str, model: str) -> tuple[int, str]:
    """Build one model's engines; return how many, and why it was left out. Raises BuildFailed."""
    progress = Progress("engines")

    def tell(line: str) -> None:
        found = TELLING.match(line)
        if found:
            progress.tell(f"{model}: {found.group(3)}", 100.0 * int(found.group(1)) / max(int(found.group(2)), 1))

    code, said, wrong = run(given, [worker, "engines", "build", model], given["seconds"], tell)
    if code == 0:
        found = COUNT.search(said.strip())
        return int(found.group(1)) if found else 0, ""
    why = last_line(wrong)
    if given["policy"] == "auto" and NO_GRAPHS in why:
        return 0, why + "."
    raise BuildFailed(f"The engines of {model} were not built: {why}.")


def run(given: dict[str, Any], words: list[str], seconds: int, tell: Any = None) -> tuple[int, str, str]:
    """Run a command as the agent; return its code, and what it printed. Each line of stderr is told at once. Raises BuildFailed."""
    words, environment = call(given, words)
    child = subprocess.Popen(
        words, cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )
    wrong: list[str] = []

    def listen() -> None:
        for line in child.stderr or ():
            wrong.append(line)
            if tell is not None:
                tell(line.strip())

    late = threading.Timer(seconds, child.kill)
    listener = threading.Thread(target=listen, daemon=True)
    late.start()
    listener.start()
    said = child.stdout.read() if child.stdout is not None else ""
    code = child.wait()
    expired = not late.is_alive() and code < 0
    late.cancel()
    listener.join(5)
    if expired:
        raise BuildFailed("{} took longer than {} s.".format(" ".join(words[-2:]), seconds))
    return code, said, "".join(wrong)


def have(listed: str, release: str) -> set[str]:
    """Return the models that have engines of a release, by what the command lists. Pure."""
    rows = [line.split() for line in listed.splitlines()]
    return {row[0] for row in rows if len(row) >= 4 and row[3] == release}


def last_line(text: str) -> str:
    """Return what a command said last, as the end of a sentence. Pure."""
    lines = text.strip().splitlines() or ["it said nothing"]
    return lines[-1].strip()[-400:].rstrip(".")


if __name__ == "__main__":
    main()
