from __future__ import annotations

import json
from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_the_engine_works_with_bounded_logs(host: Any) -> None:
    about = json.loads(host.check_output("docker info --format '{{ json . }}'"))
    assert about["LoggingDriver"] == "json-file"
    assert about["DockerRootDir"] == "/var/lib/docker"
    assert json.loads(host.file("/etc/docker/daemon.json").content_string)["log-opts"]["max-size"] == "10m"


def test_it_comes_back_after_a_restart_and_listens_to_nobody_outside(host: Any) -> None:
    assert host.service("docker").is_enabled
    assert host.check_output("ss -Hltn 'sport = 2375 or sport = 2376'") == ""
