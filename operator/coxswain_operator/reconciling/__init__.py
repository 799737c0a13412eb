"""Passes over services, one at a time for each: look at what is, do what is missing, say how it stands.

The `queue` says which service is due, `work` runs a pass over it, and `reconcile` is the pass: `acceptance` of the
spec, its `offspring`, its `replicas`, its status. `memory` is all that one pass leaves to the next.
"""
