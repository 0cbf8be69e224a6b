from __future__ import annotations

from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_the_agent_runs_as_its_own_user_with_little_power(host: Any) -> None:
    assert host.service("fleet-agent").is_running
    assert host.service("fleet-agent").is_enabled
    about = dict(line.split("=", 1) for line in host.check_output("systemctl show fleet-agent").splitlines() if "=" in line)
    assert (about["User"], about["NoNewPrivileges"], about["ProtectSystem"]) == ("fleet-agent", "yes", "strict")


def test_it_is_enrolled_and_its_token_is_gone(host: Any) -> None:
    assert host.file("/var/lib/fleet-agent/identity.json").exists
    assert oct(host.file("/var/lib/fleet-agent/identity.json").mode) == "0o600"
    assert not host.file("/var/lib/fleet-agent/token").exists
