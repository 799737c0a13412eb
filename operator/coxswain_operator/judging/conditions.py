"""The conditions of a service: each one function from the situation to a verdict.

Messages name things and counts, never ages: a condition that stays the same is the same text, and is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coxswain_crds import durations, reasons
from coxswain_crds.llm_service import Objective
from coxswain_crds.reasons import Condition
from coxswain_operator.cluster.timestamps import seconds
from coxswain_operator.judging.situation import Situation
from coxswain_operator.observing.measured import MIN_COUNT, Latencies

Object = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """`status` is True, False or Unknown."""

    status: str
    reason: str
    message: str


def judge(situation: Situation, *, now: float) -> list[Object]:
    """All conditions, as they go into the status. `now` is seconds since the epoch."""
    return [_written(condition, judged(situation), situation, now) for condition, judged in _JUDGES.items()]


def _written(condition: str, verdict: Verdict | None, situation: Situation, now: float) -> Object:
    """A verdict with its times; None repeats what was said before, or says that nothing is known."""
    previous = situation.previous.get(condition)
    if verdict is None and previous is not None:
        return dict(previous)
    if verdict is None:
        verdict = Verdict("Unknown", reasons.Ready.STATUS_UNREACHABLE, "the gateways have not been asked yet")
    same = previous is not None and previous.get("status") == verdict.status
    return {
        "type": str(condition),
        "status": verdict.status,
        "reason": str(verdict.reason),
        "message": verdict.message,
        "lastTransitionTime": previous["lastTransitionTime"] if same and previous else seconds(now),
        "observedGeneration": _about(condition, situation, previous),
    }


def _about(condition: str, situation: Situation, previous: Object | None) -> int:
    """The generation that a verdict is about: of what runs, which an invalid spec or a restart may leave behind."""
    if condition == Condition.ACCEPTED or (situation.acting_generation == 0 and not situation.standings):
        return situation.generation
    return situation.acting_generation or int((previous or {}).get("observedGeneration", 0))


def accepted(s: Situation) -> Verdict:
    """Whether the spec is acted on."""
    if not s.errors:
        return Verdict("True", reasons.Accepted.VALID, "the spec is valid")
    return Verdict("False", s.errors[0].reason, "\n".join(str(error) for error in s.errors))


def ready(s: Situation) -> Verdict | None:
    """Whether this generation served a token lately."""
    reason = reasons.Ready
    if s.acting_generation == 0 and not s.standings:
        return Verdict("False", reason.NOT_ACCEPTED, "the spec was refused; see the condition Accepted")
    if s.wanted == 0:
        return Verdict("False", reason.SCALED_TO_ZERO, "no replica is wanted")
    if s.gateways_ready == 0:
        return Verdict("False", reason.GATEWAYS_STARTING, f"0 of {s.gateways_wanted} gateways take requests")
    if not s.ready():
        return _not_serving(s)
    if s.view is None:
        return None
    if not s.view.answered:
        return Verdict("Unknown", reason.STATUS_UNREACHABLE, "neither the coordinator nor a gateway answers")
    members = s.view.members
    if any(members[r.pod.name].token_lately for r in s.ready() if r.pod.name in members):
        return Verdict("True", reason.SERVING, "a token was served within the last minute")
    if s.view.canary_error:
        return Verdict("False", reason.CANARY_FAILED, s.view.canary_error)
    return Verdict("False", reason.NO_TOKEN_LATELY, "no token was served within the last minute")


def _not_serving(s: Situation) -> Verdict:
    failure = s.failure()
    if failure is not None:
        return Verdict("False", failure.reason, failure.sentence())
    count = f"0 of {s.wanted} replicas of this generation are ready"
    if s.lost():
        return Verdict("False", reasons.Ready.REPLICAS_LOST, f"{count}; {_names_lost(s)}")
    return Verdict("False", reasons.Ready.REPLICAS_STARTING, count)


def workloads_ready(s: Situation) -> Verdict | None:
    """Whether all wanted replicas of this generation take requests."""
    reason = reasons.WorkloadsReady
    if s.acting_generation == 0 and not s.standings:
        return Verdict("False", reason.NOT_ACCEPTED, "the spec was refused; see the condition Accepted")
    if s.wanted == 0:
        left = len(s.live())
        message = f"{left} replicas are left" if left else "no replica is wanted, and none is left"
        return Verdict("False" if left else "True", reason.SCALED_TO_ZERO, message)
    if s.view is not None and not s.view.answered and s.gateways_ready:
        return Verdict("Unknown", reason.STATUS_UNREACHABLE, "neither the coordinator nor a gateway answers")
    count = f"{len(s.ready())} of {s.wanted} replicas of this generation are ready"
    if len(s.ready()) >= s.wanted:
        return Verdict("True", reason.ALL_READY, count)
    failure = s.failure()
    if failure is not None:
        return Verdict("False", failure.reason, f"{count}; {failure.sentence()}")
    if s.lost():
        return Verdict("False", reason.REPLICAS_LOST, f"{count}; {_names_lost(s)}")
    return Verdict("False", reason.WAITING_FOR_REPLICAS, count)


def router_ready(s: Situation) -> Verdict:
    """Whether a gateway takes requests."""
    reason = reasons.RouterReady
    count = f"{s.gateways_ready} of {s.gateways_wanted} gateways take requests"
    if s.gateways_ready >= s.gateways_wanted:
        return Verdict("True", reason.ALL_READY, count)
    if s.gateways_ready:
        return Verdict("True", reason.SOME_READY, count)
    if s.acting_generation == 0:
        return Verdict("False", reason.NOT_ACCEPTED, "the spec was refused; see the condition Accepted")
    return Verdict("False", reason.WAITING_FOR_GATEWAYS, count)


def objectives_met(s: Situation) -> Verdict | None:
    """Whether measured percentiles are within the objectives."""
    reason = reasons.ObjectivesMet
    wanted = [("ttft", s.objectives.ttft), ("interToken", s.objectives.inter_token)]
    stated = [(name, objective) for name, objective in wanted if objective is not None]
    if not stated:
        return Verdict("True", reason.NO_OBJECTIVES, "the spec states no objectives")
    if s.view is None:
        return None
    if not s.view.answered:
        return Verdict("Unknown", reason.STATUS_UNREACHABLE, "neither the coordinator nor a gateway answers")
    measured = {"ttft": s.view.ttft, "interToken": s.view.inter_token}
    found = [_against(name, objective, measured[name]) for name, objective in stated]
    if any(one is None for one in found):
        return Verdict("Unknown", reason.NO_TRAFFIC, f"fewer than {MIN_COUNT} requests within the last 5 minutes")
    missed = [text for met, text in filter(None, found) if not met]
    if missed:
        return Verdict("False", reason.MISSED, "; ".join(missed))
    return Verdict("True", reason.MET, "; ".join(text for _, text in filter(None, found)))


def _against(name: str, objective: Objective, measured: Latencies | None) -> tuple[bool, str] | None:
    """Whether an objective is met, and a sentence; None when too little was measured."""
    if measured is None or measured.total() < MIN_COUNT:
        return None
    value = measured.percentile(objective.percentile)
    share = measured.share_within(durations.seconds(objective.target))
    if value is None or share is None:
        return None
    met = share * 100 >= objective.percentile
    return met, f"{name} P{objective.percentile} is {durations.milliseconds(value)}, wanted {objective.target}"


def progressing(s: Situation) -> Verdict:
    """Whether Pods are being brought towards the spec."""
    reason = reasons.Progressing
    if s.acting_generation == 0:
        return Verdict("False", reason.NOT_ACCEPTED, "the spec was refused; see the condition Accepted")
    old = [r for r in s.live() if not r.current]
    count = f"{len(s.ready())} of {s.wanted} replicas of this generation are ready"
    if s.failure() is not None:
        return Verdict("True", reason.BACKING_OFF, f"{count}; a replica cannot start and is tried again")
    if old:
        return Verdict("True", reason.ROLLING_OUT, f"{count}; {len(old)} of an earlier spec are left")
    if s.lost():
        return Verdict("True", reason.REPLACING, f"{count}; {_names_lost(s)}")
    if len(s.live()) == s.wanted == len(s.ready()) and s.gateways_ready >= s.gateways_wanted:
        return Verdict("False", reason.COMPLETE, "everything is as the spec wants it")
    if s.ready() or s.was(Condition.READY) == "True":
        return Verdict("True", reason.SCALING, count)
    return Verdict("True", reason.STARTING, count)


def degraded(s: Situation) -> Verdict:
    """Whether something is broken."""
    reason = reasons.Degraded
    if s.all_nodes_down and s.standings:
        message = "no node is ready; nothing is replaced until one is"
        return Verdict("True", reason.ALL_NODES_NOT_READY, message)
    failure = s.failure()
    if failure is not None:
        return Verdict("True", failure.reason, failure.sentence())
    if s.lost() and len(s.ready()) < s.wanted:
        return Verdict("True", reason.REPLICAS_LOST, _names_lost(s))
    started = s.was(Condition.ROUTER_READY) == "True"
    if started and s.gateways_ready < s.gateways_wanted:
        message = f"{s.gateways_ready} of {s.gateways_wanted} gateways take requests"
        return Verdict("True", reason.GATEWAYS_LOST, message)
    if started and not s.coordinator_ready:
        return Verdict("True", reason.COORDINATOR_LOST, "the coordinator is not ready; serving goes on without it")
    return Verdict("False", reason.HEALTHY, "nothing is broken")


def draining(s: Situation) -> Verdict:
    """Whether a replica is leaving."""
    found = sorted(r.pod.name for r in s.leaving())
    if found:
        return Verdict("True", reasons.Draining.REPLICAS_LEAVING, f"leaving: {', '.join(found)}")
    return Verdict("False", reasons.Draining.NONE, "no replica is leaving")


def _names_lost(s: Situation) -> str:
    return f"lost: {', '.join(sorted(r.pod.name for r in s.lost()))}"


_JUDGES: Mapping[Condition, Callable[[Situation], Verdict | None]] = {
    Condition.ACCEPTED: accepted,
    Condition.DEGRADED: degraded,
    Condition.DRAINING: draining,
    Condition.OBJECTIVES_MET: objectives_met,
    Condition.PROGRESSING: progressing,
    Condition.READY: ready,
    Condition.ROUTER_READY: router_ready,
    Condition.WORKLOADS_READY: workloads_ready,
}
