"""What the API server says, what is kept of it, and how it is talked to.

`watching` and `resync` fill the `cache` with `records`; `api` is how everything else reads and writes, with the
credentials of `login`; `admission` is the answer when the API server asks. Nothing here decides what to do.
"""
