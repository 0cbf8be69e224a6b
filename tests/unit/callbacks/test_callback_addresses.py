"""Where callbacks may go: every way to write an address that is not meant."""

from __future__ import annotations

import pytest

from fleet_api.adapters.http_out.url import parts_of
from fleet_api.callbacks.addresses import CallbackRules

ANY = ["0.0.0.0/0", "::/0"]
OWN = {"192.168.7.5", "2001:db8::5"}


def rules(networks: list[str] | None = None, private: bool = True) -> CallbackRules:
    return CallbackRules(ANY if networks is None else networks, private, {8765}, lambda: OWN)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"), ("127.255.255.254", "loopback"), ("::1", "loopback"), ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"), ("::", "unspecified"), ("169.254.1.1", "link-local"), ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"), ("169.254.169.254", "metadata"), ("fd00:ec2::254", "metadata"), ("100.100.100.200", "metadata"),
        ("192.0.0.192", "metadata"), ("224.0.0.1", "multicast"), ("239.255.255.250", "multicast"), ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"), ("240.0.0.1", "reserved"), ("fec0::1", "reserved"), ("100::1", "reserved"),
        # an IPv4 address in IPv6's clothes
        ("::ffff:127.0.0.1", "loopback"), ("::ffff:7f00:1", "loopback"), ("::ffff:0:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "metadata"), ("::ffff:0.0.0.0", "unspecified"), ("::127.0.0.1", "loopback"),
        ("64:ff9b::127.0.0.1", "loopback"), ("64:ff9b::a9fe:a9fe", "metadata"), ("64:ff9b:1::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"), ("2002:a9fe:a9fe::1", "metadata"), ("2001:0:7f00:1::", "loopback"),
        ("2001:0:102:304:0:0:80ff:fffe", "loopback"), ("2001:db8::5efe:127.0.0.1", "loopback"),
    ],
)  # fmt: skip
def test_what_is_never_meant_is_refused(address: str, kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        rules().check(address, 80)
    with pytest.raises(ValueError, match=kind):
        rules(["192.168.0.0/16"]).check(address, 80)


@pytest.mark.parametrize("address", ["10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"])
def test_private_networks_are_allowed_until_they_are_switched_off(address: str) -> None:
    rules().check(address, 80)
    with pytest.raises(ValueError, match="FLEET_CALLBACK_PRIVATE is off"):
        rules(private=False).check(address, 80)
    rules([*ANY, "10.0.0.0/8", "172.16.0.0/12", "192.168.1.0/24", "100.64.0.0/16", "fd00::/8"], private=False).check(address, 80)


@pytest.mark.parametrize("address", ["1.1.1.1", "203.0.113.9", "2606:4700::1", "64:ff9b::101:101", "2002:101:101::1"])
def test_others_are_allowed_where_the_list_has_them(address: str) -> None:
    rules().check(address, 443)
    rules(private=False).check(address, 443)
    with pytest.raises(ValueError, match="FLEET_CALLBACK_NETWORKS"):
        rules(["192.168.0.0/16"]).check(address, 443)
    assert rules([]).closed


def test_a_network_within_a_refused_range_opens_it_and_no_wider_one_does() -> None:
    rules(["127.0.0.0/8"]).check("127.0.0.1", 80)
    rules(["127.0.0.1/32"]).check("::ffff:127.0.0.1", 80)
    with pytest.raises(ValueError, match="loopback"):
        rules(["127.0.0.1/32"]).check("127.0.0.2", 80)
    with pytest.raises(ValueError, match="loopback"):
        rules(["126.0.0.0/7"]).check("127.0.0.1", 80)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "192.168.7.5", "2001:db8::5", "0.0.0.0", "::ffff:192.168.7.5", "64:ff9b::c0a8:705"]
)
def test_our_own_listeners_are_refused_whatever_is_listed(address: str) -> None:
    open_to_all = rules([*ANY, "127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128"])
    with pytest.raises(ValueError, match="own address"):
        open_to_all.check(address, 8765)
    open_to_all.check(address, 9000)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/", "http://017700000001/", "http://[::1]/",
        "http://localhost/", "http://LOCALHOST./", "http://app.localhost/", "http://127.0.0.1./", "http://0/",
        "http://[::ffff:127.0.0.1]:8000/", "http://①②⑦.0.0.1/", "http://[fe80::1%25eth0]/",
    ],
)  # fmt: skip
def test_ways_to_write_this_machine_are_refused_at_the_door(url: str) -> None:
    def at_the_door() -> None:
        _, host, port = parts_of(url)
        rules().check_host(host, port)

    with pytest.raises(ValueError, match="must"):
        at_the_door()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.invalid/", "//x.invalid", "http://", "http:///x", "x.invalid", "javascript:alert(1)", "http://x.invalid:0/",
        "http://x.invalid:99999/", "http://x.invalid:-1/", "http://a b.invalid/", "http://x.invalid/\r\nX: y", "http://x.invalid/\x00",
        "http://127.0.0.1\\@x.invalid/", "http://u:p@x.invalid/", "http://u@x.invalid/", "http://@x.invalid/", "http://x.invalid@127.0.0.1/",
        "http://[::1/", "http://x.invalid:80:80/",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parts_of(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://app.invalid/hook?x=1", ("https", "app.invalid", 443)), ("http://App.Invalid:8080", ("http", "app.invalid", 8080)),
        ("http://bücher.invalid/", ("http", "xn--bcher-kva.invalid", 80)), ("http://[2001:db8::1]:81/x", ("http", "2001:db8::1", 81)),
        ("http://192.0.2.1/a@b", ("http", "192.0.2.1", 80)), ("http://x.invalid#@127.0.0.1/", ("http", "x.invalid", 80)),
    ],
)  # fmt: skip
def test_how_an_address_is_read(url: str, expected: tuple[str, str, int]) -> None:
    assert parts_of(url) == expected
