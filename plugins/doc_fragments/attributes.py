# Copyright: Fleet Commander contributors. Apache-2.0.
"""What every module of this collection promises."""

from __future__ import annotations


class ModuleDocFragment:
    """Shared documentation."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can tell what it would change without changing it.
    support: full
  diff_mode:
    description: Shows what it changed, or would change.
    support: full
  idempotent:
    description: Changes nothing when run again.
    support: full
"""

    ONCE = r"""
options: {}
attributes:
  check_mode:
    description: Can tell that it would make something without making it.
    support: full
  diff_mode:
    description: Has nothing that may be shown.
    support: N/A
  idempotent:
    description: Makes another one each time; call it only where one is needed.
    support: none
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
"""
