"""What the chart decides for every service: images, and where models may be read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Flags of the operator that end up in objects it makes."""

    worker_image: str
    gateway_image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    allowed_file_prefixes: tuple[str, ...] = ()

    def pull_secrets(self) -> list[dict[str, Any]]:
        """As a PodSpec wants them."""
        return [{"name": name} for name in self.image_pull_secrets]
