from __future__ import annotations

from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def about(host: Any) -> dict[str, str]:
    return dict(line.split("=", 1) for line in host.check_output("systemctl show fleet-agent").splitlines() if "=" in line)


def test_the_engine_is_the_agents_child(host: Any) -> None:
    main = about(host)["MainPID"]
    assert "gpu_inference.engine.child" in host.check_output(f"ps --ppid {main} -o args")
    assert "The engine is up." in host.check_output("journalctl -u fleet-agent -o cat --no-pager")


def test_the_unit_is_hardened_and_has_what_an_engine_needs(host: Any) -> None:
    found = about(host)
    assert (found["User"], found["NoNewPrivileges"], found["ProtectSystem"]) == ("fleet-agent", "yes", "strict")
    assert found["MemoryDenyWriteExecute"] == "no", "engines compile as they run"
    assert (found["OOMPolicy"], found["MemoryMax"]) == ("continue", str(4096 * 1024 * 1024))
    assert set(found["SupplementaryGroups"].split()) == {name for name in ("video", "render") if host.group(name).exists}
    assert found["TimeoutStopUSec"] == "2min 5s"


def test_models_of_the_controller_are_there_and_no_picture_is_left(host: Any) -> None:
    lora = host.file("/opt/fleet/models/loras/night.safetensors")
    assert (lora.user, oct(lora.mode)) == ("root", "0o644")
    assert host.check_output("ls -d /tmp/fleet-render-* 2>/dev/null | wc -l") == "0"
