"""How long an engine's work takes: from rooflines and measured tables, and learnt from its own steps."""

from coxswain_scheduler.costs.fitted import StepCost
from coxswain_scheduler.costs.timing import Timing, Work

__all__ = ["StepCost", "Timing", "Work"]
