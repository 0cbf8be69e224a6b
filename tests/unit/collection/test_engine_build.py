"""Engines of TensorRT by the role: a stand-in of the worker's command and of its Python."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import agent_command, agent_settings
from ansible_collections.fleet.commander.plugins.modules import fleet_engine_build, fleet_render_check
from ansible_collections.fleet.commander.plugins.modules.fleet_engine_build import BuildFailed, engines

WORKER = r"""#!/bin/sh
folder=$(dirname "$0")
echo "$@" >> "$folder/asked"
case "$2:$3" in
  wanted:sdxl)
    there=$(test -e "$folder/there" && echo true || echo false)
    for key in a b; do echo "{\"key\": \"$key\", \"there\": $there, \"said\": {}}"; done ;;
  wanted:broken) echo "TensorRT finds no GPU." >&2; exit 1 ;;
  wanted:plain|build:plain) echo "The model 'plain' has no graphs for TensorRT; import it again." >&2; exit 1 ;;
  build:broken) echo "0/4 text_encoder" >&2; echo "TensorRT did not build an engine of unet; its log tells why." >&2; exit 1 ;;
  build:slow) sleep 30 & echo $! > "$folder/grandchild"; wait ;;
  build:*)
    if test -e "$folder/there"; then echo "$3: every engine is there already"; exit 0; fi
    for part in 0/2 1/2; do echo "$part unet" >&2; done
    echo "2/2 done" >&2
    touch "$folder/there"
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
    monkeypatch.setattr(agent_command, "call", lambda options, words: agent_settings.Call(words, environment))
    return {"models": ["sdxl", "plain"], "policy": "auto", "seconds": 20, "program": str(tmp_path / "fleet-worker"), "container": ""}


def test_what_is_missing_is_built_once(given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float | None]] = []
    monkeypatch.setattr(fleet_engine_build.Progress, "tell", lambda self, text, percent=None: told.append((text, percent)))
    foretold = engines(given, True)
    assert (foretold["changed"], foretold["built"]) == (True, {"sdxl": 2})
    assert foretold["skipped"] == {"plain": "The model 'plain' has no graphs for TensorRT; import it again."}
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
    with pytest.raises(BuildFailed, match=r"It is not known which engines broken lacks: TensorRT finds no GPU."):
        engines({**given, "models": ["broken"]}, True)


def test_a_build_that_takes_too_long_is_ended_with_all_that_it_started(given: dict[str, Any], tmp_path: Path) -> None:
    begun = time.monotonic()  # the stand-in has a child that holds its pipes, as runuser has
    with pytest.raises(BuildFailed, match="build slow took longer than 1 s"):
        engines({**given, "models": ["slow"], "seconds": 1}, False)
    assert time.monotonic() - begun < 10
    stat = Path("/proc", (tmp_path / "grandchild").read_text().strip(), "stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_in_a_container_timeout_ends_it(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[list[str]] = []

    def inside(options: dict[str, Any], asked: list[str]) -> agent_settings.Call:
        words.append(asked)
        return agent_settings.Call(asked, {"PATH": agent_settings.PATH})

    monkeypatch.setattr(agent_command, "call", inside)
    with pytest.raises(agent_command.TookTooLong):
        agent_command.run({**given, "container": "abc"}, ["sleep", "30"], 1)
    assert agent_command.run({**given, "container": "abc"}, ["sh", "-c", "echo made; exit 124"], 20).code == 124
    assert words[0] == ["timeout", "-k", "5", "1", "sleep", "30"]


def test_a_picture_that_takes_too_long_is_no_picture(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_render_check, "_words", lambda options, path: ["sh", "-c", "sleep 30; echo late"])
    monkeypatch.setattr(fleet_render_check, "_by_agent", lambda _given: None)
    begun = time.monotonic()
    with pytest.raises(fleet_render_check.RenderFailed, match="it took longer than 1 s"):
        fleet_render_check.rendered({**given, "user": getpass.getuser(), "seconds": 1})
    assert time.monotonic() - begun < 10


def test_where_engines_are_yet_to_be_built_the_picture_is_of_the_built_in_model(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    lacking = "No engine of TensorRT 10.3.0 for sm_87 was built of the model 'sdxl' yet; build it with 'fleet-worker engines build sdxl'."

    def made(_given: dict[str, Any], words: list[str], *_more: Any, **_named: Any) -> agent_command.Done:
        asked.append(words)
        if words[-2] == "--model":
            return agent_command.Done(0, b"", "")
        return agent_command.Done(5, b"", lacking)

    monkeypatch.setattr(fleet_render_check, "run", made)
    monkeypatch.setattr(fleet_render_check, "_by_agent", lambda _given: None)
    monkeypatch.setattr(fleet_render_check, "size_of", lambda _content: (256, 256))
    monkeypatch.setattr(
        fleet_render_check, "_on_node", lambda given: fleet_render_check._run(given, fleet_render_check._words(given, "p.png"))
    )
    picture = fleet_render_check.rendered({**given, "prompt": "red", "size": "256x256", "steps": 4})
    assert (picture["unbuilt"], [words[-2:] for words in asked]) == (lacking, [["-o", "p.png"], ["--model", "builtin"]])
    monkeypatch.setattr(fleet_render_check, "UNBUILT", ())
    with pytest.raises(fleet_render_check.RenderFailed, match="was built of the model 'sdxl' yet"):
        fleet_render_check.rendered({**given, "prompt": "red", "size": "256x256", "steps": 4})


def test_as_the_agent_or_in_its_container(tmp_path: Path) -> None:
    (tmp_path / "agent.env").write_text("# ours\nFLEET_AGENT_LOG=info\nCUDA_VISIBLE_DEVICES=1\nPATH=/evil\n")
    (tmp_path / "engine.env").write_text('FLEET_AGENT_LOG="debug"\n')
    options = {"container": "", "user": "root", "groups": ["video"], "program": "/x/fleet-worker"}
    options["settings"] = [str(tmp_path / name) for name in ("agent.env", "engine.env", "none.env")]  # type: ignore[assignment]
    words, environment = agent_settings.call(options, ["/x/fleet-worker", "engines"])
    assert words == ["runuser", "-u", "root", "-G", "video", "--", "/x/fleet-worker", "engines"]
    assert (environment["FLEET_AGENT_LOG"], environment["PATH"]) == ("debug", agent_settings.PATH)
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    words, _ = agent_settings.call({**options, "container": "abc"}, ["cat", "/x"])
    assert words == ["docker", "exec", "abc", "cat", "/x"]
    assert agent_settings.program({**options, "container": "abc"}) == agent_settings.IN_CONTAINER
    assert json.dumps(agent_settings.FILES) == '["/etc/fleet/agent.env", "/etc/fleet/engine.env"]'
