"""Placement problems as files: Mélange's two formats and ours, which `docs/placement.md` describes."""

from coxswain_simulate.placements.case import Case, Flags
from coxswain_simulate.placements.formats import read

__all__ = ["Case", "Flags", "read"]
