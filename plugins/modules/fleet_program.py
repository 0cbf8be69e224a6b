#!/usr/bin/python
# Copyright: Fleet Commander contributors. Apache-2.0.
"""One program with a way back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_program
short_description: Bring one program from the controller, or from a URL with a checksum
description:
  - Puts a program at O(path) whole and executable, or not at all. It is sent, or fetched, only where the one there has another checksum.
  - V(restored) removes a program that was brought; O(path) must be a place that nobody else uses.
author:
  - Fleet Commander maintainers
options:
  path:
    description: Where it goes.
    type: path
    required: true
  source:
    description: Which file on the controller.
    type: path
  url:
    description: Where the machine itself fetches it, in place of O(source).
    type: str
  sha256:
    description: Its checksum; required with O(url).
    type: str
  state:
    description: What shall be there.
    type: str
    choices: [present, restored]
    default: present
  brought:
    description: Where the controller's part of this module has put it. It fills that in.
    type: path
extends_documentation_fragment:
  - fleet.commander.attributes
"""

EXAMPLES = r"""
- name: Bring the server
  fleet.commander.fleet_program:
    path: /usr/local/lib/fleet/object-storage
    source: ~/downloads/minio
"""

RETURN = r"""
sha256:
  description: Its checksum.
  returned: success
  type: str
  sample: 9f2c11d4a0b37e559f2c11d4a0b37e559f2c11d4a0b37e559f2c11d4a0b37e55
"""

import hashlib
import os
import tempfile
from typing import BinaryIO

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.fleet.commander.plugins.module_utils.ledger import Ledger

SECONDS = 60


class Refused(Exception):
    """It cannot be had; the text is a sentence."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "source": {"type": "path"},
            "url": {"type": "str"},
            "sha256": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "restored"], "default": "present"},
            "brought": {"type": "path"},
        },
        mutually_exclusive=[("source", "url")],
        supports_check_mode=True,
    )
    given = module.params
    path, wanted = given["path"], (given["sha256"] or "").lower()
    ledger = Ledger("program")
    before = digest(path)
    if given["state"] == "restored":
        ours = ledger.get(path) is not None
        if ours and not module.check_mode:
            if before:
                os.unlink(path)
            ledger.forget(path)
        gone = bool(ours and before)
        module.exit_json(changed=gone, sha256="", diff={"before": f"{before}\n" if gone else "", "after": ""})
    if len(wanted) != 64:
        module.fail_json(msg="sha256 must be the program's checksum, 64 hexadecimal digits; a program from a URL is not run without it.")
    if before and before != wanted and ledger.get(path) is None:
        module.fail_json(msg=f"{path} is there already, and is not Fleet Commander's; move it out of the way.")
    changed = before != wanted
    diff = {"before": f"{before}\n" if before else "", "after": f"{wanted}\n"}
    if changed and not module.check_mode:
        if not given["url"] and not given["brought"]:
            module.exit_json(changed=False, needs_file=True, sha256=before)
        ledger.note(path, {"kind": "absent"})
        try:
            put(path, wanted, given["url"], given["brought"])
        except Refused as error:
            module.fail_json(msg=str(error))
        except OSError as error:
            module.fail_json(msg=f"{path} cannot be brought: {error}.")
    module.exit_json(changed=changed, sha256=wanted, diff=diff if changed else {"before": "", "after": ""})


def digest(path: str) -> str:
    """Return a file's SHA-256; empty where there is none."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                found.update(chunk)
    except FileNotFoundError:
        return ""
    return found.hexdigest()


def put(path: str, wanted: str, url: str | None, brought: str | None) -> None:
    """Copy it beside its place, look at its checksum, and move it there. Raises Refused and OSError."""
    handle, partial = tempfile.mkstemp(prefix=".fleet-", dir=os.path.dirname(path))
    found = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            with _opened(url, brought) as source:
                for chunk in iter(lambda: source.read(1 << 20), b""):
                    found.update(chunk)
                    file.write(chunk)
            if found.hexdigest() != wanted:
                raise Refused(f"What came from {url or 'the controller'} has the checksum {found.hexdigest()}, and not {wanted}.")
            os.fchmod(file.fileno(), 0o755)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _opened(url: str | None, brought: str | None) -> BinaryIO:
    opened: BinaryIO = open_url(url, timeout=SECONDS) if url else open(str(brought), "rb")  # noqa: SIM115 - the caller closes it
    return opened


if __name__ == "__main__":
    main()
