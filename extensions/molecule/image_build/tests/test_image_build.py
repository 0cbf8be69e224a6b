from __future__ import annotations

import json
from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_the_image_is_there_with_what_it_was_given(host: Any) -> None:
    [about] = json.loads(host.check_output("docker image inspect hello:v1"))
    assert about["Config"]["Labels"]["word"] == "world"
    assert len(about["Config"]["Labels"]["fleet.source"]) == 64


def test_nothing_of_the_context_stays(host: Any) -> None:
    assert host.check_output("ls -d /tmp/fleet-build-* /tmp/ansible* 2>/dev/null || true") == ""
    assert host.check_output("docker ps -aq") == ""
