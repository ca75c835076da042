"""The limits per client address: counted by all workers together, in memory that does not grow [Q5]."""

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from koko_presence.config.trusted_proxies import Proxies
from koko_presence.protocol.limits import Limits
from koko_presence.server.address_counts import (
    CONNECTIONS,
    KEY_BYTES,
    REQUESTS,
    UNAUTHENTICATED,
    AddressCounts,
    shared_memory,
)
from koko_presence.server.address_limits import LIMITED_FOR_S, MAX_LIMITED, AddressLimits, AddressUse

HOME, OFFICE = ("192.0.2.7", 4711), ("198.51.100.1", 4711)
FEW = Limits(address_connections=4, address_unauthenticated=2, address_requests_hz=3, address_questions_hz=1)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """The limits of one worker, on a clock of its own."""

    def __init__(self, limits: Limits = FEW, *proxies: str, **settings: Any) -> None:
        self.clock, self.counts = Clock(), AddressCounts()
        self.limits = AddressLimits(limits, self.counts, self.clock, proxies=Proxies(proxies), **settings)

    def come(self, peer: tuple[str, int] = HOME) -> AddressUse | None:
        return self.limits.arrive(socket.AF_INET, peer)

    def admit(self, peer: tuple[str, int] = HOME) -> AddressUse:
        use = self.come(peer)
        assert use is not None
        return use


def header(**values: str) -> Any:
    """A request's headers; underscores stand for hyphens."""
    return lambda name: [text for key, text in values.items() if key.replace("_", "-") == name]


def test_an_address_has_so_many_connections_and_another_is_served_meanwhile() -> None:
    place = Place()
    uses = []
    for _ in range(4):
        uses.append(place.admit())
        uses[-1].settle()
    assert place.come() is None and place.come(("192.0.2.7", 1)) is None
    assert place.come(OFFICE) is not None
    assert place.limits.refusals == {"connections": 2, "unauthenticated": 0, "requests": 0, "questions": 0}
    uses[0].end()
    uses[0].end()  # counted out once
    assert place.come() is not None and place.come() is None


def test_an_address_has_so_many_unauthenticated_connections() -> None:
    place = Place()
    first, _ = place.admit(), place.admit()
    assert place.come() is None and place.limits.refusals["unauthenticated"] == 1
    first.settle()
    assert place.come() is not None


def test_a_websocket_after_requests_counts_as_unauthenticated() -> None:
    place = Place()
    kept = place.admit()
    kept.settle()  # a request arrived on it
    waiting = [place.admit(), place.admit()]
    assert kept.begin_websocket(header()) is None
    waiting[0].settle()
    assert kept.begin_websocket(header()) is kept
    assert place.come() is None
    kept.end()
    assert place.counts.count(UNAUTHENTICATED, place.counts.cell_indexes("192.0.2.7")) == 1
    assert place.counts.count(CONNECTIONS, place.counts.cell_indexes("192.0.2.7")) == 2


def test_requests_and_provider_requests_are_counted_by_the_second() -> None:
    place = Place()
    use = place.admit()
    assert [use.take_request(header()) for _ in range(4)] == [True, True, True, False]
    assert [use.take_question(), use.take_question(), use.question_taker(header())()] == [True, False, False]
    assert place.admit(OFFICE).take_request(header())
    place.clock.now += 1
    assert use.take_request(header()) and use.take_question()
    assert place.limits.refusals == {"connections": 0, "unauthenticated": 0, "requests": 1, "questions": 2}


def test_whether_an_address_has_enough_connections_is_asked_without_counting() -> None:
    place = Place()
    kept, other = place.admit(), place.admit()
    assert kept.has_enough(header()), "two that are not authenticated"
    kept.settle()
    assert not kept.has_enough(header())
    other.settle()
    further = [place.admit() for _ in range(2)]
    for each in further:
        each.settle()
    assert kept.has_enough(header()) and place.come() is None
    further[0].end()
    assert not kept.has_enough(header())
    assert place.limits.refusals == {"connections": 1, "unauthenticated": 0, "requests": 0, "questions": 0}
    proxied = Place(FEW, "127.0.0.1")
    proxy, home = proxied.admit(("127.0.0.1", 1)), header(x_forwarded_for="192.0.2.7")
    assert proxy.begin_websocket(home) is not None and not proxy.has_enough(home)
    assert proxy.begin_websocket(home) is not None and proxy.has_enough(home)
    assert not proxy.has_enough(header(x_forwarded_for="198.51.100.1")) and not proxy.has_enough(header())


@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("127.8.8.8", 1), ("::ffff:127.0.0.1", 1, 0, 0), ("::1", 1, 0, 0)])
def test_loopback_is_free(peer: Any) -> None:
    place = Place()
    for _ in range(20):
        use = place.limits.arrive(socket.AF_INET6, peer)
        assert use is not None and use.take_request(header()) and use.take_question()
    assert place.limits.arrive(socket.AF_UNIX, "") is not None


