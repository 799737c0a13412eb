"""Dispatch is timed with what it meets in life: prompts that some engines hold a part of, and engines that report."""

from __future__ import annotations

from itertools import islice
from statistics import fmean

from benchmarks.dispatching import Prompts, Scene


def test_prompts_are_sent_where_a_part_of_them_is_held() -> None:
    scene = Scene(32)
    found = list(scene.dispatch(islice(Prompts(), 1200)))
    sent = [each for each in found if each.at_once]
    assert len(found) == 1200
    assert len(sent) > 1000
    assert fmean(each.cached for each in sent) > 0.1
    assert all(each.nanoseconds > 0 for each in sent)
    assert scene.gateway.cluster.roster.prefixes.entries > 10_000
