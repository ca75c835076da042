"""Limits where there is no user yet: what one address may hold and ask, whichever worker it comes to [Q5].

An address is counted as long as its connections last, and by the second. Loopback and Unix sockets are free, and so is
a trusted proxy, whose connections are many people's: what it passes on counts for the address in its header.
"""

import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

from koko_presence.config.trusted_proxies import Address, Header, Proxies, counted_as, read_address
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.metric_types import ADDRESS_LIMITS

from .address_counts import CONNECTIONS, QUESTIONS, REQUESTS, UNAUTHENTICATED, AddressCounts, Places

log = logging.getLogger("koko_presence.addresses")

Limit = Literal["connections", "unauthenticated", "requests", "questions"]
Values = Callable[[str], Sequence[str]]  # the values of a request's header, by its name in lower case

MAX_LIMITED = 256  # addresses that are remembered as limited, the latest
LIMITED_FOR_S = 600.0  # how long
RETRY_CONNECTION_S = 10  # what a connection too many is told
RETRY_RATE_S = 1

NO_PROXIES = Proxies()


class Limited(NamedTuple):
    """An address that had more than it may: how often since it was last within, and when last, in monotonic seconds."""

    address: str
    limit: Limit
    refused: int
    at: float


class AddressLimits:
    """Of one worker. Written by the door, its connections and the HTTP side, on the worker's loop."""

    def __init__(
        self,
        limits: Limits,
        counts: AddressCounts,
        clock: Callable[[], float],
        *,
        proxies: Proxies = NO_PROXIES,
        header: Header = "x-forwarded-for",
        proxy_protocol: bool = False,
    ) -> None:
        """`clock` gives monotonic seconds, the same for all workers; `header` is the one that trusted `proxies` set;
        `proxy_protocol`: only they may connect, and say by a PROXY header whose a connection is."""
        self._counts, self._clock = counts, clock
        self.set(limits, proxies, header, proxy_protocol)
        self.refusals = dict.fromkeys(ADDRESS_LIMITS, 0)
        self._limited: OrderedDict[tuple[str, Limit], Limited] = OrderedDict()
        self._has_warned = False
        self._of_proxy = AddressUse(self, "", is_proxy=True)  # of all proxies' connections: it has no state

    def set(self, limits: Limits, proxies: Proxies, header: Header, proxy_protocol: bool = False) -> None:
        """What holds from now on. Connections that are there go on to count for the address that they came with."""
        self._limits, self._proxies, self._header = limits, proxies, header
        self.proxy_protocol = proxy_protocol

    def arrive(self, family: int, peer: Any) -> "AddressUse | None":
        """A connection was accepted from `peer`, as accept() gives it; None when its address has enough of them."""
        return self.come_from(_address(family, peer))

    def is_proxy(self, family: int, peer: Any) -> bool:
        """Is `peer`, as accept() gives it, a trusted proxy?"""
        return self._proxies.trust(_address(family, peer))

    def come_from(self, address: Address | None) -> "AddressUse | None":
        """The same as `arrive`, by the address; None is a peer on a Unix socket."""
        if self._proxies.trust(address):
            return self._of_proxy
        if address is None or address.is_loopback:
            return FREE
        return AddressUse(self, counted_as(address)).begin()

    def client(self, values: Values) -> str:
        """The address for which a request counts that came through a trusted proxy; empty when it counts for none."""
        given = values(self._header)
        address = self._proxies.client(given, self._header)
        if not given and not self._has_warned:
            self._has_warned = True  # once: a proxy's own checks have none either
            log.warning(
                "a trusted proxy has sent a request without %s: limits by address do not hold for such "
                "(server.forwarded_header)",
                self._header,
            )
        return "" if address is None or address.is_loopback else counted_as(address)

    def take_request(self, address: str) -> bool:
        """Count a request; False when there were too many in this second."""
        return self._take("requests", REQUESTS, address, self._limits.address_requests_hz)

    def take_question(self, address: str) -> bool:
        """Count a question to the application about a token that is not known; False when there were too many."""
        return self._take("questions", QUESTIONS, address, self._limits.address_questions_hz)

    def enough(self, address: str, places: Places) -> bool:
        """Has the address as many connections as it may, or as many that have not said whose they are?"""
        if self._counts.count(CONNECTIONS, places) >= self._limits.address_connections:
            self._refuse("connections", address)
            return True
        return self.enough_unauthenticated(address, places)

    def enough_unauthenticated(self, address: str, places: Places) -> bool:
        """Has it as many as it may that have not said whose they are?"""
        if self._counts.count(UNAUTHENTICATED, places) < self._limits.address_unauthenticated:
            return False
        self._refuse("unauthenticated", address)
        return True

    def places(self, address: str) -> Places:
        """Where `address` is counted."""
        return self._counts.places(address)

    def add(self, kind: int, places: Places, change: int) -> None:
        """One connection more or less."""
        self._counts.add(kind, places, change)

    def limited(self) -> list[Limited]:
        """Who was refused in the last ten minutes: at most `MAX_LIMITED`, the latest last."""
        since = self._clock() - LIMITED_FOR_S
        while self._limited and next(iter(self._limited.values())).at < since:
            self._limited.popitem(last=False)
        return list(self._limited.values())

    def tidy(self) -> None:
        """Forget what workers held that are gone."""
        self._counts.tidy()

    def close(self) -> None:
        """This worker is over."""
        self._counts.close()

    def _take(self, limit: Limit, kind: int, address: str, most: int) -> bool:
        if self._counts.take(kind, self._counts.places(address), most, int(self._clock())):
            return True
        self._refuse(limit, address)
        return False

    def _refuse(self, limit: Limit, address: str) -> None:
        self.refusals[limit] += 1
        before = self._limited.pop((address, limit), None)
        refused = before.refused + 1 if before is not None else 1
        self._limited[address, limit] = Limited(address, limit, refused, self._clock())
        if len(self._limited) > MAX_LIMITED:
            self._limited.popitem(last=False)


