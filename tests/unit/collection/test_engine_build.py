"""Engines of TensorRT by the role: a stand-in of the worker's command and of its Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import agent_settings
from ansible_collections.fleet.commander.plugins.modules import fleet_engine_build
from ansible_collections.fleet.commander.plugins.modules.fleet_engine_build import BuildFailed, engines

WORKER = r"""#!/bin/sh
folder=$(dirname "$0")
echo "$@" >> "$folder/asked"
case "$2:$3" in
  list:*) test ! -e "$folder/listed" || cat "$folder/listed" ;;
  build:plain) echo "The model 'plain' has no graphs for TensorRT; import it again." >&2; exit 1 ;;
  build:broken) echo "0/4 text_encoder" >&2; echo "TensorRT did not build an engine of unet; its log tells why." >&2; exit 1 ;;
  build:slow) exec sleep 30 ;;
  build:*)
    if grep -qs "^$3 " "$folder/listed"; then echo "$3: every engine is there already"; exit 0; fi
    for part in 0/2 1/2; do echo "$part unet" >&2; done
    echo "2/2 done" >&2
    echo "$3 unet sm_87 10.3.0 1,024 MiB" >> "$folder/listed"
    echo "$3: 2 engines built" ;;
esac
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of the module, for a worker that has TensorRT 10.3.0."""
    (tmp_path / "fleet-worker").write_text(WORKER)
    (tmp_path / "python").write_text("#!/bin/sh\necho 10.3.0\n")
    for name in ("fleet-worker", "python"):
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": agent_settings.PATH, "FLEET_AGENT_STATE_DIR": str(tmp_path)}
    monkeypatch.setattr(fleet_engine_build, "call", lambda options, words: agent_settings.Call(words, environment))
    return {"models": ["sdxl", "plain"], "policy": "auto", "seconds": 20, "program": str(tmp_path / "fleet-worker"), "container": ""}


def test_what_is_missing_is_built_once(given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float | None]] = []
    monkeypatch.setattr(fleet_engine_build.Progress, "tell", lambda self, text, percent=None: told.append((text, percent)))
    foretold = engines(given, True)
    assert (foretold["changed"], foretold["built"]) == (True, {"sdxl": 1, "plain": 1})
    assert "build" not in (tmp_path / "asked").read_text()
    made = engines(given, False)
    assert (made["changed"], made["tensorrt"], made["built"]) == (True, "10.3.0", {"sdxl": 2})
    assert made["skipped"] == {"plain": "The model 'plain' has no graphs for TensorRT; import it again."}
    assert told == [("sdxl: unet", 0.0), ("sdxl: unet", 50.0), ("sdxl: done", 100.0)]
    again = engines({**given, "models": ["sdxl"]}, False)
    assert (again["changed"], again["built"], again["diff"]) == (False, {}, {"before": "", "after": ""})
    assert engines({**given, "models": ["sdxl"]}, True)["changed"] is False


def test_without_tensorrt_nothing_is_built_unless_it_must_be(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'tensorrt'\" >&2\nexit 1\n")
    assert engines(given, False)["tensorrt"] == ""
    assert not (tmp_path / "asked").exists()
    with pytest.raises(BuildFailed, match=r"cannot import tensorrt \(ModuleNotFoundError: No module named 'tensorrt'\)"):
        engines({**given, "policy": "always"}, False)


def test_a_build_that_fails_is_told_in_its_own_words(given: dict[str, Any]) -> None:
    with pytest.raises(BuildFailed, match=r"The engines of broken were not built: TensorRT did not build an engine of unet; its log"):
        engines({**given, "models": ["broken"]}, False)
    with pytest.raises(BuildFailed, match="has no graphs for TensorRT"):
        engines({**given, "models": ["plain"], "policy": "always"}, False)
    with pytest.raises(BuildFailed, match="build slow took longer than 1 s"):
        engines({**given, "models": ["slow"], "seconds": 1}, False)


def test_engines_of_another_release_do_not_count() -> None:
    listed = "sdxl  unet  sm_87  8.6.2  900 MiB\nother unet sm_87 10.3.0 900 MiB\n"
    assert fleet_engine_build.have(listed, "10.3.0") == {"other"}
    assert fleet_engine_build.have("No engines yet in /x; build them with: fleet-worker engines build MODEL\n", "10.3.0") == set()


def test_as_the_agent_or_in_its_container(tmp_path: Path) -> None:
    (tmp_path / "agent.env").write_text("# ours\nFLEET_AGENT_LOG=info\nPATH=/evil\n")
    (tmp_path / "engine.env").write_text('FLEET_AGENT_LOG="debug"\n')
    options = {"container": "", "user": "root", "groups": ["video"], "program": "/x/fleet-worker"}
    options["settings"] = [str(tmp_path / name) for name in ("agent.env", "engine.env", "none.env")]  # type: ignore[assignment]
    words, environment = agent_settings.call(options, ["/x/fleet-worker", "engines"])
    assert words == ["runuser", "-u", "root", "-G", "video", "--", "/x/fleet-worker", "engines"]
    assert (environment["FLEET_AGENT_LOG"], environment["PATH"]) == ("debug", agent_settings.PATH)
    words, _ = agent_settings.call({**options, "container": "abc"}, ["cat", "/x"])
    assert words == ["docker", "exec", "abc", "cat", "/x"]
    assert agent_settings.program({**options, "container": "abc"}) == agent_settings.IN_CONTAINER
    assert json.dumps(agent_settings.FILES) == '["/etc/fleet/agent.env", "/etc/fleet/engine.env"]'
