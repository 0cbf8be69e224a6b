#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Documentation of an action: ``plugins/action/fleet_validate_inventory.py``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_validate_inventory
short_description: Refuse an inventory that says what Fleet Commander does not know
description:
  - Looks at a host's name and variables before anything is changed, and at whether the machine can be managed at all.
  - Runs on the controller, and needs no Python on the node.
author:
  - Fleet Commander maintainers
options:
  allow:
    description: Variables to let pass.
    type: list
    elements: str
    default: []
  reach:
    description: Whether to look at the machine too.
    type: bool
    default: true
extends_documentation_fragment:
  - fleet.commander.attributes.info
"""

EXAMPLES = r"""
- name: Check the inventory
  fleet.commander.fleet_validate_inventory:
"""

RETURN = r"""
"""
