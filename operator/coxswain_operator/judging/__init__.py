"""Decisions, as pure functions of what is known: no input or output, no clock but the time handed in.

Which replicas are lost (`loss`), which to make and delete (`plan`), and how a service stands: a `situation` is judged
by its `conditions`, which go into its `status`.
"""
