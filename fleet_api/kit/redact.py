"""Takes secrets out of text that is about to be logged."""

from __future__ import annotations

import re

_TOKENS = re.compile(r"\b(fleet-(?:key|session|agent|enrol)|whsec)_[A-Za-z0-9_+/=-]{8,}")
_FIELDS = re.compile(
    r"""(?i)((?:password|passphrase|authorization|x-api-key|cookie|private_key)["']?\s*[:=]\s*["']?(?:bearer\s+)?)[^\s"',}]{4,}"""
)


def redact(text: str) -> str:
    """Return the text without keys, credentials, tokens and passwords."""
    return _FIELDS.sub(r"\1[secret]", _TOKENS.sub(r"\1_[secret]", text))
