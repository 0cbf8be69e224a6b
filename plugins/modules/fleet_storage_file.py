#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""Documentation of an action: ``plugins/action/fleet_storage_file.py``, which runs ``fleet_secret_file``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_storage_file
short_description: Write a file that holds the object store's access key and secret
description:
  - As M(fleet.commander.fleet_secret_file), but the secret comes out of the control plane's vault on the controller while the play runs; it
    is in no file there, and in no argument list, log or difference.
  - C(@ENDPOINT@), C(@REGION@), C(@ACCESS_KEY@) and C(@SECRET_KEY@) in O(content) are filled in.
author:
  - Fleet Commander maintainers
options:
  path:
    description: Which file on the node.
    type: path
    required: true
  content:
    description: What the file holds, with marks where endpoint, region and the pair go.
    type: str
  state:
    description: What shall be there.
    type: str
    choices: [present, restored]
    default: present
  endpoint:
    description: Another store than the fleet's own.
    type: str
  credential:
    description: Another credential of the vault than the store's own.
    type: str
  region:
    description: Another region than the store's own.
    type: str
  home:
    description: The data folder. Left out, it is C(FLEET_HOME), or C(~/.fleet).
    type: path
  mode:
    description: Its mode, as an octal text.
    type: str
    default: "0600"
  owner:
    description: Its user.
    type: str
    default: root
  group:
    description: Its group. Left out, it is that of O(owner).
    type: str
  folder_mode:
    description: The mode of folders that are made for it.
    type: str
    default: "0755"
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Bring what opens the store
  fleet.commander.fleet_storage_file:
    path: /etc/fleet/object-storage/server.env
    content: |
      MINIO_ROOT_USER=@ACCESS_KEY@
      MINIO_ROOT_PASSWORD=@SECRET_KEY@
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/fleet/object-storage/server.env
"""
