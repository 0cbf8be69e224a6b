"""Each role's README says what its specification says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_api import collection, roledocs

ROLES = roledocs.roles(collection.root())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_is_fresh(role: Path) -> None:
    assert (role / "README.md").read_text() == roledocs.render(role), "it is stale; run make docs"


def test_there_are_roles() -> None:
    assert {"node_baseline", "docker_engine", "node_agent", "jetson", "ssh_trust", "control_plane", "swarm_manager", "swarm_member"} <= {
        role.name for role in ROLES
    }


def test_markup_becomes_markdown() -> None:
    assert roledocs._markup("Name, such as V(MAXN); see O(other).") == "Name, such as `MAXN`; see `other`."
