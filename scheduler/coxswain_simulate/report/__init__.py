"""Pictures of runs, and a page that holds them all."""

from coxswain_simulate.report.drawing import draw
from coxswain_simulate.report.figures import Figures, read_figures

__all__ = ["Figures", "draw", "read_figures"]
