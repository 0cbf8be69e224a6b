"""What ansible-runner tells, as events and sentences."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_api.adapters.ansible.events import result_of, told
from fleet_api.adapters.ansible.explain import sentence


def event(kind: str, **data: Any) -> dict[str, Any] | None:
    return told({"event": kind, "event_data": data, "stdout": "x"})


def test_a_changed_task_with_its_diff() -> None:
    made = event(
        "runner_on_ok", host="a", task="T", role="fleet.commander.jetson", res={"changed": True, "diff": [{"before": "1", "after": "2"}]}
    )
    assert made is not None
    assert (made["type"], made["node_id"], made["task"], made["role"]) == ("changed", "a", "T", "jetson")
    assert made["data"]["diff"] == [{"before": "1", "after": "2"}]


def test_facts_of_a_node_are_taken_from_its_info_alone() -> None:
    info = event("runner_on_ok", host="a", task="T", task_action="fleet.commander.fleet_node_info", res={"node": {"l4t_version": "35.4.1"}})
    other = event("runner_on_ok", host="a", task="T", task_action="ansible.builtin.command", res={"node": {"l4t_version": "35.4.1"}})
    assert info is not None
    assert other is not None
    assert info["data"]["fleet_facts"] == {"l4t_version": "35.4.1"}
    assert "fleet_facts" not in other["data"]


def test_what_tells_nothing_new_is_left_out() -> None:
    assert event("runner_on_start", host="a") is None
    assert event("runner_on_skipped", host="a") is None


def test_a_huge_result_is_cut() -> None:
    made = event("runner_on_failed", host="a", task="T", res={"msg": "m", "stdout": "x" * 1_000_000})
    assert made is not None
    assert len(made["text"]) <= 16_000


def test_a_failure_that_is_ignored() -> None:
    made = event("runner_on_failed", host="a", task="T", ignore_errors=True, res={"msg": "m"})
    assert made is not None
    assert made["type"] == "ignored"


def test_stats_by_host() -> None:
    made = event("playbook_on_stats", ok={"a": 3}, changed={"a": 1}, failures={}, dark={"b": 1}, skipped={}, rescued={}, ignored={})
    assert made is not None
    assert made["data"]["hosts"]["a"]["changed"] == 1
    assert made["data"]["hosts"]["b"]["dark"] == 1


def test_a_results_text_says_each_thing_once() -> None:
    assert result_of({"msg": "no", "stderr": "no", "stdout": ["a", "b"]}) == "no\na\nb"


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (
            "unreachable",
            "Failed to connect to the host via ssh: nvidia@192.0.2.1: Permission denied (publickey,password).",
            "into the vault and retry",
        ),
        ("unreachable", "ssh: connect to host 192.0.2.1 port 22: Connection timed out", "does not answer"),
        ("unreachable", "ssh: connect to host 192.0.2.1 port 22: Connection refused", "Nothing listens"),
        ("unreachable", "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@", "accept the new key"),
        ("failed", "Missing sudo password", "become_password"),
        ("failed", "Incorrect sudo password", "refused the password"),
        ("failed", "nvidia is not in the sudoers file.", "may not use sudo"),
        ("failed", "E: You don't have enough free space in /var/cache/apt/archives/.", "disk is full"),
        ("failed", "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7", "wait for its end"),
        ("failed", "E: dpkg was interrupted, you must manually run", "a retry repairs it"),
        ("failed", "Module result deserialization failed: No start of json char found", "cut off"),
        ("failed", "something else\nand more", "T failed: something else. Mend that, then retry."),
        ("failed", "", "no reason was given"),
    ],
)
def test_a_failure_says_what_to_do(kind: str, text: str, says: str) -> None:
    assert says in sentence(kind, text, "T")
