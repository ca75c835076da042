"""Declares how a command gets to the owner of its room or user when workers are lost on the way."""

from enum import Enum


class Delivery(Enum):
    """What happens to a command whose owner is lost, with everything that it had received, before the command's effects
    are known elsewhere [N-b]."""

    AT_MOST_ONCE = 1
    """It is lost, too. For commands that must not be executed twice."""

    SENDER_REPEATS = 2
    """Its sender keeps it until it has the answer, and sends it to the next owner: the edge that waits for the answer,
    or the room's owner, which sends a `ConfirmMember` at each change of owners. It may arrive twice."""

    BUS_REPEATS = 3
    """The bus keeps it until the owner's worker acknowledges it, and sends it to the backup owner otherwise. It may
    arrive twice."""
