"""``fleet models upload``, ``list``, ``scan``, ``delete``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_api import uploading
from fleet_api.client import FleetClient, FleetUnreachable
from tests.support.command import Command
from tests.support.live import Live
from tests.support.models import HOSTILE, lora


def test_a_lora_comes_and_goes(fleet: Command, served: Live, tmp_path: Path) -> None:
    path = tmp_path / "dusk.safetensors"
    path.write_bytes(lora("fleet-shapes"))
    out = fleet("models", "upload", str(path), "--lora", "--source", "mine", "--url", served.url).stdout
    assert "\nStored LoRA dusk, " in f"\n{out}"
    [found] = fleet.json("models", "list", "--loras", "--url", served.url)
    assert (found["name"], found["base"], found["source"]) == ("dusk", "fleet-shapes", "mine")
    assert "STORED" in fleet("models", "list", "--loras", "--url", served.url).stdout
    assert "Nothing has changed." in fleet("models", "scan", "--url", served.url).stdout
    assert "a LoRA 'dusk' already" in fleet("models", "upload", str(path), "--lora", "--url", served.url, code=4).stderr
    assert "Deleted dusk.\n" in fleet("models", "delete", "dusk", "--lora", "--url", served.url).stdout
    assert fleet.json("models", "list", "--loras", "--url", served.url) == []
    assert "no LoRA 'dusk'" in fleet("models", "delete", "dusk", "--lora", "--url", served.url, code=4).stderr


def test_what_is_refused_says_why(fleet: Command, served: Live, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(HOSTILE["pickle"][0])
    assert "Python pickle" in fleet("models", "upload", str(path), "--url", served.url, code=4).stderr
    assert "No such file" in fleet("models", "upload", str(tmp_path / "none"), "--url", served.url, code=2).stderr


def test_a_broken_connection_is_gone_on_with(served: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "PART_BYTES", 100)
    path = tmp_path / "night.safetensors"
    path.write_bytes(lora("fleet-shapes"))
    real, calls, told = FleetClient.send_part, [], []

    def breaking(self: FleetClient, upload_id: str, offset: int, part: bytes) -> dict[str, object]:
        calls.append(offset)
        if len(calls) == 2:
            real(self, upload_id, offset, part)  # it came, and the answer was lost
        if len(calls) in (2, 3):
            raise FleetUnreachable("It broke.")
        return real(self, upload_id, offset, part)

    monkeypatch.setattr(FleetClient, "send_part", breaking)
    with FleetClient(served.url) as client:
        done = uploading.upload(client, path, "night", True, None, None, lambda what, there: told.append((what, there)))
        assert done["status"] == "stored"
        client.delete_model("night", lora=True)
    assert calls == [0, 100, 200, 200]
    assert told[-1] == ("sending", path.stat().st_size)
