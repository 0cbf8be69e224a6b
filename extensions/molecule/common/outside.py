"""The node of a scenario, looked at from outside: by its container, and not by what the roles or Ansible say of it."""

from __future__ import annotations

import os

from extensions.molecule.common.instance import lab

HOSTS = [f"docker://{lab(os.environ['MOLECULE_SCENARIO_NAME'])}-1"]
