"""Which of the formats a file is in."""

from __future__ import annotations

from pathlib import Path

from coxswain_simulate.documents import Document
from coxswain_simulate.placements.case import Case, Flags
from coxswain_simulate.placements.melange import read_configuration, read_profiles
from coxswain_simulate.placements.ours import read_ours


def read(path: Path, flags: Flags) -> Case:
    """The problem in a file, in whichever format it has. Raises InputError that names file, line and field."""
    document = Document(path)
    if "gpu_info" in document.content:
        return read_configuration(document, flags)
    if "workload_distribution" in document.content:
        return read_profiles(document, flags)
    return read_ours(document, flags)
