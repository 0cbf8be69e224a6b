from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from extensions.molecule.common.outside import HOSTS
from plugins.plugin_utils.controller import asked

testinfra_hosts = HOSTS
HOME = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "home"


def test_each_bucket_that_is_named_is_a_folder(host: Any) -> None:
    for name in ("models", "outputs"):
        assert host.mount_point(f"/mnt/s3-{name}").filesystem == "fuse.rclone"
        assert host.service(f"fleet-s3@{name}").is_enabled
    assert not host.file("/mnt/s3-loras").exists


def test_what_is_written_is_in_the_bucket(host: Any) -> None:
    host.check_output("echo whole > /mnt/s3-outputs/one.txt")
    assert host.check_output("cat /mnt/s3-outputs/one.txt") == "whole"
    assert host.check_output("runuser -u nvidia -- cat /mnt/s3-outputs/one.txt") == "whole"
    assert host.run("touch /mnt/s3-models/two.txt").rc != 0
    host.check_output("rm /mnt/s3-outputs/one.txt")


def test_its_secret_is_roots(host: Any) -> None:
    about = host.file("/etc/fleet/s3/rclone.conf")
    assert (about.user, about.group, oct(about.mode)) == ("root", "root", "0o600")
    secret = asked("fleet_api.storage.handing", [], HOME, "no credential")["secret_key"]
    assert secret in about.content_string
    assert secret not in host.check_output("ps -eo args")
    assert secret not in host.check_output("journalctl --no-pager")


def test_a_mount_that_was_killed_comes_back(host: Any) -> None:
    host.check_output("systemctl kill -s KILL fleet-s3@models")
    assert host.run("for i in $(seq 100); do ls /mnt/s3-models && mountpoint -q /mnt/s3-models && exit 0; sleep 0.2; done; exit 1").rc == 0
