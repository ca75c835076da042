"""Enforces limits by client address, which apply before a user is known: connections, requests and token checks [Q5].

`AddressCounts` stores the counts of all workers; `AddressLimits` stores recent refusals; each `AddressUse` belongs to
one connection. Connections count while they are open, requests and token checks by the second. Loopback addresses, Unix
sockets and trusted proxies do not count; a request through a trusted proxy counts for the address in its header.
"""

import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

from koko_presence.config.trusted_proxies import Address, Header, Proxies, counted_as, read_address
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.metric_types import ADDRESS_LIMITS

from .address_counts import CONNECTIONS, QUESTIONS, REQUESTS, UNAUTHENTICATED, AddressCounts, CellIndexes

log = logging.getLogger("koko_presence.addresses")

Limit = Literal["connections", "unauthenticated", "requests", "questions"]
Values = Callable[[str], Sequence[str]]  # the values of a request's header, by its name in lower case

MAX_LIMITED = 256  # most recent entries of `AddressLimits.limited`
LIMITED_FOR_S = 600.0  # how long an entry is reported
RETRY_CONNECTION_S = 10  # Retry-After of a refused connection
RETRY_RATE_S = 1  # Retry-After of a refused request

NO_PROXIES = Proxies()


class Limited(NamedTuple):
    """An address that a limit was applied to: `refused` counts refusals since this entry was made, `at` is the
    monotonic second of the last one."""

    address: str
    limit: Limit
    refused: int
    at: float


class AddressLimits:
    """The address limits of one worker. Written by the acceptor, its connections and the HTTP side, on the worker's
    loop."""

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
        """`clock` returns monotonic seconds, on a clock shared by all workers. `header` is the header in which trusted
        `proxies` pass the client's address. `proxy_protocol`: only trusted proxies may connect, and each connection
        begins with a PROXY header."""
        self._counts, self._clock = counts, clock
        self.set(limits, proxies, header, proxy_protocol)
        self.refusals = dict.fromkeys(ADDRESS_LIMITS, 0)
        self._limited: OrderedDict[tuple[str, Limit], Limited] = OrderedDict()
        self._has_warned = False
        self._of_proxy = AddressUse(self, "", is_proxy=True)  # stateless, shared by all connections of proxies

    def set(self, limits: Limits, proxies: Proxies, header: Header, proxy_protocol: bool = False) -> None:
        """Set limits and proxies. Open connections stay counted for the address that they were accepted with."""
        self._limits, self._proxies, self._header = limits, proxies, header
        self.proxy_protocol = proxy_protocol

    def arrive(self, family: int, peer: Any) -> "AddressUse | None":
        """Count a connection accepted from `peer`, as accept() returns it. Returns None, without counting, when the
        address has as many connections as it may."""
        return self.come_from(_address(family, peer))

    def is_proxy(self, family: int, peer: Any) -> bool:
        """True when `peer`, as accept() returns it, is a trusted proxy."""
        return self._proxies.trust(_address(family, peer))

    def come_from(self, address: Address | None) -> "AddressUse | None":
        """`arrive` by address; None is a peer on a Unix socket."""
        if self._proxies.trust(address):
            return self._of_proxy
        if address is None or address.is_loopback:
            return FREE
        return AddressUse(self, counted_as(address)).begin()

    def client(self, values: Values) -> str:
        """The address for which a request through a trusted proxy counts; empty when it counts for none."""
        given = values(self._header)
        address = self._proxies.client(given, self._header)
        if not given and not self._has_warned:
            self._has_warned = True  # once: a proxy's own health checks have no header either
            log.warning(
                "request from a trusted proxy without %s: not counted by the address limits (server.forwarded_header)",
                self._header,
            )
        return "" if address is None or address.is_loopback else counted_as(address)

    def take_request(self, address: str) -> bool:
        """Count a request. Returns False when the address has made too many in this second."""
        return self._take("requests", REQUESTS, address, self._limits.address_requests_hz)

    def take_question(self, address: str) -> bool:
        """Count a request to the application about a token that is not cached. Returns False when the address has
        caused too many in this second."""
        return self._take("questions", QUESTIONS, address, self._limits.address_questions_hz)

    def has_enough(self, address: str) -> bool:
        """True when the address has as many connections as it may, or as many that are not authenticated; not counted
        as a refusal."""
        cell_indexes = self._counts.cell_indexes(address)
        return (
            self._counts.count(CONNECTIONS, cell_indexes) >= self._limits.address_connections
            or self._counts.count(UNAUTHENTICATED, cell_indexes) >= self._limits.address_unauthenticated
        )

    def enough(self, address: str, cell_indexes: CellIndexes) -> bool:
        """True, and counted as a refusal, when the address has as many connections as it may, or as many that are not
        authenticated."""
        if self._counts.count(CONNECTIONS, cell_indexes) >= self._limits.address_connections:
            self._refuse("connections", address)
            return True
        return self.enough_unauthenticated(address, cell_indexes)

    def enough_unauthenticated(self, address: str, cell_indexes: CellIndexes) -> bool:
        """True, and counted as a refusal, when the address has as many unauthenticated connections as it may."""
        if self._counts.count(UNAUTHENTICATED, cell_indexes) < self._limits.address_unauthenticated:
            return False
        self._refuse("unauthenticated", address)
        return True

    def cell_indexes(self, address: str) -> CellIndexes:
        """The counters of `address`."""
        return self._counts.cell_indexes(address)

    def add(self, kind: int, cell_indexes: CellIndexes, change: int) -> None:
        """Add `change`, 1 or -1, to the count of CONNECTIONS or UNAUTHENTICATED."""
        self._counts.add(kind, cell_indexes, change)

    def limited(self) -> list[Limited]:
        """The addresses refused in the last 600 s: at most `MAX_LIMITED`, the latest last."""
        since = self._clock() - LIMITED_FOR_S
        while self._limited and next(iter(self._limited.values())).at < since:
            self._limited.popitem(last=False)
        return list(self._limited.values())

    def tidy(self) -> None:
        """Clear the counts of workers that have ended."""
        self._counts.tidy()

    def close(self) -> None:
        """Clear this worker's counts; called once, when it ends."""
        self._counts.close()

    def _take(self, limit: Limit, kind: int, address: str, most: int) -> bool:
        if self._counts.take(kind, self._counts.cell_indexes(address), most, int(self._clock())):
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
    """The address of a peer as accept() returns it; None on a Unix socket."""
    return read_address(peer[0]) if family in (socket.AF_INET, socket.AF_INET6) else None


