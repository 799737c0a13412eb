"""A real Kubernetes on one Linux machine, without Docker."""

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError, CommandError

__all__ = ["ClusterError", "CommandError", "ControlPlane"]
