"""What an S3 store's errors mean, each in one sentence."""

from __future__ import annotations

from fleet_api.adapters.object_store.types import BucketMissing, ObjectDiffers, ObjectMissing, StoreAway, StoreFull, StoreRefuses
from fleet_api.errors import FleetError

_MISSING = {"NoSuchKey", "404", "NotFound"}
_WRONG_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidAccessKey", "AuthorizationHeaderMalformed"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "XMinioAdminBucketQuotaExceeded"}
_BROKEN = {"BadDigest", "IncompleteBody", "InvalidDigest", "XAmzContentSHA256Mismatch"}


def meaning(error: Exception, endpoint: str, bucket: str, key: str, code: str = "") -> FleetError:
    """Return what to raise for an error of botocore or of the network under it."""
    from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError
    from botocore.exceptions import HTTPClientError as Network

    if isinstance(error, FleetError):
        return error
    named = f"{bucket}/{key}" if key else bucket
    if isinstance(error, ClientError):
        return _answered(error, endpoint, bucket, named, code)
    if isinstance(error, Network) and isinstance(wrapped := error.kwargs.get("error"), FleetError):
        return wrapped
    if isinstance(error, IncompleteReadError | ResponseStreamingError):
        return ObjectDiffers(f"The object {named} ended early.")
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        return StoreAway(f"The object store at {endpoint} cannot be used: {error.strerror or error}.")
    return StoreAway(f"The object store at {endpoint} does not answer; it is tried again ({type(error).__name__}).")


def _answered(error: Exception, endpoint: str, bucket: str, named: str, code: str) -> FleetError:
    answer = getattr(error, "response", {})
    code = code or str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
    if code == "NoSuchBucket":
        return BucketMissing(f"The object store at {endpoint} has no bucket {bucket!r}; run the playbook 'storage', or make it.")
    if code in _MISSING:
        return ObjectMissing(f"There is no object {named}.")
    said = str(answer.get("Error", {}).get("Message", "")).lower()
    if code in ("RequestTimeTooSkewed", "RequestExpired") or "request time" in said:  # some servers have no code of its own for it
        return StoreRefuses(f"The clocks of the object store at {endpoint} and of this machine differ by over 15 minutes; set them right.")
    if code in _WRONG_KEY:
        return StoreRefuses(f"The object store at {endpoint} does not know the access key, or the secret is wrong.")
    if code in _FULL or status == 507:
        return StoreFull(f"The object store at {endpoint} is full.")
    if code in _BROKEN:
        return ObjectDiffers(f"The bytes of {named} were damaged on the way; they are sent again.")
    if status in (401, 403) or code == "AccessDenied":
        return StoreRefuses(f"The object store at {endpoint} refuses this ({code or status}) to its access key.")
    return StoreAway(f"The object store at {endpoint} failed ({code or status}); it is tried again.")
