"""Plain inventories: what is taken over, what is refused, and that nothing of them is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_api.nodes.plain_inventory import InventoryUnreadable, Listed, check_addresses, node_names, read, resolved


def written(tmp_path: Path, hosts: dict[str, Any], name: str = "inventory.yml") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps({"all": {"children": {"cluster_vision": {"hosts": hosts}}}}))
    return path


def test_hosts_with_what_opens_them(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hosts = {
        "agx0": {"ansible_host": "127.0.0.1", "ansible_user": "quo'te", "ansible_password": f"{{{{ lookup('pipe', 'touch {canary}') }}}}"},
        "agx1": {
            "ansible_host": "127.0.0.2",
            "ansible_port": 2222,
            "ansible_ssh_common_args": "-o ProxyCommand=x",
            "fleet_labels": {"a": 1},
        },
    }
    first, second = read(written(tmp_path, hosts))
    assert (first.name, first.address, first.user, first.cluster) == ("agx0", "127.0.0.1", "quo'te", "vision")
    assert first.password.startswith("{{ lookup")
    assert "lookup" not in repr(first)
    assert not canary.exists()
    assert (second.port, second.labels, second.left_out) == (2222, {"a": "1"}, ("ansible_ssh_common_args",))


def test_an_ini_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    path.write_text("[cluster_kitchen]\norin[1:2] ansible_user=nvidia\n")
    assert [(host.name, host.cluster, host.user) for host in read(path)] == [("orin1", "kitchen", "nvidia"), ("orin2", "kitchen", "nvidia")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#!/bin/sh\necho {}", "is a program"), ("all: {hosts: {a: {ansible_port: x}}}", "ansible_port must be a number"),
        ("all: {}", "no hosts"),
        ("all: [1", "not an inventory"),
    ],
)  # fmt: skip
def test_what_is_no_inventory(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(text)
    path.chmod(0o755)
    with pytest.raises(InventoryUnreadable, match=says):
        read(path)


def test_names_of_nodes() -> None:
    def listed(*names: str) -> list[Listed]:
        return [Listed(name, "10.0.0.1") for name in names]

    assert node_names(listed("agx0.lan", "10.0.0.7")) == {"agx0.lan": "agx0", "10.0.0.7": None}
    assert node_names(listed("web.rack1", "web.rack2")) == {"web.rack1": "web-rack1", "web.rack2": "web-rack2"}
    with pytest.raises(InventoryUnreadable, match="would all be node"):
        node_names(listed("a b", "a_b"))


def test_two_hosts_at_one_address() -> None:
    hosts = [Listed("a", "x"), Listed("b", "y")]
    with pytest.raises(InventoryUnreadable, match="a and b are both at"):
        check_addresses(hosts, {"a": "10.0.0.1", "b": "10.0.0.1"})


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(InventoryUnreadable, match="neither an IP address nor a name"):
        resolved(Listed("a", "no-such-host.invalid"))