def test_what_a_trusted_proxy_passes_on_counts_for_the_address_in_its_header() -> None:
    place = Place(FEW, "127.0.0.1")
    proxy = place.admit(("127.0.0.1", 1))
    home, office = header(x_forwarded_for="192.0.2.7"), header(x_forwarded_for="192.0.2.7, 198.51.100.1")
    sockets = [proxy.begin_websocket(home) for _ in range(3)]
    assert [use is not None for use in sockets] == [True, True, False]
    assert proxy.begin_websocket(office) is not None
    assert [proxy.take_request(home) for _ in range(4)] == [True, True, True, False] and proxy.take_request(office)
    assert proxy.question_taker(home)() and not proxy.question_taker(home)() and proxy.question_taker(office)()
    assert all(proxy.take_request(header()) for _ in range(20)), "its own, such as a check of health"
    assert place.come() is None, "the same address without the proxy"
    proxy.end()
    assert proxy.begin_websocket(home) is None, "a proxy's own connection is not what counts"


def test_the_header_of_a_peer_that_is_no_trusted_proxy_counts_for_nothing() -> None:
    place = Place()
    use = place.admit()
    made_up = header(x_forwarded_for="203.0.113.9", forwarded="for=203.0.113.9")
    assert [use.take_request(made_up) for _ in range(4)] == [True, True, True, False]
    assert use.begin_websocket(made_up) is use and use.client(made_up) == "192.0.2.7"


def test_only_the_configured_header_counts() -> None:
    place = Place(FEW, "127.0.0.1", header="forwarded")
    proxy = place.admit(("127.0.0.1", 1))
    assert proxy.client(header(x_forwarded_for="203.0.113.9", forwarded="for=192.0.2.7")) == "192.0.2.7"
    assert proxy.client(header(x_forwarded_for="203.0.113.9")) == ""


def test_a_reload_holds_from_the_next_connection_on() -> None:
    place = Place()
    uses = [place.admit(), place.admit()]
    place.limits.set(Limits(address_unauthenticated=1), Proxies(["198.51.100.1"]), "forwarded")
    uses[0].settle()
    assert place.come() is None
    uses[1].settle()
    assert place.come() is not None
    assert place.admit(OFFICE).client(header(forwarded="for=192.0.2.7", x_forwarded_for="1.2.3.4")) == "192.0.2.7"


def test_limited_addresses_are_listed_for_a_while_and_in_a_bounded_number() -> None:
    place = Place(Limits(address_requests_hz=1))
    for number in range(MAX_LIMITED + 10):
        use = place.admit((f"10.0.{number >> 8}.{number & 255}", 1))
        for _ in range(3):
            use.take_request(header())
    limited = place.limits.limited()
    assert len(limited) == MAX_LIMITED and {(each.limit, each.refused) for each in limited} == {("requests", 2)}
    assert limited[-1].address == f"10.0.{(MAX_LIMITED + 9) >> 8}.{(MAX_LIMITED + 9) & 255}"
    place.clock.now += LIMITED_FOR_S + 1
    assert place.limits.limited() == []


def test_no_address_is_counted_too_low_however_many_there_are() -> None:
    counts = AddressCounts(key=bytes(range(KEY_BYTES)))
    addresses = [counts.cell_indexes(f"2001:db8:{number >> 16:x}:{number & 65535:x}::/64") for number in range(20_000)]
    for cell_indexes in addresses:
        counts.add(CONNECTIONS, cell_indexes, 1)
    found = [counts.count(CONNECTIONS, cell_indexes) for cell_indexes in addresses]
    assert min(found) >= 1 and max(found) < 20, "and none so high that it is near a limit"


OTHER_WORKER = """
import sys
from koko_presence.server.address_counts import CONNECTIONS, REQUESTS, AddressCounts
counts = AddressCounts(int(sys.argv[1]))
assert counts.is_shared
cell_indexes = counts.cell_indexes("192.0.2.7")
counts.add(CONNECTIONS, cell_indexes, 3)
assert counts.take(REQUESTS, cell_indexes, 2, 1000)
print("counted", flush=True)
sys.stdin.read()
"""


def test_workers_count_together_and_the_counts_of_a_dead_one_are_dropped() -> None:
    fd = shared_memory(1, bytes(range(KEY_BYTES)))
    try:
        counts = AddressCounts(fd)
        cell_indexes = counts.cell_indexes("192.0.2.7")
        counts.add(CONNECTIONS, cell_indexes, 1)
        command = [sys.executable, "-c", OTHER_WORKER, str(fd)]
        with subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None and other.stdout.readline() == b"counted\n"
            assert counts.count(CONNECTIONS, cell_indexes) == 4
            assert counts.take(REQUESTS, cell_indexes, 2, 1000) and not counts.take(REQUESTS, cell_indexes, 2, 1000)
            assert counts.take(REQUESTS, cell_indexes, 2, 1001), "the other one's are of the second before"
            counts.tidy()
            assert counts.count(CONNECTIONS, cell_indexes) == 4, "it lives"
            other.kill()
        counts.tidy()
        assert counts.count(CONNECTIONS, cell_indexes) == 1
        counts.close()
        successor = AddressCounts(fd)
        assert successor.count(CONNECTIONS, cell_indexes) == 0, "a successor begins with nothing"
        counts.add(CONNECTIONS, cell_indexes, 1)  # a connection that ends after its worker has
        assert successor.count(CONNECTIONS, cell_indexes) == 0, "and its row is its own"
    finally:
        os.close(fd)
