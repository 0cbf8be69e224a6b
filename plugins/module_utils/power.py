# Copyright: Fleet Commander contributors. Apache-2.0.
"""A Jetson's power mode and boot target."""

from __future__ import annotations

import subprocess

from ansible_collections.fleet.commander.plugins.module_utils.jetson import power_mode_of, power_modes_of
from ansible_collections.fleet.commander.plugins.module_utils.node import output

HEADLESS = "multi-user.target"


class PowerFailed(Exception):
    """It could not be set; the text is a sentence."""


def mode_now() -> int | None:
    """Return the id of the power mode, or None where there is none."""
    found = power_mode_of(output("nvpmodel", "-q"))
    return found["id"] if found else None


def mode_wanted(text: str) -> int:
    """Return the id of a power mode given by name or number. Raises PowerFailed naming those there are."""
    modes = power_modes_of(output("nvpmodel", "-p", "--verbose"))
    if text in modes:
        return modes[text]
    if text.isdigit() and int(text) in modes.values():
        return int(text)
    known = ", ".join(f"{name} ({number})" for name, number in sorted(modes.items(), key=lambda item: item[1]))
    raise PowerFailed(f"jetson_power_mode: this board has no mode '{text:.40}'; it has {known or 'none that nvpmodel tells of'}.")


def set_mode(number: int) -> None:
    """Set the power mode. Raises PowerFailed, also where it needs a restart."""
    # Where a mode needs a restart, nvpmodel asks; the answer here is no.
    done = subprocess.run(
        ["nvpmodel", "-m", str(number)], input="NO\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if mode_now() != number:
        said = " ".join(done.stdout.split())[-200:].rstrip(".")
        raise PowerFailed(
            f"Power mode {number} was not taken: {said or 'no reason was given'}; on the node run 'nvpmodel -m {number}' and restart it."
        )


def target_now() -> str:
    """Return the boot target."""
    return output("systemctl", "get-default").strip()


def set_target(name: str) -> None:
    """Set the boot target. Raises PowerFailed."""
    done = subprocess.run(["systemctl", "set-default", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise PowerFailed(
            "The boot target cannot be set: {}; see 'systemctl get-default' on the node.".format(" ".join(done.stdout.split())[-200:])
        )
