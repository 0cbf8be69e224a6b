"""How Ansible signs in to a node: host variables from its row and its credential. Pure functions.

Nothing of it is a caller's free text: addresses are checked IP addresses, names of nodes are slugs, and values from an inventory plugin
are never templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fleet_api.access.vault.secret import Secret


def host_variables(address: str, port: int, secret: Secret) -> dict[str, Any]:
    """Return Ansible's variables for one machine; its pinned host key comes with the play."""
    variables: dict[str, Any] = {
        "ansible_host": address,
        "ansible_port": port,
        "ansible_user": secret.username,
        "ansible_become": True,
        "ansible_python_interpreter": "auto_silent",
    }
    if secret.private_key:
        variables["ansible_ssh_private_key"] = secret.private_key
        if secret.passphrase:
            variables["ansible_ssh_private_key_passphrase"] = secret.passphrase
    elif secret.password:
        variables["ansible_password"] = secret.password
        variables["ansible_ssh_extra_args"] = "-o PubkeyAuthentication=no"
    become = secret.become_password or secret.password
    if become:
        variables["ansible_become_password"] = become
    return variables


def secrets_of(secret: Secret) -> frozenset[str]:
    """Return every value of a credential that must not be seen anywhere."""
    found = {secret.password, secret.become_password, secret.passphrase}
    if secret.private_key:
        found |= {line.strip() for line in secret.private_key.splitlines() if line.strip() and not line.startswith("-----")}
        found.add(secret.private_key)
    return frozenset(each for each in found if each)


def groups(cluster: str | None, labels: Mapping[str, str], node_id: str) -> dict[str, list[str]]:
    """Return the groups of a node within an operation: by its cluster and role, called as the dynamic inventory calls them."""
    named = (("cluster", cluster), ("role", labels.get("role")))
    return {re.sub(r"[^A-Za-z0-9_]", "_", f"{kind}_{name}"): [node_id] for kind, name in named if name}
