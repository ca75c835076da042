"""Which worker accepts connections from which listening sockets. Pure.

Each slot has listening sockets of its own, on which the kernel puts a share of the new connections [socket(7),
SO_REUSEPORT]. Every worker holds all of them, so a slot whose worker is missing needs no new descriptor: another worker
accepts from its sockets from the next turn of its loop on.
"""

from collections.abc import Iterable, Mapping


def assign(slots: int, workers: Mapping[int, int], fresh: Iterable[int]) -> dict[int, frozenset[int]]:
    """The slots from whose sockets each worker accepts, by worker id.

    `workers` has the slot of each worker that may accept, by id; `fresh` are those of them whose loop is known to run.
    A worker accepts for its own slot, also while it is not fresh: it may have recovered by the time a connection comes.
    A slot without a fresh worker is given, besides, to the fresh worker that has the fewest slots."""
    assigned = {id: {slot} for id, slot in workers.items()}
    substitutes = sorted(set(fresh) & workers.keys())
    attended = {workers[id] for id in substitutes}
    for slot in range(slots):
        if slot not in attended and substitutes:
            assigned[min(substitutes, key=lambda id: (len(assigned[id]), id))].add(slot)
    return {id: frozenset(own) for id, own in assigned.items()}
