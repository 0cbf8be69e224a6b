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
  - In check mode it is asked which engines the models lack.
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
    description: How long each model may take; what builds is ended then.
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
  description: How many engines were built, by model; in check mode how many are lacking.
  returned: success
  type: dict
  sample: {sdxl-base: 4}
skipped:
  description: Why models were left out.
  returned: success
  type: dict
  sample: {}
"""

import json
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.fleet.commander.plugins.module_utils.agent_command import Done, TookTooLong, run
from ansible_collections.fleet.commander.plugins.module_utils.agent_settings import FILES, program
from ansible_collections.fleet.commander.plugins.module_utils.progress import Progress

RELEASE = "import tensorrt; print(tensorrt.__version__)"
NO_GRAPHS = "has no graphs for TensorRT"
TELLING = re.compile(r"^(\d+)/(\d+) (\S.*)$")
COUNT = re.compile(r": (\d+) engines built$")
ASKING_SECONDS = 120


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
    done = asked(given, [os.path.join(os.path.dirname(worker), "python"), "-c", RELEASE], ASKING_SECONDS)
    result: dict[str, Any] = {"changed": False, "tensorrt": "", "built": {}, "skipped": {}, "diff": {"before": "", "after": ""}}
    if done.code != 0:
        if given["policy"] == "always":
            raise BuildFailed(f"The agent's Python cannot import tensorrt ({last_line(done.wrong)}), so that no engine can be built.")
        return result
    result["tensorrt"] = release = done.said.decode("utf-8", "replace").strip()
    for model in given["models"]:
        count, why = lacking(given, worker, model) if foretell else build(given, worker, model)
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

    done = asked(given, [worker, "engines", "build", model], given["seconds"], tell)
    if done.code == 0:
        counted = COUNT.search(done.said.decode("utf-8", "replace").strip())
        return int(counted.group(1)) if counted else 0, ""
    return 0, left_out(given, f"The engines of {model} were not built", done.wrong)


def lacking(given: dict[str, Any], worker: str, model: str) -> tuple[int, str]:
    """Return how many engines a model lacks, and why it is left out. Raises BuildFailed."""
    done = asked(given, [worker, "engines", "wanted", model], ASKING_SECONDS)
    if done.code == 0:
        return missing(done.said.decode("utf-8", "replace")), ""
    return 0, left_out(given, f"It is not known which engines {model} lacks", done.wrong)


def left_out(given: dict[str, Any], what: str, wrong: str) -> str:
    """Return why a model is left out, if it may be. Raises BuildFailed."""
    why = last_line(wrong)
    if given["policy"] == "auto" and NO_GRAPHS in why:
        return why + "."
    raise BuildFailed(f"{what}: {why}.")


def asked(given: dict[str, Any], words: list[str], seconds: int, tell: Any = None) -> Done:
    """Run a command as the agent. Raises BuildFailed where it takes too long."""
    try:
        return run(given, words, seconds, tell)
    except TookTooLong:
        raise BuildFailed("{} took longer than {} s.".format(" ".join(words[-2:]), seconds)) from None


def missing(said: str) -> int:
    """Return how many engines are not there, by the line of JSON that the command tells of each. Pure."""
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return sum(not each.get("there") for each in found)


def last_line(text: str) -> str:
    """Return what a command said last, as the end of a sentence. Pure."""
    lines = text.strip().splitlines() or ["it said nothing"]
    return lines[-1].strip()[-400:].rstrip(".")


if __name__ == "__main__":
    main()
