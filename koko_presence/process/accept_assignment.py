"""Assigns the listening sockets of each slot to the workers that accept from them. Pure; `Fleet` and a worker that
follows a view of its own call it.

Each slot has its own listening sockets, to which the kernel distributes a share of the new connections [socket(7),
SO_REUSEPORT]. Every worker holds the sockets of all slots, so a slot without a worker needs no new descriptor: another
worker accepts from its sockets from its next loop iteration on.
"""

from collections.abc import Iterable, Mapping


def assign(slots: int, workers: Mapping[int, int], fresh: Iterable[int]) -> dict[int, frozenset[int]]:
    """Return, per worker id, the slots from whose sockets the worker accepts.

    `workers` maps the id of each worker that may accept to its slot; `fresh` lists the workers with a recent heartbeat.
    A worker always accepts for its own slot, also while it is not fresh, because it may have recovered before the next
    connection arrives. A slot without a fresh worker is assigned, in addition, to the fresh worker with the fewest
    slots; the lower id wins a tie."""
    assigned = {id: {slot} for id, slot in workers.items()}
    substitutes = sorted(set(fresh) & workers.keys())
    attended = {workers[id] for id in substitutes}
    for slot in range(slots):
        if slot not in attended and substitutes:
            assigned[min(substitutes, key=lambda id: (len(assigned[id]), id))].add(slot)
    return {id: frozenset(own) for id, own in assigned.items()}
