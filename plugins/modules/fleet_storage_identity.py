#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Documentation of an action: ``plugins/action/fleet_storage_identity.py``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_storage_identity
short_description: Make the object store's access key and secret in the control plane's vault
description:
  - Runs on the controller alone. The pair is random, made once, and sealed in the vault of the data folder (C(FLEET_HOME)), whether or not
    the control plane runs; a credential of that name that is there stays.
  - Notes in the folder C(storage) where the store is and which credential opens it, by which the control plane finds it.
  - A pair that everybody knows, such as that of MinIO's documents, is refused.
  - What it makes comes to other machines by M(fleet.commander.fleet_storage_file).
author:
  - Fleet Commander maintainers
options:
  endpoint:
    description: Where the store is.
    type: str
    required: true
  credential:
    description: Its name in the vault.
    type: str
    default: object-storage
  region:
    description: The store's region.
    type: str
    default: us-east-1
  home:
    description: The data folder. Left out, it is C(FLEET_HOME), or C(~/.fleet).
    type: path
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Make who opens the store
  fleet.commander.fleet_storage_identity:
    endpoint: http://192.0.2.10:9010
"""

RETURN = r"""
credential:
  description: Its name in the vault.
  returned: success
  type: str
  sample: object-storage
made:
  description: What was missing and was made.
  returned: success
  type: list
  elements: str
  sample: [credential, note]
"""
