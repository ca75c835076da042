"""Declares the metrics' data: the values of labels, the bounds of the histograms, and a worker's `Counters`.

Every label value comes from a table here, so that no text of a client becomes a label and their number is bounded.
"""

from msgspec import Struct, field

from .errors import CLOSES, ERRORS
from .events import EVENTS, SERVER_MESSAGES
from .messages import MESSAGES, ROOM_MESSAGES

INVALID = "invalid"  # received data that is no message of the protocol
OTHER = "other"

RECEIVED_TYPES = (*sorted(MESSAGES), INVALID)
# a frame's type is searched in this order; a compact `cursors` message counts as its cursors
SENT_TYPES = (*EVENTS, *(type_ for type_ in SERVER_MESSAGES if type_ != "cursors"), OTHER)
COALESCED_TYPES = tuple(type_ for type_, message in ROOM_MESSAGES.items() if message.coalesced)
SUPERSEDED, SLOW_CONSUMER = "superseded", "slow_receiver"
DROP_REASONS = (SUPERSEDED, SLOW_CONSUMER, *sorted(code.lower() for code in ERRORS))
AUTH_RESULTS = (
    "accepted", "resumed", "resumed_unchecked", "refreshed", "refused", "unavailable", "session_limit", "timeout",
)  # fmt: skip
CLOSE_CODES = tuple(str(code) for code in sorted({1000, 1001, 1005, 1006, *CLOSES}))
ADDRESS_LIMITS = ("connections", "unauthenticated", "requests", "questions")  # [Q5]
WEBHOOK_RESULTS = ("delivered", "given_up", "dropped")
UPSTREAMS = ("access", "introspect", "jwks", "webhook")  # the servers to which this one sends requests
UPSTREAM_RESULTS = ("answered", "error", "timeout", "unreachable", "skipped")
ROOM_TYPES = ("project", "video", "comment_thread", "comparison")

# upper bounds in seconds; the last bucket has no upper bound
BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram(Struct, kw_only=True):
    """A histogram of durations: `buckets` has a count per bound of `BOUNDS_S` and one above the last; `sum_s` is their
    sum in seconds."""

    buckets: list[int]
    sum_s: float

    @property
    def count(self) -> int:
        return sum(self.buckets)


class CounterTotals(Struct, kw_only=True):
    """The counters that are incremented as events occur, since the process began."""

    accepted: int
    turned_away: int
    given_up: int = 0  # connections that the client had closed before they were served
    joins: int
    auth: dict[str, int]
    disconnects: dict[str, int]
    received: dict[str, int]
    sent: dict[str, int]
    dropped: dict[str, dict[str, int]]  # message type -> reason -> count
    fanout_bytes: int
    flushes: int
    forwards: int
    mesh_bytes: int
    webhooks: dict[str, int] = {}  # webhook events, by `WEBHOOK_RESULTS`
    limited: dict[str, int] = {}  # refusals because of an address's limit, by `ADDRESS_LIMITS`
    upstream_requests: dict[str, dict[str, int]] = {}  # by `UPSTREAMS` and `UPSTREAM_RESULTS`
    upstream_durations: dict[str, Histogram] = {}  # of the requests that were sent, by `UPSTREAMS`
    log_lines_lost: int = 0
    broadcast: Histogram
    join: Histogram
    join_access: Histogram = field(default_factory=lambda: Histogram(buckets=[0] * (len(BOUNDS_S) + 1), sum_s=0.0))
    lag: Histogram


class Counters(Struct, kw_only=True):
    """One worker at the time of a scrape: its counters, and the values that are read for the scrape."""

    totals: CounterTotals
    versions: dict[str, str]
    connections: int
    sessions: int
    users: int
    rooms: dict[str, int]
    room_members_max: int
    send_queue_bytes: int
    slow_receivers: int
    lag_max_s: float
    iteration_cpu_max_s: float = 0.0
    cpu_s: float
    resident_bytes: int
    started_s: float
    webhook_queue: int = 0
    access_breaker_open: bool = False
    view_epoch: int
    recovering: bool
    load: float = 0.0  # share of the time in which the worker ran or waited for a core
    overloaded: bool = False
    entry_wait_s: float = 0.0  # the longest time for which a new connection may have waited so far
    flush_window_s: float = 0.0
    advised_interval_s: float = 0.0
    connections_allowed: int = 0
    descriptors: int = 0
    descriptors_allowed: int = 0
    memory_bytes: int = 0  # the usage that counts against the nearest limit
    memory_limit_bytes: int = 0  # 0: no limit


class MainCounts(Struct, kw_only=True):
    """The counters of the main process: the supervisor, or the only worker, whose other numbers are its `Counters`."""

    clock_jumps: int = 0
    reported: dict[str, int] = {}  # reports by other workers that a worker is unreachable, by its slot
    log_lines_lost: int = 0
    descriptors: int = 0
    descriptors_allowed: int = 0
    events_dropped: int = 0  # webhook events of a stopped worker that no other worker could take
