"""Whether a text is a private key that its passphrase opens."""

from __future__ import annotations

import asyncio

import asyncssh

from fleet_api.errors import InvalidValue

OPEN_SECONDS = 20.0  # a key may ask for any number of rounds


class KeyUnusable(InvalidValue):
    """The private key cannot be read, or its passphrase does not open it."""


async def check(private_key: str, passphrase: str | None) -> None:
    """Raise KeyUnusable unless the key can be used with this passphrase. Its text is in no message."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await asyncio.to_thread(_check, private_key, passphrase)
    except TimeoutError:
        raise KeyUnusable("private_key: opening it takes too long; write it anew with fewer rounds: ssh-keygen -p -a 16.") from None


def wants_passphrase(private_key: str) -> bool:
    """Say whether a private key is encrypted; what is no key is not."""
    try:
        asyncssh.import_private_key(private_key)
    except (asyncssh.KeyImportError, ValueError) as error:
        return "assphrase" in str(error)
    return False


def normal(private_key: str) -> str:
    """Return the key as files hold it: Unix line ends, and one at its end."""
    return private_key.replace("\r\n", "\n").strip() + "\n"


def _check(private_key: str, passphrase: str | None) -> None:
    try:
        asyncssh.import_private_key(private_key, passphrase)
    except asyncssh.KeyEncryptionError:
        raise KeyUnusable("passphrase: it does not open the private key.") from None
    except (asyncssh.KeyImportError, ValueError) as error:
        if passphrase is None and "assphrase" in str(error):
            raise KeyUnusable("passphrase: the private key is encrypted; give its passphrase too.") from None
        if "decrypt" in str(error):
            raise KeyUnusable("passphrase: it does not open the private key.") from None
        raise KeyUnusable(
            "private_key: it is no private key in OpenSSH or PEM form; give the whole file, with its first and last line."
        ) from None
