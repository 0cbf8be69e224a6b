"""A store with policies: Ceph's gateway. ``pytest -m rgw tests/integration/storage``."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import httpx
import pytest

from fleet_api.adapters.object_store.s3 import MULTIPART_BYTES
from fleet_api.adapters.object_store.types import Shown, StoreRefuses
from fleet_api.adapters.object_store.verified import verify
from fleet_api.storage.buckets import BUCKETS
from fleet_api.storage.setup import RULE, set_up
from tests.support.rgw import Gateway

pytestmark = [pytest.mark.rgw, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ready(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    """The gateway with the fleet's buckets and one object in each."""
    store = gateway.store()
    would = set_up(store, 7, 2, check=True)
    assert (store.buckets(), len(would.changed)) == ([], len(BUCKETS))  # this file is the first that asks
    done = set_up(store, 7, 2)
    assert done.warnings == []
    assert done.changed == [
        "bucket fleet-models", "bucket fleet-outputs", "policy of fleet-outputs: everybody may read", "bucket fleet-loras",
        "bucket fleet-voices", "bucket fleet-workspace", "lifecycle of fleet-workspace: objects go after 7 days",
    ]  # fmt: skip
    source = tmp_path_factory.mktemp("objects") / "one.png"
    source.write_bytes(b"a picture")
    for bucket in BUCKETS:
        store.put(bucket, "a/one.png", source, hashlib.sha256(b"a picture").hexdigest(), Shown("image/png"))
    return gateway


def test_a_second_run_changes_nothing(ready: Gateway) -> None:
    again = set_up(ready.store(), 7, 2)
    assert (again.changed, again.warnings) == ([], [])
    assert set_up(ready.store(), 7, 2, check=True).changed == []


def test_everybody_reads_outputs_and_nothing_else(ready: Gateway) -> None:
    with httpx.Client(base_url=ready.url, trust_env=False) as anybody:
        found = anybody.get("/fleet-outputs/a/one.png")
        assert (found.status_code, found.content, found.headers["content-type"]) == (200, b"a picture", "image/png")
        for bucket in BUCKETS:
            if bucket != "fleet-outputs":
                assert anybody.get(f"/{bucket}/a/one.png").status_code == 403
            assert anybody.get(f"/{bucket}/").status_code == 403, "nobody may list"
            assert anybody.put(f"/{bucket}/a/two.png", content=b"x").status_code == 403
            assert anybody.delete(f"/{bucket}/a/one.png").status_code in (403, 405)


def test_a_signed_address_opens_one_object_for_its_time(ready: Gateway) -> None:
    url = ready.store().presign("fleet-models", "a/one.png", 2)
    with httpx.Client(trust_env=False) as anybody:
        assert anybody.get(url).content == b"a picture"
        assert anybody.get(url.replace("/a/one.png", "/a/two.png")).status_code == 403
        assert anybody.get(url.replace("fleet-models", "fleet-loras")).status_code == 403
        assert anybody.get(url.replace("X-Amz-Expires=2", "X-Amz-Expires=2000")).status_code == 403
        time.sleep(3.5)
        assert anybody.get(url).status_code == 403


def test_the_workspaces_lifecycle_is_set_and_others_rules_stay(ready: Gateway) -> None:
    store = ready.store()
    read = store.client.get_bucket_lifecycle_configuration
    [rule] = read(Bucket="fleet-workspace")["Rules"]
    assert (rule["ID"], rule["Expiration"]["Days"], rule["AbortIncompleteMultipartUpload"]) == (RULE, 7, {"DaysAfterInitiation": 2})
    own = {"ID": "own", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 1}}
    store.client.put_bucket_lifecycle_configuration(Bucket="fleet-workspace", LifecycleConfiguration={"Rules": [own]})
    assert set_up(store, 14, 3).changed == ["lifecycle of fleet-workspace: objects go after 14 days"]
    rules = {each["ID"]: each["Expiration"]["Days"] for each in read(Bucket="fleet-workspace")["Rules"]}
    assert rules == {"own": 1, RULE: 14}
    assert set_up(store, 14, 3).changed == []


def test_a_large_file_goes_in_parts(ready: Gateway, tmp_path: Path) -> None:
    source, digest = tmp_path / "large.safetensors", hashlib.sha256()
    with source.open("wb") as file:
        for _ in range(5):
            part = os.urandom(MULTIPART_BYTES // 4 + 7)
            digest.update(part)
            file.write(part)
    size, store = source.stat().st_size, ready.store()
    assert size > MULTIPART_BYTES
    made = store.put("fleet-models", "large.safetensors", source, digest.hexdigest())
    assert (made.size, made.sha256, made.md5) == (size, digest.hexdigest(), ""), "in parts, the store tells no MD5 of the whole"
    verify(store, "fleet-models", "large.safetensors", size, digest.hexdigest())
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket="fleet-models")


def test_a_wrong_secret_is_refused(ready: Gateway) -> None:
    with pytest.raises(StoreRefuses) as refused:
        ready.store("another" * 5).check()
    assert "does not know the access key, or the secret is wrong" in refused.value.detail
