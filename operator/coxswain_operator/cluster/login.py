"""Credentials for the API server: of the Pod's service account, or from a kubeconfig."""

from __future__ import annotations

import os
from pathlib import Path

import kopf


class Login:
    """Reads credentials anew each time it is called: the kubelet renews a service account's token."""

    def __init__(self, kubeconfig: Path | None) -> None:
        if kubeconfig is not None:
            os.environ["KUBECONFIG"] = str(kubeconfig)  # The only way to tell kopf's reader.
        self._explicit = kubeconfig is not None

    def __call__(self) -> kopf.ConnectionInfo:
        """What to connect to, and as whom. Raises kopf.LoginError."""
        settings = kopf.OperatorSettings()
        info = None if self._explicit else kopf.login_with_service_account(settings=settings)
        try:
            info = info or kopf.login_with_kubeconfig(settings=settings)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise kopf.LoginError(f"the kubeconfig cannot be read: {error}") from error
        if info is None:
            raise kopf.LoginError("neither a service account nor a kubeconfig is there: pass --kubeconfig FILE")
        return info
