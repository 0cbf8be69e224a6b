from __future__ import annotations

from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_the_key_opens_the_user(host: Any) -> None:
    keys = host.file("/home/nvidia/.ssh/authorized_keys")
    assert keys.content_string.count("molecule") == 1
    assert (keys.user, oct(keys.mode)) == ("nvidia", "0o600")


def test_sshd_is_as_it_should_be(host: Any) -> None:
    assert host.run("sshd -t").rc == 0
    assert host.service("ssh").is_running
