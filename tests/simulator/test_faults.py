"""Engines die, slow down and are cut off; the scheduler restarts."""

from __future__ import annotations

import pytest

from coxswain_scheduler.interface import Cluster, Request
from coxswain_scheduler.simulator.setup import Fault
from tests.simulator.world import STEP, Written, ask, play, spec


def test_what_a_dead_engine_ran_arrives_again_and_goes_on_after_the_tokens_that_are_out() -> None:
    kill = Fault(kind="Kill", engine=0, at=1.035, detection_seconds=0.5)
    policy = Written()
    result, _ = play([ask(0, 1000, 11), ask(1, 1000, 1, at=1.2)], policy, faults=(kill,))
    one, late = result.outcomes
    assert policy.told[1:6] == [("arrived", 0), ("arrived", 1), ("lost", 0), ("arrived", 0), ("arrived", 1)]
    assert one.first_token == pytest.approx(1.0), "four tokens were out"
    assert late.first_token == pytest.approx(1.535 + 1.004 + 1.0), "sent to it while nobody knew"
    assert one.ended == pytest.approx(1.535 + 1.004 + 1.0 + 6 * STEP)
    assert one.emitted == 11


def test_a_dead_engine_is_replaced_after_its_start_up_time() -> None:
    kill = Fault(kind="Kill", engine=0, at=1.0, detection_seconds=0.5)
    policy = Written()
    result, _ = play(
        [ask(0, 100, 1), ask(1, 100, 1, at=20.0)], policy, engine=spec(startup_seconds=7.0), faults=(kill,)
    )
    assert ("joined", 2) in policy.told
    assert result.outcomes[1].ended == pytest.approx(20.1)
    assert result.engine_seconds == pytest.approx(20.1 * 2), (
        "the dead one cost until it was found, the new one from then"
    )
    times = [when for when, engines, *_ in result.load if engines == 1]
    assert (times[0], times[-1]) == (2.0, 8.0 - 1.0)


def test_one_that_was_cut_off_comes_back_empty() -> None:
    cut = Fault(kind="Partition", engine=0, at=1.0, seconds=3.0, detection_seconds=0.5)
    policy = Written({1: 2})
    result, _ = play(
        [ask(0, 2000, 1, chunks=(1, 2, 3, 4)), ask(1, 2000, 1, at=5.0, chunks=(1, 2, 3, 4))], policy, faults=(cut,)
    )
    assert policy.told.index(("lost", 0)) < policy.told.index(("joined", 2))
    assert result.outcomes[0].first_token == pytest.approx(1.5 + 2.0)
    assert result.outcomes[1].cached == 0


def test_a_slow_engine_s_steps_take_longer_from_the_next_one_on() -> None:
    slow = Fault(kind="Slow", engine=0, at=1.015, seconds=0.2, factor=5.0)
    result, _ = play([ask(0, 1000, 11)], Written(), faults=(slow,))
    assert result.outcomes[0].ended == pytest.approx(1.02 + 4 * 0.05 + 4 * STEP), "from 1.02 to 1.22"


def test_a_fault_of_an_engine_that_is_no_more_is_none() -> None:
    faults = (
        Fault(kind="Kill", engine=0, at=1.0),
        Fault(kind="Kill", engine=0, at=1.2),
        Fault(kind="Slow", engine=9, at=1.0),
    )
    result, _ = play([ask(0, 100, 1, at=5.0)], policy := Written(), faults=faults)
    assert policy.told.count(("lost", 0)) == 1 and result.outcomes[0].ended is not None


def test_an_engine_stopped_while_nobody_knows_that_it_is_dead_is_gone_and_not_replaced() -> None:
    kill = Fault(kind="Kill", engine=1, at=1.0, detection_seconds=1.0)
    policy = Written()
    play([ask(0, 100, 1, at=5.0)], policy, faults=(kill,), doing={1.5: lambda it: it.cluster.stop(1)})
    assert ("lost", 1) not in policy.told and ("joined", 2) not in policy.told


def test_a_restarted_scheduler_is_given_what_it_held_and_engines_go_on() -> None:
    class Forgetful(Written):
        """Holds everything until it is restarted."""

        starts = 0

        def begin(self, cluster: Cluster) -> None:
            super().begin(cluster)
            self.starts += 1

        def arrived(self, request: Request) -> None:
            self.told.append(("arrived", request.id))
            if request.id == 0 or self.starts > 1:
                self.cluster.dispatch(request, request.id % 2, hold=request.id == 0)

        def prefilled(self, request: Request) -> None:
            if self.starts > 1:
                self.cluster.place(request, 1)

    policy = Forgetful()
    requests = [ask(0, 1000, 5), ask(1, 500, 1, at=0.5), ask(2, 500, 1, at=8.0)]
    result, _ = play(requests, policy, restarts=(3.0,))
    assert policy.told.count(("arrived", 0)) == 1 and policy.told.count(("arrived", 1)) == 2
    assert [one.ended is not None for one in result.outcomes] == [True, True, True]
    assert [one.first_token for one in result.outcomes[:2]] == [pytest.approx(3.0 + STEP + 0.5)] * 2, "in one step"


def test_a_restart_does_not_hasten_clients_that_were_told_to_come_back_and_resumes_what_was_paused() -> None:
    class Sheds(Written):
        def arrived(self, request: Request) -> None:
            self.told.append(("arrived", request.id))
            if request.id == 1 and self.cluster.now < 1.0:
                self.cluster.shed(request, "later")
            else:
                self.cluster.dispatch(request, request.id)

    policy = Sheds()
    result, _ = play(
        [ask(0, 1000, 11), ask(1, 100, 1)],
        policy,
        retry_shed=1,
        retry_after_seconds=4.0,
        restarts=(2.0,),
        doing={1.015: lambda it: it.cluster.pause(it.requests[0])},
    )
    assert policy.told.count(("arrived", 1)) == 2
    assert result.outcomes[1].first_token == pytest.approx(4.1)
    assert result.outcomes[0].ended == pytest.approx(2.0 + 8 * STEP)
