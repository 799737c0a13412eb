"""Which engine computes a prompt: the one where its prefill and its wait together cost least.

An engine is a seat that is free at some moment. Waiting for a seat that holds the prefix costs this request some of its
slack; computing the prefix anew elsewhere costs everybody capacity. So a second of waiting is worth only a part of a
second of prefill, as long as the request is in time. Where engines also decode, a prompt waits until the decodes can
afford the stall: every step that is faster than the inter-token objective saves some of it up.

`choosing` compares `seats`, by how long the prefill takes (`durations`), by when the decodes there can afford it
(`stalls`) and by what else it costs (`tolls`); `choice` says why, and `clearing` has room made where there is none.
"""

from coxswain_scheduler.prefilling.choice import Candidate, Choice
from coxswain_scheduler.prefilling.choosing import Choosing
from coxswain_scheduler.prefilling.clearing import Clearing
from coxswain_scheduler.prefilling.durations import Durations
from coxswain_scheduler.prefilling.seat import Seat
from coxswain_scheduler.prefilling.seats import Seats
from coxswain_scheduler.prefilling.stalls import Stalls
from coxswain_scheduler.prefilling.tolls import Tolls

__all__ = ["Candidate", "Choice", "Choosing", "Clearing", "Durations", "Seat", "Seats", "Stalls", "Tolls"]
