# A fresh node with an engine, the roles swarm_manager and swarm_member.
from __future__ import annotations

import json
from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_it_manages_a_swarm_and_is_labelled(host: Any) -> None:
    about = json.loads(host.check_output("docker info --format '{{ json .Swarm }}'"))
    assert (about["LocalNodeState"], about["ControlAvailable"]) == ("active", True)
    labels = json.loads(host.check_output("docker node inspect self --format '{{ json .Spec.Labels }}'"))
    assert labels == {"fleet.node": "node", "nvidia": "false"}
