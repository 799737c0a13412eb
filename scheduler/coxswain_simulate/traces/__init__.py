"""Traces of requests, from the formats in which they are published."""

from coxswain_simulate.traces.loading import FORMATS, Options, load
from coxswain_simulate.traces.mooncake import write

__all__ = ["FORMATS", "Options", "load", "write"]
