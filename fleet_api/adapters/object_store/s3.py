"""S3 by boto3, at any endpoint: path style, Signature Version 4, checksums only where an operation requires them.

A single-part upload carries its MD5 (Content-MD5), which every server checks. A larger file goes in parts, each with its own; the SHA-256
of the whole is in the object's metadata, and :mod:`verified` proves it by reading.
"""

from __future__ import annotations

import base64
import builtins
import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fleet_api.adapters.object_store.s3_errors import meaning
from fleet_api.adapters.object_store.types import (
    CHUNK_BYTES,
    PLAIN,
    ObjectDiffers,
    S3Access,
    Shown,
    StoreAway,
    StoredObject,
    StoreRefuses,
    check_bucket,
    check_key,
)
from fleet_api.kit.allowed import AllowedNetworks

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_BYTES = 16 * 1024 * 1024
MULTIPART_BYTES = 64 * 1024 * 1024
"""Files above go in parts of :data:`PART_BYTES` or more; S3 takes 10,000 parts at most."""

MAX_PARTS = 10_000
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 30, 3
CONNECTIONS = 16
SETTING = "FLEET_S3_NETWORKS"


class S3Store:
    """One endpoint and one key. Safe to use from many threads; the client is made at the first call."""

    def __init__(self, access: S3Access, allowed: AllowedNetworks) -> None:
        self.access = access
        self._allowed = allowed

    @cached_property
    def client(self) -> S3Client:
        """The boto3 client (making it takes about 0.2 s)."""
        import boto3
        from botocore.config import Config
        from botocore.handlers import add_expect_header

        access = self.access
        client = boto3.session.Session(
            aws_access_key_id=access.access_key, aws_secret_access_key=access.secret_key, region_name=access.region
        ).client(
            "s3", endpoint_url=access.endpoint, verify=str(access.authority) if access.authority else None,
            config=Config(
                signature_version="s3v4", s3={"addressing_style": "path"}, connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"}, max_pool_connections=CONNECTIONS, parameter_validation=False,
                request_checksum_calculation="when_required", response_checksum_validation="when_required", proxies={},
            ),
        )  # fmt: skip
        client.meta.events.register("before-send.s3", self._only_there)
        # To be told "100 Continue" before each body costs small files a third of their rate, and saves only what a redirect would.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        return client

    def check(self) -> None:
        """Ask for the list of buckets."""
        self._ask(self.client.list_buckets)

    def buckets(self) -> list[str]:
        """Return the names of the buckets."""
        found = self._ask(self.client.list_buckets)
        return [bucket["Name"] for bucket in found.get("Buckets", [])]

    def make_bucket(self, bucket: str) -> bool:
        """Make a bucket; False if it was there."""
        if bucket in self.buckets():
            return False
        region = self.access.region
        place: dict[str, Any] = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self._ask(self.client.create_bucket, Bucket=check_bucket(bucket), **place)
        return True

    def put(self, bucket: str, key: str, source: Path, sha256: str, shown: Shown = PLAIN) -> StoredObject:
        """Store a file; the store has checked the MD5 of each part when this returns."""
        check_bucket(bucket), check_key(key)
        size = source.stat().st_size
        said: dict[str, Any] = {"ContentType": shown.content_type, "Metadata": {"sha256": sha256}}
        if shown.disposition:
            said["ContentDisposition"] = shown.disposition
        if shown.cache:
            said["CacheControl"] = shown.cache
        if size > MULTIPART_BYTES:
            self._put_parts(bucket, key, source, sha256, size, said)
            return self._there(bucket, key, size)
        data = source.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ObjectDiffers(f"The file for {bucket}/{key} is not what it should be: its checksum differs.")
        md5 = hashlib.md5(data, usedforsecurity=False)
        self._ask(
            self.client.put_object, bucket, key, Bucket=bucket, Key=key, Body=data,
            ContentMD5=base64.b64encode(md5.digest()).decode(), **said,
        )  # fmt: skip
        return StoredObject(key, size, 0.0, md5.hexdigest(), sha256)

    def head(self, bucket: str, key: str) -> StoredObject | None:
        """Return what the store tells of an object; None if it is not there."""
        from botocore.exceptions import ClientError

        try:
            found = self.client.head_object(Bucket=check_bucket(bucket), Key=check_key(key))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                if bucket not in self.buckets():
                    raise meaning(error, self.access.endpoint, bucket, key, "NoSuchBucket") from error
                return None
            raise meaning(error, self.access.endpoint, bucket, key) from error
        except Exception as error:
            raise meaning(error, self.access.endpoint, bucket, key) from error
        return StoredObject(
            key, found["ContentLength"], found["LastModified"].timestamp(), _md5(found["ETag"]), found["Metadata"].get("sha256", "")
        )

    @contextmanager
    def open(self, bucket: str, key: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """Read an object from byte ``start`` on."""
        ranged: dict[str, Any] = {"Range": f"bytes={start}-"} if start else {}
        found = self._ask(self.client.get_object, bucket, key, Bucket=check_bucket(bucket), Key=check_key(key), **ranged)
        body = found["Body"]

        def chunks() -> Iterator[bytes]:
            try:
                while chunk := body.read(CHUNK_BYTES):
                    yield chunk
            except Exception as error:
                raise meaning(error, self.access.endpoint, bucket, key) from error

        try:
            yield chunks()
        finally:
            body.close()

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        """Return the objects, by key; a thousand a request."""
        more: dict[str, Any] = {"StartAfter": after} if after else {}
        while True:
            page = self._ask(self.client.list_objects_v2, bucket, "", Bucket=check_bucket(bucket), Prefix=prefix, **more)
            for each in page.get("Contents", []):
                yield StoredObject(each["Key"], each["Size"], each["LastModified"].timestamp(), _md5(each.get("ETag", "")))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def remove(self, bucket: str, key: str) -> None:
        """Delete an object; nothing happens if it is not there."""
        self._ask(self.client.delete_object, bucket, key, Bucket=check_bucket(bucket), Key=check_key(key))

    def presign(self, bucket: str, key: str, seconds: int, host: str | None = None) -> str:
        """Return a URL that reads the object without a key for so long."""
        place = {"Bucket": check_bucket(bucket), "Key": check_key(key)}
        return self.client.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)

    def _put_parts(self, bucket: str, key: str, source: Path, sha256: str, size: int, said: dict[str, Any]) -> None:
        place: dict[str, Any] = {"Bucket": bucket, "Key": key}
        upload = self._ask(self.client.create_multipart_upload, bucket, key, **place, **said)["UploadId"]
        digest, parts = hashlib.sha256(), builtins.list[Any]()
        length = max(PART_BYTES, -(-size // MAX_PARTS))
        try:
            with source.open("rb") as file:
                while part := file.read(length):
                    digest.update(part)
                    md5 = base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()
                    number = len(parts) + 1
                    sent = self._ask(
                        self.client.upload_part, bucket, key, **place, UploadId=upload, PartNumber=number, Body=part, ContentMD5=md5
                    )
                    parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            if digest.hexdigest() != sha256:
                raise ObjectDiffers(f"The file for {bucket}/{key} is not what it should be: its checksum differs.")
            self._ask(self.client.complete_multipart_upload, bucket, key, **place, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._forget_upload(upload, place)
            raise

    def _forget_upload(self, upload: str, place: dict[str, Any]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        with suppress(BotoCoreError, ClientError):  # the bucket's lifecycle ends what was left
            self.client.abort_multipart_upload(**place, UploadId=upload)

    def _there(self, bucket: str, key: str, size: int) -> StoredObject:
        found = self.head(bucket, key)
        if found is None or found.size != size:
            raise ObjectDiffers(f"The object {bucket}/{key} is not there, or not whole, after it was stored.")
        return found

    def _ask(self, call: Callable[..., Any], bucket: str = "", key: str = "", **arguments: Any) -> Any:
        try:
            return call(**arguments)
        except Exception as error:
            raise meaning(error, self.access.endpoint, bucket or arguments.get("Bucket", ""), key) from error

    def _only_there(self, request: Any, **_: Any) -> None:
        """Refuse what leads elsewhere than to the endpoint (a server's redirect), or out of the allowed networks."""
        wanted, asked = urlsplit(self.access.endpoint), urlsplit(request.url)
        if (asked.scheme, asked.hostname, asked.port) != (wanted.scheme, wanted.hostname, wanted.port):
            raise StoreRefuses(f"The object store at {self.access.endpoint} points to another address; set FLEET_S3_ENDPOINT to that.")
        try:
            found = socket.getaddrinfo(wanted.hostname, wanted.port or 443, type=socket.SOCK_STREAM)
        except OSError:
            raise StoreAway(f"No address is known for the object store at {self.access.endpoint}.") from None
        if not all(str(address[0]) in self._allowed for *_, address in found):
            raise StoreRefuses(f"The object store at {self.access.endpoint} is in none of the networks that may be called; see {SETTING}.")


def _md5(etag: str) -> str:
    plain = etag.strip('"')
    return plain if len(plain) == 32 else ""
