from __future__ import annotations

import json
from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_it_answers_under_its_own_user(host: Any) -> None:
    assert host.service("fleet-commander").is_running
    assert host.service("fleet-commander").is_enabled
    [process] = host.process.filter(user="fleet-commander", comm="fleet")
    assert process.user == "fleet-commander"


def test_its_data_is_nobody_elses(host: Any) -> None:
    about = host.file("/var/lib/fleet-commander")
    assert (about.user, oct(about.mode)) == ("fleet-commander", "0o700")
    assert json.loads(host.check_output("systemctl show fleet-commander -p NoNewPrivileges --value | sed 's/yes/true/'")) is True
