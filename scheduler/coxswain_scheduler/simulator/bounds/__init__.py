"""What no policy can exceed, from the trace alone: with hindsight, and without the cluster's obstacles."""

from coxswain_scheduler.simulator.bounds.counting import most_good
from coxswain_scheduler.simulator.bounds.feasibility import feasible, prefill_seconds
from coxswain_scheduler.simulator.bounds.fluid import FluidWork, fluid_work
from coxswain_scheduler.simulator.bounds.prefixes import infinite_cache, pooled_belady, pooled_lru, token_share
from coxswain_scheduler.simulator.bounds.prices import Prices, cheapest

__all__ = [
    "FluidWork",
    "Prices",
    "cheapest",
    "feasible",
    "fluid_work",
    "infinite_cache",
    "most_good",
    "pooled_belady",
    "pooled_lru",
    "prefill_seconds",
    "token_share",
]
