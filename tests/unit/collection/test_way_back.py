"""Whatever is done to a file, the ledger gives the node back what it had."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import file_plans, files
from ansible_collections.fleet.commander.plugins.module_utils.files import Place
from ansible_collections.fleet.commander.plugins.module_utils.ledger import Ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ME = (os.getuid(), os.getgid())


class Node:
    """A file on a node, with a ledger beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "etc" / "deep" / "file"
        self.ledger = str(folder / "fleet" / "ledger")

    def place(self) -> Place:
        return Place(str(self.path), self.ledger)

    def whole(self, content: bytes) -> None:
        self.place().put(*file_plans.whole(content, 0o640, *ME))

    def lines(self, *wanted: str) -> None:
        place = self.place()
        place.put(*file_plans.lines(place.now, place.entry, list(wanted), place.now.mode or 0o644, *ME))

    def keys(self, wanted: dict[str, Any]) -> None:
        place = self.place()
        place.put(*file_plans.keys(place.path, place.now, place.entry, wanted, place.now.mode or 0o644, *ME))

    def restore(self) -> bool:
        place = self.place()
        assert place.entry is not None
        wanted, edited = file_plans.restored(place.path, place.now, place.entry)
        place.give_back(wanted)
        return edited


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_file_that_was_not_there_goes_with_its_folders_and_the_ledger(node: Node, tmp_path: Path) -> None:
    node.whole(b"ours\n")
    assert node.path.read_bytes() == b"ours\n"
    assert node.restore() is False
    assert os.listdir(tmp_path) == []


def test_a_folder_that_others_use_by_now_stays(node: Node) -> None:
    node.whole(b"ours\n")
    (node.path.parent / "theirs").touch()
    node.restore()
    assert os.listdir(node.path.parent) == ["theirs"]


def test_the_first_entry_is_of_the_node_as_found(node: Node) -> None:
    node.path.parent.mkdir(parents=True)
    node.path.write_bytes(b"theirs\n")
    node.path.chmod(0o600)
    for content in (b"one\n", b"two\n"):
        node.whole(content)
    assert node.restore() is False
    assert node.path.read_bytes() == b"theirs\n"
    assert node.path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_somebody_edited_since_is_told_of(node: Node) -> None:
    node.whole(b"ours\n")
    node.path.write_bytes(b"edited\n")
    assert node.restore() is True


def test_lines_leave_what_others_write_alone(node: Node) -> None:
    node.path.parent.mkdir(parents=True)
    node.path.write_text("alice\nshared")
    node.lines("ours", "shared")
    assert node.path.read_text() == "alice\nshared\nours\n"
    node.path.write_text(node.path.read_text() + "bob\n")
    node.lines("other")
    assert node.path.read_text() == "alice\nshared\nbob\nother\n"
    node.restore()
    assert node.path.read_text() == "alice\nshared\nbob\n", "a line that was there before stays"


def test_keys_leave_what_others_set_alone(node: Node) -> None:
    node.path.parent.mkdir(parents=True)
    node.path.write_text('{"theirs": 1, "log": "syslog", "runtimes": {"kata": {}}}')
    node.keys({"log": "json-file", "runtimes": {"nvidia": {}}, "mirror": "m"})
    assert json.loads(node.path.read_text()) == {"theirs": 1, "log": "json-file", "mirror": "m", "runtimes": {"kata": {}, "nvidia": {}}}
    node.keys({"log": "json-file"})
    assert json.loads(node.path.read_text()) == {"theirs": 1, "log": "json-file", "runtimes": {"kata": {}}}
    node.restore()
    assert node.path.read_text() == '{"theirs": 1, "log": "syslog", "runtimes": {"kata": {}}}', "to the byte"


def test_what_is_no_json_is_refused_and_left(node: Node) -> None:
    node.path.parent.mkdir(parents=True)
    node.path.write_text("{ broken")
    with pytest.raises(files.NotOurs, match="is not valid JSON"):
        node.keys({"a": 1})
    assert node.path.read_text() == "{ broken"


texts = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), min_size=1), max_size=4
)
objects = st.dictionaries(
    st.text(max_size=4), st.one_of(st.integers(), st.text(max_size=4), st.none(), st.lists(st.integers())), max_size=4
)
common = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@common
@given(before=texts, runs=st.lists(texts, min_size=1, max_size=3))
def test_any_lines_come_and_go(tmp_path_factory: pytest.TempPathFactory, before: list[str], runs: list[list[str]]) -> None:
    node = Node(tmp_path_factory.mktemp("node"))
    node.path.parent.mkdir(parents=True)
    original = "".join(f"{line}\n" for line in before).encode()
    node.path.write_bytes(original)
    for wanted in runs:
        node.lines(*dict.fromkeys(wanted))
    assert set(runs[-1]) <= set(node.path.read_text().split("\n"))
    node.restore()
    assert node.path.read_bytes() == original


@common
@given(before=objects, runs=st.lists(objects, min_size=1, max_size=3))
def test_any_keys_come_and_go(tmp_path_factory: pytest.TempPathFactory, before: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    node = Node(tmp_path_factory.mktemp("node"))
    node.path.parent.mkdir(parents=True)
    original = json.dumps(before).encode()
    node.path.write_bytes(original)
    for wanted in runs:
        node.keys(wanted)
        assert wanted.items() <= json.loads(node.path.read_text()).items()
    node.restore()
    assert node.path.read_bytes() == original


def test_names_of_any_kind_are_kept_apart(tmp_path: Path) -> None:
    ledger = Ledger("file", str(tmp_path / "ledger"))
    for name in ("/etc/a", "/etc/a/b", "../escape", "ü %2F"):
        ledger.note(name, {"name": name})
    assert ledger.names() == sorted(["/etc/a", "/etc/a/b", "../escape", "ü %2F"])
    assert all((ledger.get(name) or {})["name"] == name for name in ledger.names())
    assert not (tmp_path / "escape.json").exists()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "ledger" / "file").iterdir()), "for root alone"
