"""Which engine holds the KV of which prompt prefix."""

from coxswain_scheduler.prefixes.holders import Holders, Level
from coxswain_scheduler.prefixes.index import PrefixIndex, names
from coxswain_scheduler.prefixes.seating import Seating
from coxswain_scheduler.prefixes.seats import SeatSet, seat_set

__all__ = ["Holders", "Level", "PrefixIndex", "SeatSet", "Seating", "names", "seat_set"]