def _address(family: int, peer: Any) -> Address | None:
    """Of a peer as accept() gives it; None on a Unix socket."""
    return read_address(peer[0]) if family in (socket.AF_INET, socket.AF_INET6) else None


class AddressUse:
    """A connection, as its address is counted. `address` is empty when none is; `is_proxy`: it is a trusted proxy's."""

    __slots__ = ("_connected", "_limits", "_unauthenticated", "address", "is_proxy")

    def __init__(self, limits: AddressLimits, address: str, *, is_proxy: bool = False) -> None:
        self._limits, self.address, self.is_proxy = limits, address, is_proxy
        self._connected = self._unauthenticated = False

    def begin(self) -> "AddressUse | None":
        """Count it, as one that has not said whose it is; None, and not counted, when its address has enough."""
        places = self._limits.places(self.address)
        if self._limits.enough(self.address, places):
            return None
        self._connected = self._unauthenticated = True
        self._limits.add(CONNECTIONS, places, 1)
        self._limits.add(UNAUTHENTICATED, places, 1)
        return self

    def begin_websocket(self, values: Values) -> "AddressUse | None":
        """A request with these headers makes it a WebSocket: what counts from now on; None when the address has
        enough. Through a trusted proxy that is another address, and the proxy's own connection goes on to be free."""
        if self.is_proxy:
            address = self._limits.client(values)
            return AddressUse(self._limits, address).begin() if address else FREE
        if self._connected and not self._unauthenticated:  # it has made requests before
            places = self._limits.places(self.address)
            if self._limits.enough_unauthenticated(self.address, places):
                return None
            self._unauthenticated = True
            self._limits.add(UNAUTHENTICATED, places, 1)
        return self

    def take_request(self, values: Values) -> bool:
        """Count a request with these headers; False when its address has made too many in this second."""
        address = self.client(values)
        return not address or self._limits.take_request(address)

    def may_ask(self) -> bool:
        """Count a question about a token that came over this connection; False when there were too many."""
        return not self.address or self._limits.take_question(self.address)

    def may_ask_for(self, values: Values) -> Callable[[], bool]:
        """The same for a token that came with a request with these headers."""
        address = self.client(values)
        return lambda: not address or self._limits.take_question(address)

    def client(self, values: Values) -> str:
        """The address for which a request with these headers counts; empty when it counts for none."""
        return self._limits.client(values) if self.is_proxy else self.address

    def settle(self) -> None:
        """It has said whose it is, or is one that need not: a request came over it."""
        if self._unauthenticated:
            self._unauthenticated = False
            self._limits.add(UNAUTHENTICATED, self._limits.places(self.address), -1)

    def end(self) -> None:
        """The connection is over. Told again, nothing happens."""
        self.settle()
        if self._connected:
            self._connected = False
            self._limits.add(CONNECTIONS, self._limits.places(self.address), -1)


FREE = AddressUse(cast(AddressLimits, None), "")  # of a connection that does not count
