# Copyright: Fleet Commander contributors. Apache-2.0.
"""What an inventory may say. Pure functions: each complaint is a sentence."""

from __future__ import annotations

import difflib
import re
from typing import Any

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
RESERVED = ("jetpack", "heartbeats", "all", "nodes", "ungrouped", "manager")  # localhost may be set up by hand
LONGEST = 48
OWN = (
    "fleet_operation", "fleet_control_plane_url", "fleet_enrolment_token", "fleet_enrolment_renew", "fleet_enrolment_manager",
    "fleet_status", "fleet_cluster", "fleet_labels", "fleet_facts", "fleet_serial", "fleet_registry", "fleet_wheelhouse",
)  # fmt: skip

# They run programs on the controller, or send what is meant for the node elsewhere.
SURPRISES = re.compile(r"ansible_(.*_(executable|exe|flags)|.*_plugin|module_.*|.*_interpreter|shell_type|async_dir|remote_tmp)")
FINE = ("ansible_python_interpreter", "ansible_playbook_python", "ansible_module_compression", "ansible_config_file")
USUAL = {"ansible_shell_executable": "/bin/sh", "ansible_shell_type": "sh"}  # Ansible itself sets these
INTERPRETERS = re.compile(r"(auto(_silent|_legacy|_legacy_silent)?|/usr/bin/python3?(\.\d+)?|/usr/local/bin/python3?(\.\d+)?)")


def complaints(name: str, variables: dict[str, Any], roles: dict[str, set[str]], allowed: list[str]) -> list[str]:
    """Return what is wrong with a host's name and variables, given each role's variables."""
    found = []
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        found.append(f"The host's name '{name:.60}' is no node's name; use up to {LONGEST} lower-case letters, digits and single hyphens.")
    elif name in RESERVED:
        found.append(f"The host's name '{name}' is a reserved word; choose another.")
    known = {variable for variables_of_role in roles.values() for variable in variables_of_role}
    prefixes = ("fleet_", *(f"{role}_" for role in roles))
    for variable in sorted(variables):
        if variable in allowed or variable in OWN or variable in known:
            continue
        if variable.startswith("ansible_"):
            found += _surprise(variable, variables[variable])
        elif variable.startswith(prefixes):
            near = difflib.get_close_matches(variable, [*known, *OWN], 1)
            hint = f"; is {near[0]} meant?" if near else "; remove it, or see the roles' READMEs for those there are."
            found.append(f"{variable} is no variable of Fleet Commander{hint}")
    return found


def unmanageable(said: str) -> list[str]:
    """Return why a machine cannot be managed, given what it said of its L4T and its Python."""
    release = re.search(r"# R(\d+) \(release\)", said)
    if release and int(release.group(1)) < 34:
        return [f"This Jetson runs L4T {release.group(1)}, which is JetPack 4 or older; flash JetPack 5 or later to manage it."]
    python = re.search(r"python (\d+)\.(\d+)", said)
    if python is None:
        return ["This machine has no Python 3; install it first: apt-get install python3."]
    if (int(python.group(1)), int(python.group(2))) < (3, 8):
        return [f"This machine has Python {python.group(1)}.{python.group(2)}, and 3.8 or later is needed; upgrade its operating system."]
    return []


def _surprise(variable: str, value: Any) -> list[str]:
    if variable == "ansible_connection" and value not in ("ssh", "local"):
        return [f"ansible_connection is '{value!s:.40}'; nodes are reached by ssh."]
    if variable == "ansible_python_interpreter" and not INTERPRETERS.fullmatch(str(value)):
        return [f"ansible_python_interpreter is '{value!s:.60}'; it must be auto_silent or a path such as /usr/bin/python3."]
    if variable in FINE or USUAL.get(variable) == value or not SURPRISES.fullmatch(variable):
        return []
    return [f"{variable} changes how Ansible reaches the node; remove it, or name it in validate_inventory_allow."]
