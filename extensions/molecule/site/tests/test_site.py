from __future__ import annotations

from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_what_a_node_is_for_runs(host: Any) -> None:
    for name in ("docker", "fleet-agent", "ssh"):
        assert host.service(name).is_running, host.check_output(f"journalctl -u {name} -n 20 --no-pager")


def test_nothing_failed_and_nobody_holds_the_node(host: Any) -> None:
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""
    assert not host.file("/run/fleet/lock.json").exists