class AddressUse:
    """How one connection is counted for its address. `address` is empty when the connection does not count; `is_proxy`:
    it is a connection of a trusted proxy."""

    __slots__ = ("_connected", "_limits", "_unauthenticated", "address", "is_proxy")

    def __init__(self, limits: AddressLimits, address: str, *, is_proxy: bool = False) -> None:
        self._limits, self.address, self.is_proxy = limits, address, is_proxy
        self._connected = self._unauthenticated = False

    def begin(self) -> "AddressUse | None":
        """Count the connection, as unauthenticated. Returns None, without counting, when its address has as many as it
        may."""
        cell_indexes = self._limits.cell_indexes(self.address)
        if self._limits.enough(self.address, cell_indexes):
            return None
        self._connected = self._unauthenticated = True
        self._limits.add(CONNECTIONS, cell_indexes, 1)
        self._limits.add(UNAUTHENTICATED, cell_indexes, 1)
        return self

    def begin_websocket(self, values: Values) -> "AddressUse | None":
        """Count the connection as a WebSocket, upgraded by a request with the headers `values`. Returns what counts it
        from now on, None when the address has as many as it may. Through a trusted proxy the address in the header is
        counted, and the proxy's own connection stays uncounted."""
        if self.is_proxy:
            address = self._limits.client(values)
            return AddressUse(self._limits, address).begin() if address else FREE
        if self._connected and not self._unauthenticated:  # settled by an earlier HTTP request
            cell_indexes = self._limits.cell_indexes(self.address)
            if self._limits.enough_unauthenticated(self.address, cell_indexes):
                return None
            self._unauthenticated = True
            self._limits.add(UNAUTHENTICATED, cell_indexes, 1)
        return self

    def take_request(self, values: Values) -> bool:
        """Count a request with the headers `values`. Returns False when its address has made too many in this
        second."""
        address = self.client(values)
        return not address or self._limits.take_request(address)

    def has_enough(self, values: Values) -> bool:
        """True when the address of a client that sends the headers `values` may open no further WebSocket now."""
        address = self.client(values)
        return bool(address) and self._limits.has_enough(address)

    def take_question(self) -> bool:
        """Count a remote check of a token received on this connection. Returns False when its address has caused too
        many in this second."""
        return not self.address or self._limits.take_question(self.address)

    def question_taker(self, values: Values) -> Callable[[], bool]:
        """Return `take_question` for a token of a request with the headers `values`."""
        address = self.client(values)
        return lambda: not address or self._limits.take_question(address)

    def client(self, values: Values) -> str:
        """The address for which a request with the headers `values` counts; empty when it counts for none."""
        return self._limits.client(values) if self.is_proxy else self.address

    def settle(self) -> None:
        """Count the connection as authenticated: its session is open, or it carries HTTP, which needs no `auth`."""
        if self._unauthenticated:
            self._unauthenticated = False
            self._limits.add(UNAUTHENTICATED, self._limits.cell_indexes(self.address), -1)

    def end(self) -> None:
        """Uncount the connection when it is closed. Idempotent."""
        self.settle()
        if self._connected:
            self._connected = False
            self._limits.add(CONNECTIONS, self._limits.cell_indexes(self.address), -1)


FREE = AddressUse(cast(AddressLimits, None), "")  # for connections that do not count
