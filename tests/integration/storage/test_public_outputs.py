"""The whole way of thirty pictures: made here, sent to a store with policies, read by anybody, gone from the folder, still shown."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import httpx
import pytest

from fleet_api.storage.buckets import OUTPUTS
from fleet_api.storage.setup import set_up
from tests.support.product import Product, running
from tests.support.rgw import Gateway

pytestmark = [pytest.mark.rgw, pytest.mark.timeout(300)]

PICTURES = 30


def keep_credential(product: Product, gateway: Gateway) -> None:
    with product.client() as api:
        answer = api.post("/api/vault", json={"name": "s3", "username": gateway.key, "password": gateway.secret})
        assert answer.status_code == 201, answer.text


def test_thirty_pictures_from_prompt_to_public_address(gateway: Gateway, tmp_path: Path) -> None:
    set_up(gateway.store(), 7, 2)
    with running(tmp_path / "home", FLEET_S3_ENDPOINT=gateway.url, FLEET_S3_CREDENTIAL="s3", FLEET_S3_NETWORKS="127.0.0.0/8") as product:
        keep_credential(product, gateway)
        with product.client() as api, httpx.Client(trust_env=False) as anybody:
            body = {"width": 64, "height": 64, "steps": 2}
            jobs = [
                api.post("/api/vision/generate", json={"prompt": "a red circle", "seed": seed, **body}).json() for seed in range(PICTURES)
            ]
            deadline = time.monotonic() + 120
            while api.get("/api/vision/gallery").json()["total"] < PICTURES:
                assert time.monotonic() < deadline, product.logs()[-2000:]
                time.sleep(0.2)
            assert "30 sent" in product.fleet("outputs", "sync").stdout
            listed = api.get("/api/outputs/list", params={"source": "s3"}).json()
            assert listed["total"] == PICTURES
            for each in listed["outputs"]:
                found = anybody.get(each["public_url"])
                assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
                assert "immutable" in found.headers["cache-control"]
                assert hashlib.sha256(found.content).hexdigest() == each["sha256"]
            assert anybody.get(f"{gateway.url}/{OUTPUTS}/").status_code == 403, "the addresses are public, not the list of them"
            assert anybody.put(listed["outputs"][0]["public_url"], content=b"mine").status_code == 403
            cleaned = product.fleet("outputs", "cleanup", "--max-age-hours", "0").stdout
            assert cleaned.startswith("30 deleted")
            assert not list((tmp_path / "home" / "outputs").glob("*.png"))
            images = api.get("/api/vision/gallery").json()["images"]
            assert {each["filename"] for each in images} == {f"image_{job['job_id']}.png" for job in jobs}
            for image in images[:3]:
                assert api.get(image["url"]).content == anybody.get(f"{gateway.url}/{OUTPUTS}/{image['filename']}").content
                assert api.get(image["thumbnail_url"]).status_code == 200
