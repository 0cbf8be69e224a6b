"""The API documents' own boto3 program, unchanged but for address and keys, against a server with real signatures."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_api.adapters.object_store.verified import verify
from fleet_api.storage.setup import set_up
from tests.support.s3 import S3Server

EXAMPLE = """
import boto3

s3 = boto3.client(
    's3',
    endpoint_url='{url}',
    aws_access_key_id='{key}',
    aws_secret_access_key='{secret}'
)

# List outputs
response = s3.list_objects_v2(Bucket='fleet-outputs')
for obj in response.get('Contents', []):
    print(obj['Key'])

# Upload file
s3.upload_file('local.png', 'fleet-outputs', 'remote.png')

# Download file
s3.download_file('fleet-outputs', 'image.png', 'local.png')
"""


@pytest.mark.parametrize("size", [1_000, 30_000_000], ids=["small", "in parts"])
def test_the_documents_boto3_example_runs(tmp_path: Path, size: int) -> None:
    with S3Server(tmp_path / "store") as server:
        store = server.store()
        set_up(store, 7, 2)
        image, local = os.urandom(size), os.urandom(size)
        (tmp_path / "image.png").write_bytes(image)
        store.put("fleet-outputs", "image.png", tmp_path / "image.png", hashlib.sha256(image).hexdigest())
        (tmp_path / "local.png").write_bytes(local)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FLEET_"))}
        program = EXAMPLE.format(url=server.url, key=server.key, secret=server.secret)
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "image.png\n"), done.stderr[-2000:]
        assert (tmp_path / "local.png").read_bytes() == image
        verify(store, "fleet-outputs", "remote.png", size, hashlib.sha256(local).hexdigest())

        wrong = EXAMPLE.format(url=server.url, key=server.key, secret="minioadmin123")
        refused = subprocess.run([sys.executable, "-c", wrong], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert "SignatureDoesNotMatch" in refused.stderr or "403" in refused.stderr, refused.stderr[-500:]
