"""The fleet's buckets as they should be: there, the outputs readable by everybody, the workspace emptied by the store itself.

Servers differ. One that has no policies or no lifecycle is not an error: it is said in a warning, and the rest goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet_api.adapters.object_store.s3 import S3Store
from fleet_api.adapters.object_store.s3_errors import meaning
from fleet_api.storage.buckets import BUCKETS, PUBLIC, WORKSPACE

RULE = "fleet-workspace"
_UNKNOWN = {"NotImplemented", "MethodNotAllowed", "BucketAlreadyExists", "BucketAlreadyOwnedByYou", "UnsupportedOperation", "501", "405"}
"""What a server says that takes such a request for another one."""


@dataclass(slots=True)
class SetUp:
    """What was made or changed, or would be, and what the server cannot do."""

    changed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def set_up(store: S3Store, workspace_days: int, upload_days: int, check: bool = False, buckets: Sequence[str] = BUCKETS) -> SetUp:
    """Make buckets, policy and lifecycle what they should be; with ``check`` only say what would be done. Raises as the store does."""
    found, there = SetUp(), set(store.buckets())
    for bucket in buckets:
        new = bucket not in there
        if new:
            found.changed.append(f"bucket {bucket}")
            if not check:
                store.make_bucket(bucket)
        if new and check:
            continue
        if bucket in PUBLIC:
            _make_public(store, bucket, check, found)
        if bucket == WORKSPACE:
            _let_it_be_emptied(store, bucket, workspace_days, upload_days, check, found)
    return found


def public_policy(bucket: str) -> dict[str, Any]:
    """Return the policy by which everybody may read a bucket's objects by URL, and nobody may list them."""
    statement = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{bucket}/*"]}
    return {"Version": "2012-10-17", "Statement": [statement]}


def lifecycle(days: int, upload_days: int) -> dict[str, Any]:
    """Return the rule that deletes objects after so many days, and uploads that nobody finished."""
    return {
        "ID": RULE, "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": upload_days},
    }  # fmt: skip


def _make_public(store: S3Store, bucket: str, check: bool, found: SetUp) -> None:
    no_policies = (
        f"The object store at {store.access.endpoint} has no bucket policies, so {bucket} is not readable by everybody; outputs are "
        "reached through the control plane, or by URLs that it signs."
    )
    code, answer = _asked(store, store.client.get_bucket_policy, bucket, Bucket=bucket)
    try:
        now = json.loads(answer.get("Policy", "")) if not code else None
    except ValueError:  # another request's answer
        code = "NotImplemented"
        now = None
    if code in _UNKNOWN:
        found.warnings.append(no_policies)
        return
    if now is not None and _same_policy(now, public_policy(bucket)):
        return
    if not check:
        policy = json.dumps(public_policy(bucket))
        code, _ = _asked(store, store.client.put_bucket_policy, bucket, Bucket=bucket, Policy=policy)
        if code in _UNKNOWN:
            found.warnings.append(no_policies)
            return
    found.changed.append(f"policy of {bucket}: everybody may read")


def _let_it_be_emptied(store: S3Store, bucket: str, days: int, upload_days: int, check: bool, found: SetUp) -> None:
    none = f"The object store at {store.access.endpoint} has no lifecycle rules, so nothing in {bucket} goes by itself."
    code, answer = _asked(store, store.client.get_bucket_lifecycle_configuration, bucket, Bucket=bucket)
    if code in _UNKNOWN or (not code and "Rules" not in answer):
        found.warnings.append(none)
        return
    rules: list[dict[str, Any]] = answer.get("Rules", []) if not code else []
    wanted = lifecycle(days, upload_days)
    ours = next((each for each in rules if each.get("ID") == RULE), None)
    if ours is not None and _same_rule(ours, wanted):
        if "AbortIncompleteMultipartUpload" not in ours:
            found.warnings.append(_keeps_uploads(store, bucket))
        return
    if not check:
        kept = [each for each in rules if each.get("ID") != RULE]  # somebody else's stay
        configuration = {"Rules": [*kept, wanted]}
        put = store.client.put_bucket_lifecycle_configuration
        code, _ = _asked(store, put, bucket, Bucket=bucket, LifecycleConfiguration=configuration)
        if code in _UNKNOWN:
            found.warnings.append(none)
            return
        _, answer = _asked(store, store.client.get_bucket_lifecycle_configuration, bucket, Bucket=bucket)
        if not any("AbortIncompleteMultipartUpload" in each for each in answer.get("Rules", [])):
            found.warnings.append(_keeps_uploads(store, bucket))
    found.changed.append(f"lifecycle of {bucket}: objects go after {days} days")


def _keeps_uploads(store: S3Store, bucket: str) -> str:
    return (
        f"The object store at {store.access.endpoint} took no rule for unfinished uploads to {bucket}; it has a time of its own for them."
    )


def _same_policy(now: dict[str, Any], wanted: dict[str, Any]) -> bool:
    def plain(policy: dict[str, Any]) -> list[tuple[str, ...]]:
        statements = policy.get("Statement", [])
        return sorted(
            (str(each.get("Effect")), _principal(each.get("Principal")), *_listed(each.get("Action")), *_listed(each.get("Resource")))
            for each in (statements if isinstance(statements, list) else [statements])
        )

    return plain(now) == plain(wanted)


def _principal(value: object) -> str:
    return ",".join(_listed(value.get("AWS"))) if isinstance(value, dict) else str(value)


def _listed(value: object) -> list[str]:
    return sorted(map(str, value)) if isinstance(value, list) else [str(value)]


def _same_rule(now: dict[str, Any], wanted: dict[str, Any]) -> bool:
    if now.get("Status") != "Enabled" or now.get("Expiration", {}).get("Days") != wanted["Expiration"]["Days"]:
        return False
    if now.get("Prefix") or now.get("Filter", {}).get("Prefix"):
        return False
    uploads = now.get("AbortIncompleteMultipartUpload")
    return uploads is None or uploads == wanted["AbortIncompleteMultipartUpload"]  # None: this server keeps no such rule


def _asked(store: S3Store, call: Any, bucket: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    """Return the code of an answer that says no to such a request as a whole, else its body. Raises for every other error."""
    from botocore.exceptions import ClientError

    try:
        return "", call(**arguments)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        if code in _UNKNOWN or status in _UNKNOWN:
            return "NotImplemented", {}
        if code in ("NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "404", "NoSuchKey"):
            return "Nothing", {}
        raise meaning(error, store.access.endpoint, bucket, "") from error
    except Exception as error:
        raise meaning(error, store.access.endpoint, bucket, "") from error
