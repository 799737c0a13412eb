"""From a model URI to a folder on disk: a path as it stands, or a download from a Hugging Face hub."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from coxswain_crds.reasons import StartFailure
from coxswain_workers.engine.errors import ModelError, ModelNotFoundError

log = logging.getLogger(__name__)

FILES = ["*.safetensors", "*.json", "*.jinja"]
PROGRESS_SECONDS = 5.0


class RevisionNotFoundError(ModelError):
    """The repository exists, the revision does not."""

    reason = StartFailure.REVISION_NOT_FOUND


class AccessDeniedError(ModelError):
    """The hub wants a token, or another one."""

    reason = StartFailure.MODEL_ACCESS_DENIED


class DownloadFailedError(ModelError):
    """The hub cannot be reached or failed half-way; trying again may help."""

    reason = StartFailure.DOWNLOAD_FAILED


def is_download(uri: str) -> bool:
    """Whether `fetch_model` goes to the network."""
    return uri.startswith("hf://")


def fetch_model(uri: str) -> Path:
    """The folder of a checkpoint named by a path or by `hf://org/name[@revision]`; downloads what is not there yet.

    Honours HF_ENDPOINT, HF_TOKEN and HF_HOME. Raises ModelNotFoundError, RevisionNotFoundError, AccessDeniedError,
    DownloadFailedError.
    """
    if is_download(uri):
        repository, _, revision = uri.removeprefix("hf://").partition("@")
        return _download(repository, revision or None)
    path = Path(uri)
    if not path.is_dir():
        raise ModelNotFoundError(f"there is no directory {path}")
    return path


def _download(repository: str, revision: str | None) -> Path:
    os.environ.setdefault("HF_HOME", str(Path(tempfile.gettempdir()) / "huggingface"))  # the home may be read-only
    import huggingface_hub
    from huggingface_hub import errors

    log.info("downloading %s, revision %s", repository, revision or "main")
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=FILES, tqdm_class=_progress_class()
        )
    except errors.RevisionNotFoundError:
        raise RevisionNotFoundError(f"{repository} has no revision {revision}", field="spec.model.revision") from None
    except errors.GatedRepoError:
        raise AccessDeniedError(f"{repository} is gated: its terms must be accepted by HF_TOKEN's owner") from None
    except errors.RepositoryNotFoundError:
        raise ModelNotFoundError(f"the hub has no repository {repository}, or HF_TOKEN may not read it") from None
    except errors.HFValidationError as error:
        raise ModelNotFoundError(f"{repository!r} is not org/name: {error}") from None
    except OSError as error:  # connection errors, the hub's 5xx, a full disk
        reason = " ".join(str(error).split())
        raise DownloadFailedError(f"{repository} could not be downloaded: {reason}") from None
    log.info("downloaded %s", repository)
    return Path(folder)


def _progress_class() -> type[Any]:
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class LoggedProgress(tqdm):  # type: ignore[misc]
        """A progress bar whose picture is a line in the log, every few seconds."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._logged_at = time.monotonic()
            super().__init__(*arguments, **options)

        def display(self, *_arguments: Any, **_options: Any) -> None:
            if time.monotonic() - self._logged_at > PROGRESS_SECONDS:
                self._logged_at = time.monotonic()
                log.info("%s: %s of %s %s", self.desc, self.n, self.total, self.unit)

    return LoggedProgress
