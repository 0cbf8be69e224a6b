"""Uploads on a real socket: memory stays flat however large the file, and a cut connection loses nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from fleet_api.settings import Settings
from tests.support.live import Live, live
from tests.support.models import lora, packed

MEGABYTE = 1024 * 1024
LARGE = int(os.environ.get("FLEET_TEST_UPLOAD_MB", "300"))
FORM = """
import httpx, sys
files = {"file": ("big.safetensors", open(sys.argv[2], "rb"))}
print(httpx.post(sys.argv[1], files=files, data={"name": "big"}, timeout=300, trust_env=False).text)
"""
GROWTH = 96 * MEGABYTE
"""More than this the control plane's memory may not grow by during an upload of :data:`LARGE` MB."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Live]:
    with live(Settings(home=tmp_path / "home", port=0)) as found:
        yield found


def large_file(path: Path) -> str:
    """Write a sound file of :data:`LARGE` MB and return its checksum."""
    size = LARGE * MEGABYTE
    head = packed({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    digest = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        block = os.urandom(MEGABYTE)
        for _ in range(LARGE):
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["form", "parts"])
def test_memory_is_flat(tmp_path: Path, way: str) -> None:
    path = tmp_path / "big.safetensors"
    sha256 = large_file(path)
    env = {**os.environ, "FLEET_HOME": str(tmp_path / "home"), "FLEET_PORT": "0"}
    process = subprocess.Popen([sys.executable, "-m", "fleet_api", "serve"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = _url(tmp_path / "home")
        server = psutil.Process(process.pid)
        before = most = server.memory_info().rss
        command = [sys.executable, "-c", FORM, f"{url}/api/vision/models/upload", str(path)]
        if way == "parts":
            command = [sys.executable, "-m", "fleet_api", "models", "upload", str(path), "--name", "big", "--json", "--url", url]
        upload = subprocess.Popen(command, stdout=subprocess.PIPE, env={**env, "FLEET_URL": url})
        while upload.poll() is None:
            most = max(most, server.memory_info().rss)
            time.sleep(0.02)
        assert upload.stdout is not None
        said = upload.stdout.read()
        assert sha256.encode() in said, said
        print(f"{way}: {LARGE} MB, memory from {before // MEGABYTE} to {most // MEGABYTE} MB")
        assert most - before < GROWTH
    finally:
        process.terminate()
        process.wait(20)
        path.unlink()
        shutil.rmtree(tmp_path / "home" / "models", ignore_errors=True)


def _url(home: Path) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            found = (home / "url").read_text().strip()
            httpx.get(found + "/health", trust_env=False)
        except (OSError, httpx.TransportError):
            assert time.monotonic() < deadline, "the API did not start"
            time.sleep(0.1)
        else:
            return found


def test_a_cut_connection_is_gone_on_with(api: Live) -> None:
    data = lora("fleet-shapes", side=100_000)
    body = {"name": "night", "filename": "night.safetensors", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    with httpx.Client(base_url=api.url, trust_env=False) as http:
        upload = http.post("/api/vision/loras/upload", json=body).json()
        path = f"/api/vision/uploads/{upload['upload_id']}"
        where = urlsplit(api.url)
        with socket.create_connection((where.hostname, where.port)) as cut:
            head = f"PATCH {path}?offset=0 HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(data)}\r\n\r\n"
            cut.sendall(head.encode() + data[:300_000])
            time.sleep(0.3)
        deadline = time.monotonic() + 10
        while http.get(path).json()["offset"] < 300_000:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answer = http.patch(path, params={"offset": 300_000}, content=data[300_000:])
        assert answer.json()["status"] == "stored", answer.text
        assert http.get("/api/vision/loras").json()["loras"][0]["sha256"] == body["sha256"]


def test_a_form_that_is_cut_leaves_nothing(api: Live) -> None:
    where = urlsplit(api.url)
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.safetensors"\r\n\r\n' + lora("x", side=50_000)
    with socket.create_connection((where.hostname, where.port)) as cut:
        head = f"POST /api/vision/loras/upload HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        cut.sendall(f"{head}Content-Length: 9000000\r\n\r\n".encode() + part)
        time.sleep(0.3)
        assert list(api.fleet.settings.model_uploads.iterdir())
    deadline = time.monotonic() + 10
    while list(api.fleet.settings.model_uploads.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list(api.fleet.settings.models.rglob("*.safetensors"))


def test_one_name_by_two_at_once_is_stored_once(api: Live) -> None:
    data = lora("fleet-shapes", side=200_000)
    url = api.url + "/api/vision/loras/upload"

    def send(number: int) -> httpx.Response:
        files = {"file": (f"{number}.safetensors", data)}
        return httpx.post(url, files=files, data={"name": "night"}, trust_env=False, timeout=30)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert sorted(each.status_code for each in answers) == [201] + [409] * 7
    assert len(list(api.fleet.settings.models.rglob("*.safetensors"))) == 1
    assert not list(api.fleet.settings.model_uploads.iterdir())


def test_one_upload_is_sent_by_one_at_once(api: Live) -> None:
    data = lora("fleet-shapes", side=100_000)
    where = urlsplit(api.url)
    with httpx.Client(base_url=api.url, trust_env=False) as http:
        body = {"name": "night", "filename": "night.safetensors", "size": len(data)}
        path = f"/api/vision/uploads/{http.post('/api/vision/loras/upload', json=body).json()['upload_id']}"
        with socket.create_connection((where.hostname, where.port)) as slow:
            head = f"PATCH {path}?offset=0 HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(data)}\r\n\r\n"
            slow.sendall(head.encode() + data[:1000])
            time.sleep(0.3)
            assert "Another request is sending" in http.patch(path, params={"offset": 0}, content=data).json()["detail"]
            assert "at work" in http.delete(path).json()["detail"]
            slow.sendall(data[1000:])
            assert b"200 OK" in slow.recv(1000)
        assert http.get(path).json()["status"] == "stored"
