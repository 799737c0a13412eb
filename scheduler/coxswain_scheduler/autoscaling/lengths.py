"""How long answers get, learnt while they are being written.

Waiting for answers to end before believing that they have become longer costs minutes when answers take minutes. So
the model is a hazard: of all tokens that were written at a length between two edges, after how many did the answer end?
An answer still under way counts for what it has passed (the actuarial life-table estimator). Recent counts are shrunk
towards long-run ones where they are few (Gamma-Poisson), so that the far tail keeps its shape.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

EDGES: Array = np.concatenate([[0.0], 2.0 ** np.arange(3, 17.01, 0.25)])
"""Borders of the length classes, in tokens."""
_WIDTHS = np.diff(EDGES)
_RECENT_HALF_LIFE = 120.0
_LONG_HALF_LIFE = 4 * 3600.0
_SHRINK_ENDS = 4.0
"""Long-run ends that the recent counts are mixed with in each class."""
_PRIOR_ENDS = 2.0


class Lengths:
    """The distribution of output lengths, from what live answers have reached and where others ended."""

    def __init__(self, *, prior_mean: float = 512.0) -> None:
        self._recent = np.zeros((2, len(_WIDTHS)))
        """Ends, and tokens written, in each class; a half is forgotten after the half-life."""
        weight = np.exp(-EDGES[:-1] / prior_mean)
        self._long = np.vstack([_PRIOR_ENDS * weight, _PRIOR_ENDS * weight * prior_mean]) + 1e-9
        self._live = np.zeros(len(_WIDTHS))
        self._cumulative = np.zeros(len(EDGES))
        self._fit()

    def observe(self, *, live: npt.ArrayLike, ended: npt.ArrayLike, seconds: float) -> None:
        """Take the tokens that each live answer has reached, and those of answers that ended since the last call."""
        reached, gone = np.asarray(live, dtype=np.float64), np.asarray(ended, dtype=np.float64)
        passed = _passed(reached)
        fresh = np.vstack([np.bincount(_classes(gone), minlength=len(_WIDTHS)), _passed(gone) + passed - self._live])
        self._live = passed
        self._recent = self._recent * 0.5 ** (seconds / _RECENT_HALF_LIFE) + fresh
        self._long = self._long * 0.5 ** (seconds / _LONG_HALF_LIFE) + fresh
        self._fit()

    def survival(self, tokens: Array) -> Array:
        """The share of answers that get longer than `tokens`."""
        beyond = np.maximum(tokens - EDGES[-1], 0.0) * self._hazard[-1]
        result: Array = np.exp(-np.interp(tokens, EDGES, self._cumulative) - beyond)
        return result

    @property
    def mean(self) -> float:
        """Tokens of an answer."""
        return float(self._spent.sum())

    @property
    def mean_age(self) -> float:
        """Tokens that an answer under way has, seen at a random moment of a steady flow."""
        return float((self._spent * (EDGES[:-1] + _WIDTHS / 2)).sum() / max(self.mean, 1e-9))

    def young(self, tokens: float) -> float:
        """Tokens that an answer writes, on average, among its first `tokens`."""
        grid = np.append(EDGES[tokens > EDGES], tokens)
        alive = self.survival(grid)
        return float((np.diff(grid) * (alive[1:] + alive[:-1]) / 2).sum())

    def _fit(self) -> None:
        long = self._long[0] / np.maximum(self._long[1], 1e-9)
        ends, written = self._recent
        self._hazard = (ends + _SHRINK_ENDS) / (written + _SHRINK_ENDS / np.maximum(long, 1e-9))
        self._cumulative = np.append(0.0, np.cumsum(self._hazard * _WIDTHS))
        alive = np.exp(-self._cumulative)
        self._spent = (alive[:-1] - alive[1:]) / np.maximum(self._hazard, 1e-12)


def _classes(tokens: Array) -> npt.NDArray[np.intp]:
    """The class in which each length lies; what is beyond the last edge belongs to the last class."""
    return np.clip(np.searchsorted(EDGES, tokens, side="right") - 1, 0, len(_WIDTHS) - 1)


def _passed(tokens: Array) -> Array:
    """Tokens written in each class by answers that have reached `tokens`."""
    where = _classes(tokens)
    here = np.bincount(where, minlength=len(_WIDTHS)).astype(np.float64)
    partly = np.bincount(where, weights=np.minimum(tokens - EDGES[where], _WIDTHS[where]), minlength=len(_WIDTHS))
    beyond = np.cumsum(here[::-1])[::-1] - here
    result: Array = partly + beyond * _WIDTHS
    return result
