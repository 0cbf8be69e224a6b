"""The agent's cache of stored models, and how it is shared."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gpu_inference.agent.cache import ModelCache, NoRoom, key_of
from gpu_inference.agent.share import AT_ONCE, Share
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.protocol import StoredFile, StoredItem, ticket_of
from tests.support.tiny_model import make_tiny_lora, make_tiny_model


def item_of(name: str, *contents: bytes, kind: str = "checkpoint", base: str = "") -> StoredItem:
    files = [StoredFile(name=f"{n}.bin", size=len(data), sha256=hashlib.sha256(data).hexdigest()) for n, data in enumerate(contents)]
    return StoredItem(type=kind, name=name, sha256=files[0].sha256, base=base, files=files)


def put(cache: ModelCache, name: str, *contents: bytes, used: float = 0.0, kind: str = "checkpoint", base: str = "") -> StoredItem:
    item = item_of(name, *contents, kind=kind, base=base)
    for file, data in zip(item.files, contents, strict=True):
        cache.part(file.sha256).write_bytes(data)
        cache.finish(file)
    cache.add(item)
    [note] = [each for each in (cache.path("0" * 64).parents[1] / "items").iterdir() if f'"name":"{name}"' in each.read_text()]
    os.utime(note, (used, used))
    return item


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "cache", 100)


def test_the_least_recently_used_goes_first(cache: ModelCache) -> None:
    for number, name in enumerate(("a", "b", "c")):
        put(cache, name, name.encode() * 30, used=1000 + number)
    new = item_of("d", b"d" * 35)
    assert cache.room_for(new, set()) == [("checkpoint", "a")]
    cache.touch(("checkpoint", "a"))
    assert cache.room_for(new, set()) == [("checkpoint", "b")]
    assert cache.room_for(item_of("d", b"d" * 10), set()) == []
    assert cache.room_for(item_of("d", b"d" * 60), set()) == [("checkpoint", "b"), ("checkpoint", "c")]


def test_what_is_in_use_stays(cache: ModelCache) -> None:
    put(cache, "a", b"a" * 60, used=1)
    put(cache, "b", b"b" * 30, used=2)
    assert cache.room_for(item_of("c", b"c" * 35), {("checkpoint", "a")}) == [("checkpoint", "b")]
    with pytest.raises(NoRoom, match="in use leaves less"):
        cache.room_for(item_of("c", b"c" * 50), {("checkpoint", "a")})
    with pytest.raises(NoRoom, match="may have 100"):
        cache.room_for(item_of("c", b"c" * 101), set())


def test_files_that_two_have_are_counted_and_kept_once(cache: ModelCache) -> None:
    put(cache, "a", b"x" * 60, b"a", used=1)
    put(cache, "b", b"x" * 60, b"b", used=2)
    assert cache.room_for(item_of("c", b"c" * 30), set()) == []
    cache.remove(("checkpoint", "a"))
    assert len(cache.whole()) == 2
    cache.remove(("checkpoint", "b"))
    assert cache.whole() == []


def test_a_restart_finds_what_is_whole_and_forgets_what_is_not(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, 100)
    put(cache, "a", b"a" * 10)
    broken = put(cache, "b", b"b" * 10)
    cache.path(broken.files[0].sha256).write_bytes(b"b" * 9)
    part = cache.part("1" * 64)
    part.write_bytes(b"half")
    (tmp_path / "items" / "junk.json").write_text("{")
    again = ModelCache(tmp_path, 100)
    assert [each.name for each in again.held()] == ["a"]
    assert part.exists(), "a fetch that was cut off is gone on with"
    os.utime(part, (1, 1))
    ModelCache(tmp_path, 100)
    assert not part.exists(), "but not for ever"


def test_no_name_is_a_path(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path / "cache", 100)
    put(cache, "../../evil", b"x")
    put(cache, "夜/..", b"y", kind="lora", base="tiny")
    assert {each.name for each in tmp_path.iterdir()} == {"cache"}
    with pytest.raises(ValueError, match="no SHA-256"):
        cache.path("../x")
    with pytest.raises(ValueError, match="pattern"):
        StoredFile(name="../x", size=1, sha256="0" * 64)


def test_the_engine_reads_what_is_there_and_no_more_when_it_looks_again(tmp_path: Path) -> None:
    own = make_tiny_model(tmp_path / "own", name="tiny")
    made = make_tiny_model(tmp_path / "made", seed=1, name="second")
    cache = ModelCache(tmp_path / "cache", 2**30)
    catalogue = Catalogue([own], lambda folder: pytest.fail("nothing is loaded"), tmp_path / "cache" / "library")
    assert (list(catalogue.folders), catalogue.problems) == (["tiny"], [])
    files = sorted(made.iterdir())
    item = item_of("second", *(each.read_bytes() for each in files))
    item.files = [file.model_copy(update={"name": path.name}) for file, path in zip(item.files, files, strict=True)]
    for file, path in zip(item.files, files, strict=True):
        cache.part(file.sha256).write_bytes(path.read_bytes())
        cache.finish(file)
    cache.add(item)
    lora = make_tiny_lora(tmp_path / "x.safetensors", base_model="elsewhere", name="another").read_bytes()
    put(cache, "dusk", lora, kind="lora", base="tiny")
    catalogue.scan()
    assert list(catalogue.folders) == ["tiny", "second"]
    assert {name: each.base_model for name, each in catalogue.loras.items()} == {"dusk": "tiny"}, "the store's word goes before the file's"
    told = {each.name: each.fetched for each in (*catalogue.infos(), *catalogue.lora_infos())}
    assert told == {"tiny": False, "second": True, "dusk": True}, "what came from the store is told of as such"
    catalogue.folders["second"].verify()
    cache.remove(key_of(item))
    cache.unlist(("lora", "dusk"))
    catalogue.scan()
    assert (list(catalogue.folders), list(catalogue.loras), catalogue.problems) == (["tiny"], [], [])


@pytest.fixture
def share(cache: ModelCache) -> Iterator[Share]:
    found = Share(cache, ("127.0.0.1", 0))
    yield found
    found.close()


def ask(share: Share, sha256: str, key: str, **headers: str) -> httpx.Response:
    ticket = {"Authorization": "Bearer " + ticket_of(key, sha256)} if key else {}
    return httpx.get(f"http://127.0.0.1:{share.port}/files/{sha256}", headers={**ticket, **headers}, trust_env=False)


def test_neighbours_get_whole_files_for_a_ticket(cache: ModelCache, share: Share) -> None:
    sha256 = put(cache, "a", b"0123456789").files[0].sha256
    assert ask(share, sha256, "k1").status_code == 403, "there is no key yet"
    share.use_key("k1")
    assert ask(share, sha256, "k1").content == b"0123456789"
    part = ask(share, sha256, "k1", Range="bytes=4-")
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"456789", "bytes 4-9/10")
    assert ask(share, sha256, "k1", Range="bytes=10-").status_code == 416
    for key in ("", "k2"):
        assert ask(share, sha256, key).status_code == 403
    share.use_key("k2")
    assert [ask(share, sha256, key).status_code for key in ("k1", "k2")] == [200, 200]
    share.use_key("k3")
    assert ask(share, sha256, "k1").status_code == 403, "two keys at most are good"


def test_a_ticket_opens_one_file_and_no_part_and_no_path(cache: ModelCache, share: Share) -> None:
    share.use_key("k")
    one, two = put(cache, "a", b"1").files[0].sha256, put(cache, "b", b"2").files[0].sha256
    url = f"http://127.0.0.1:{share.port}/files/"
    ticket = {"Authorization": "Bearer " + ticket_of("k", one)}
    assert httpx.get(url + two, headers=ticket, trust_env=False).status_code == 403
    cache.part("1" * 64).write_bytes(b"half")
    assert ask(share, "1" * 64, "k").status_code == 404
    for path in ("../items", one + ".part", "..%2f..%2fetc%2fpasswd", one.upper(), one + "/x", ""):
        assert httpx.get(url + path, headers=ticket, trust_env=False).status_code == 403
    assert httpx.post(url + one, headers=ticket, trust_env=False).status_code == 501


def test_too_many_neighbours_are_told_to_go_elsewhere(cache: ModelCache, share: Share) -> None:
    share.use_key("k")
    sha256 = put(cache, "a", b"1").files[0].sha256
    for _ in range(AT_ONCE):
        share._free.acquire()
    assert ask(share, sha256, "k").status_code == 503
    share._free.release()
    deadline = time.monotonic() + 5
    while ask(share, sha256, "k").status_code != 200:
        assert time.monotonic() < deadline
