"""Signatures as other people's code checks them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from fleet_api.callbacks.signing import PREFIX, headers, new_secret, signature
from fleet_api.kit.redact import redact

BODY = '{"type":"job.completed","data":{"prompt":"ein roter Kreis, größer"}}'.encode()


def test_the_vector_of_the_standard() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_it_is_hmac_sha256_of_id_time_and_body() -> None:
    secret = new_secret()
    key = base64.b64decode(secret.removeprefix(PREFIX))
    assert len(key) == 32
    expected = base64.b64encode(hmac.new(key, b"msg_1.1800000000." + BODY, hashlib.sha256).digest()).decode()
    assert headers([secret], "msg_1", 1_800_000_000, BODY) == {
        "webhook-id": "msg_1", "webhook-timestamp": "1800000000", "webhook-signature": f"v1,{expected}",
    }  # fmt: skip


def test_receivers_with_the_old_or_the_new_secret_take_it_and_others_do_not() -> None:
    new, old = new_secret(), new_secret()
    made = headers([new, old], "msg_1", int(datetime.now(UTC).timestamp()), BODY)
    for secret in (new, old):
        assert Webhook(secret).verify(BODY, made)["type"] == "job.completed"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, made)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(BODY + b" ", made)
    stale = headers([new], "msg_1", int(datetime.now(UTC).timestamp()) - 3_600, BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(BODY, stale)


def test_a_secret_is_taken_out_of_logs() -> None:
    secret = new_secret()
    assert secret not in redact(f"the secret is {secret}, see")
