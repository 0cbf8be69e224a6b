#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Documentation of an action: ``plugins/action/fleet_registry_identity.py``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_registry_identity
short_description: Make the registry's certificate and password on the controller
description:
  - Runs on the controller alone, and touches only the folder C(registry) of the data folder (C(FLEET_HOME)).
  - The certificate is the fleet's own authority's, and is made anew 30 days before its end; a password that is there stays.
  - What it makes comes to other machines by M(fleet.commander.fleet_secret_file).
author:
  - Fleet Commander maintainers
options:
  address:
    description: Host and port by which engines reach the registry.
    type: str
    required: true
  names:
    description: Further names and addresses for its certificate.
    type: list
    elements: str
    default: []
  username:
    description: Who signs in.
    type: str
    default: fleet
  home:
    description: The data folder. Left out, it is C(FLEET_HOME), or C(~/.fleet).
    type: path
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Make who the registry is
  fleet.commander.fleet_registry_identity:
    address: 192.0.2.10:5000
"""

RETURN = r"""
folder:
  description: The folder on the controller.
  returned: success
  type: str
  sample: /home/alice/.fleet/registry
made:
  description: What was missing and was made.
  returned: success
  type: list
  elements: str
  sample: [certificate, login]
"""
