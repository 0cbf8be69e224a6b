from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from extensions.molecule.common.outside import HOSTS
from plugins.plugin_utils.controller import asked

testinfra_hosts = HOSTS
HOME = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "home"
BUCKETS = ["fleet-loras", "fleet-models", "fleet-outputs", "fleet-voices", "fleet-workspace"]
CONFIG = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={})


def opened() -> dict[str, Any]:
    return asked("fleet_api.storage.handing", [], HOME, "no credential")


def client(secret: str) -> Any:
    found = opened()
    return boto3.client(
        "s3", endpoint_url=found["endpoint"], aws_access_key_id=found["access_key"], aws_secret_access_key=secret,
        region_name=found["region"], config=CONFIG,
    )  # fmt: skip


def test_it_answers_under_its_own_user(host: Any) -> None:
    service = host.service("fleet-object-storage")
    assert service.is_running
    assert service.is_enabled
    [process] = host.process.filter(comm="rclone")
    assert process.user == "fleet-objects"


def test_who_has_the_secret_is_let_in_and_nobody_else() -> None:
    found = opened()
    assert sorted(each["Name"] for each in client(found["secret_key"]).list_buckets()["Buckets"]) == BUCKETS
    with pytest.raises(ClientError) as refused:
        client("x" * 40).list_buckets()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert httpx.get(f"{found['endpoint']}/fleet-outputs/", trust_env=False).status_code in (400, 403)


def test_its_secret_is_in_one_file_of_roots(host: Any) -> None:
    about = host.file("/etc/fleet/object-storage/server.env")
    assert (about.user, about.group, oct(about.mode)) == ("root", "root", "0o600")
    secret = opened()["secret_key"]
    assert secret in about.content_string
    assert secret not in host.check_output("ps -eo args")
    assert host.run(f"grep -rsl {secret} /etc /var/log /usr/local /run/systemd").stdout.split() == ["/etc/fleet/object-storage/server.env"]
    assert secret not in host.check_output("journalctl --no-pager -u fleet-object-storage")


def test_no_file_of_the_controllers_holds_it() -> None:
    secret = opened()["secret_key"].encode()
    assert not [path for path in HOME.rglob("*") if path.is_file() and secret in path.read_bytes()]
    note = json.loads((HOME / "storage" / "store.json").read_text())
    assert (note["credential"], note["region"]) == ("object-storage", "us-east-1")
