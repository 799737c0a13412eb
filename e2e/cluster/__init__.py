"""A real Kubernetes on one Linux machine, without Docker."""

from e2e.cluster.cluster import Cluster
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError, CommandError
from e2e.cluster.leftovers import leftovers

__all__ = ["Cluster", "ClusterError", "CommandError", "ControlPlane", "leftovers"]
