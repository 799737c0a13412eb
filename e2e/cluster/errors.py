"""What goes wrong with a local cluster, in words for a user."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster could not do what was asked; the message says what failed, and where to look."""


class UnfitError(ClusterError):
    """This machine, or what was asked for, does not allow it; trying again will not help."""


class CommandError(ClusterError):
    """A program of the cluster exited non-zero. The message holds what it printed to standard error."""

    def __init__(self, command: str, code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"{command} exited with {code}: {(stderr or stdout).strip()}")
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
