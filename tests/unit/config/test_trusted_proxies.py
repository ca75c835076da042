"""The client address of a request: trusted proxies, their header, and the counted part of an address [Q5]."""

from ipaddress import ip_address

import pytest

from koko_presence.config.schema import ConfigError, load
from koko_presence.config.trusted_proxies import Header, Proxies, counted_as, read_address

SECRET = {"KOKO_PRESENCE_AUTH_SECRET": "x" * 32}
PROXIES = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48", "unix"])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("192.0.2.7:", None),
        ("192.0.2.256", None),
        ("example.com", None),
    ],
)
def test_addresses_are_read_as_proxies_write_them(text: str, address: str | None) -> None:
    assert read_address(text) == (None if address is None else ip_address(address))


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_ipv6_counts_by_64_bits(address: str, key: str) -> None:
    assert counted_as(ip_address(address)) == key


@pytest.mark.parametrize(
    ("header", "values", "client"),
    [
        ("x-forwarded-for", ["192.0.2.7"], "192.0.2.7"),
        ("x-forwarded-for", ["192.0.2.1, 192.0.2.7"], "192.0.2.7"),  # the client has invented the left one
        ("x-forwarded-for", ["192.0.2.7, 10.1.2.3,127.0.0.1"], "192.0.2.7"),
        ("x-forwarded-for", ["192.0.2.1", "192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        ("x-forwarded-for", ["192.0.2.7, unix:"], "192.0.2.7"),
        ("x-forwarded-for", ["192.0.2.1, nonsense"], None),
        ("x-forwarded-for", ["10.1.2.3, 127.0.0.1"], None),
        ("x-forwarded-for", ["127.0.0.1, 2001:db8:1::5"], None),
        ("x-forwarded-for", [], None),
        ("forwarded", ["for=192.0.2.7"], "192.0.2.7"),
        ("forwarded", ['for=192.0.2.1, For="[2001:db8::7]:4711";proto=https;by=10.0.0.1'], "2001:db8::7"),
        ("forwarded", ["for=192.0.2.7;proto=http, for=10.0.0.1"], "192.0.2.7"),
        ("forwarded", ['for="x, for="[2001:db8::7]"'], "2001:db8::7"),  # a quote that the client has left open
        ("forwarded", ['for=192.0.2.7;host="a;for=192.0.2.1,b"'], "192.0.2.7"),
        ("forwarded", ["for=192.0.2.1;for=192.0.2.7"], None),
        ("forwarded", ["for=_hidden"], None),
        ("forwarded", ["proto=https"], None),
    ],
)
def test_the_rightmost_address_that_is_no_trusted_proxy_counts(
    header: Header, values: list[str], client: str | None
) -> None:
    assert PROXIES.client(values, header) == (None if client is None else ip_address(client))


def test_a_proxy_is_trusted_by_address_network_or_as_a_unix_socket() -> None:
    for text, trusted in (("127.0.0.1", True), ("10.9.9.9", True), ("2001:db8:1::9", True), ("192.0.2.7", False)):
        assert PROXIES.trust(ip_address(text)) is trusted
    assert PROXIES.trust(None) and not Proxies(["127.0.0.1"]).trust(None)


def test_a_configuration_names_what_is_no_proxy() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, SECRET | {"KOKO_PRESENCE_SERVER_TRUSTED_PROXIES": "10.0.0.1/8, proxy.internal, unix, ::1"})
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["server.trusted_proxies"] * 2
    with pytest.raises(ConfigError, match=r"server\.trusted_proxies: is needed with server\.proxy_protocol"):
        load(None, SECRET | {"KOKO_PRESENCE_SERVER_PROXY_PROTOCOL": "true"})
    with pytest.raises(ConfigError, match=r"server\.forwarded_header"):
        load(None, SECRET | {"KOKO_PRESENCE_SERVER_FORWARDED_HEADER": "x-real-ip"})
