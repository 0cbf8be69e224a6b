"""Random secrets and their hashes. Only hashes are ever stored."""

from __future__ import annotations

import hashlib
import secrets


def new_secret(prefix: str) -> str:
    """Return a URL-safe secret of 256 random bits with a readable prefix."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def fingerprint(secret: str | bytes) -> str:
    """Return the hex SHA-256; enough for secrets of full entropy, wrong for passwords."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()
