#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Documentation of an action: ``plugins/action/fleet_buckets.py``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_buckets
short_description: Make the fleet's buckets what they should be
description:
  - Makes C(fleet-models), C(fleet-outputs), C(fleet-loras), C(fleet-voices) and C(fleet-workspace) in any S3 store, by the controller,
    which has boto3. Everybody may read C(fleet-outputs) by URL; what lies in C(fleet-workspace) is deleted by the store after a while.
  - A store that has no policies or no lifecycle is warned of; the rest is done. Rules of others in a lifecycle stay.
author:
  - Fleet Commander maintainers
options:
  endpoint:
    description: Another store than the fleet's own.
    type: str
  credential:
    description: Another credential of the vault than the store's own.
    type: str
  region:
    description: Another region than the store's own.
    type: str
  workspace_days:
    description: Days after which objects in C(fleet-workspace) are deleted.
    type: int
    default: 7
  upload_days:
    description: Days after which uploads there that nobody finished are forgotten.
    type: int
    default: 2
  home:
    description: The data folder. Left out, it is C(FLEET_HOME), or C(~/.fleet).
    type: path
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Make the buckets
  fleet.commander.fleet_buckets:
    workspace_days: 14
"""

RETURN = r"""
made:
  description: What was made or changed.
  returned: success
  type: list
  elements: str
  sample: [bucket fleet-models]
"""
