"""Requests that wait for their prefill, in the order in which they must start, and which to refuse when not all can.

A request's latest start is its deadline less its prefill: the one that must start first comes first (least laxity), so
a long prompt does not wait behind short ones until it is too late. When the queue cannot all be in time, refusing the
longest of those up to the first late one saves the most others: Moore and Hodgson's rule (1968), here on the pooled
capacity of all prefilling engines. The rule alone would refuse every long prompt, so each fifth of the prompt lengths
seen lately has a floor: a share of its requests that is not refused for the others' sake.

Batch work has no deadline. It waits in groups of one prefix, and an engine takes a group to its end before it begins
another, largest first, so that each prefix is computed once (BatchLLM, arXiv 2412.03594, on one level of its tree).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Final

from librt.vecs import vec
from mypy_extensions import i64

from coxswain_scheduler.interface import Request

CLASSES: Final = 5
_HISTORY: Final = 1000
"""Prompts after which a length is forgotten."""
_GRADES: Final = 512
"""Of any length."""
_DECAY: Final = 0.999
"""By which what was offered and refused in a class fades with each request."""


NOTHING: Mapping[int, int] = {}
"""What is cached of a prompt that nobody has looked for."""


class Job:
    """A request on its way to its first token, and what the last look at the engines said."""

    __slots__ = (
        "awaits", "cost", "deadline", "decision", "hits", "latest", "length_class", "looked", "order", "priority",
        "request", "seconds", "tokens",
    )  # fmt: skip

    def __init__(self, request: Request, *, deadline: float) -> None:
        self.request = request
        self.priority = request.priority
        self.tokens = request.prompt_tokens + request.emitted
        """To have KV of before the next token; no more come while it waits."""
        self.deadline = deadline
        """When its prefill is to be done."""
        self.seconds = 0.0
        """Of its prefill where most of it is cached."""
        self.latest = deadline
        self.order: tuple[int, float] = (-self.priority, deadline)
        self.length_class = 0
        self.hits = NOTHING
        """Cached tokens by engine, when last looked."""
        self.awaits: object = None
        """The seat for which it waits, if it is known, and what it cost there."""
        self.cost = 0.0
        self.looked = 0.0
        self.decision: object = None
        """Why it is where it is; worded by `str`."""

    def forget(self) -> None:
        """It is sent: what the engines held matters no more."""
        self.hits, self.awaits = NOTHING, None

    def needs(self, seconds: float) -> None:
        """Its prefill takes so long at best."""
        self.seconds = seconds
        self.latest = self.deadline - seconds
        self.order = (-self.priority, self.latest)


_ORDER = attrgetter("order")


def _grade(tokens: i64) -> i64:
    """Of a length: those of one grade differ by an eighth at most."""
    grade: i64 = 0
    while tokens >= 16:
        tokens >>= 1
        grade += 8
    return grade + tokens


class LengthClasses:
    """Fifths of the prompt lengths seen lately, and how much of each was refused."""

    def __init__(self, *, floor: float) -> None:
        self.floor = floor
        self._recent: deque[int] = deque()
        """Grades, the oldest first."""
        self._counts: vec[i64] = vec[i64]([0] * _GRADES)
        """How many of the recent ones are of each grade."""
        self._offered: vec[float] = vec[float]([0.0] * CLASSES)
        self._refused: vec[float] = vec[float]([0.0] * CLASSES)

    def offer(self, tokens: int) -> int:
        """Count a prompt; its class."""
        grade, counts, recent = _grade(tokens), self._counts, self._recent
        counts[grade] += 1
        recent.append(grade)
        if len(recent) > _HISTORY:
            counts[recent.popleft()] -= 1
        shorter: i64 = (counts[grade] - 1) >> 1  # half of its like
        for each in range(grade):
            shorter += counts[each]
        place = shorter * CLASSES // len(recent)
        self._offered[place] = self._offered[place] * _DECAY + 1.0
        self._refused[place] *= _DECAY
        return place

    def refuse(self, length_class: int) -> None:
        """Count a refusal."""
        self._refused[length_class] += 1.0

    def may_refuse(self, length_class: int) -> bool:
        """Whether one more refusal leaves the class above its floor."""
        return self._refused[length_class] + 1.0 <= (1.0 - self.floor) * self._offered[length_class]


class DeadlineQueue:
    """Jobs in the order in which they must start, the more urgent priority first."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def first(self, count: int) -> list[Job]:
        """The most urgent ones, as a list of their own."""
        return self._jobs[:count]

    def after(self, count: int) -> list[Job]:
        """The others, as a list of their own."""
        return self._jobs[count:]

    def add(self, job: Job) -> None:
        """Queue a job; its order must not change while it is here."""
        insort(self._jobs, job, key=_ORDER)

    def remove(self, job: Job) -> None:
        """Take a job out. Raises ValueError when it is not here."""
        place = bisect_left(self._jobs, job.order, key=_ORDER)
        end = bisect_right(self._jobs, job.order, lo=place, key=_ORDER)
        del self._jobs[self._jobs.index(job, place, end)]

    def discard(self, job: Job) -> None:
        """Take a job out, if it is here."""
        place = bisect_left(self._jobs, job.order, key=_ORDER)
        end = bisect_right(self._jobs, job.order, lo=place, key=_ORDER)
        if job in self._jobs[place:end]:
            del self._jobs[self._jobs.index(job, place, end)]

    def victim(self, *, now: float, free_in: float, width: float, may: Callable[[Job], bool]) -> Job | None:
        """Whom to refuse so that the others are in time; None while all can be, or when nobody may be refused.

        `width` engines begin in `free_in` seconds on average. A single job uses one of them for its own prefill, all
        of them share what is queued before it.
        """
        clock = now + free_in
        for place, job in enumerate(self._jobs):
            if clock > now and clock + job.seconds > job.deadline:
                candidates = [each for each in self._jobs[: place + 1] if may(each)]
                return max(candidates, key=lambda each: each.seconds, default=None)
            clock += job.seconds / width
        return None


class BatchWork:
    """Jobs without a deadline, in groups of one prefix."""

    def __init__(self) -> None:
        self._groups: dict[int, deque[Job]] = {}
        self._taken: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, job: Job) -> None:
        """Queue a job with those that begin alike."""
        self._groups.setdefault(_group(job), deque()).append(job)
        self._count += 1

    def discard(self, job: Job) -> None:
        """Take a job out, if it is here."""
        name = _group(job)
        group = self._groups.get(name)
        if group is not None and job in group:
            group.remove(job)
            self._count -= 1
            if not group:
                del self._groups[name]

    def next(self, engine: int) -> Job:
        """The next job for an engine: of the group that it has begun, else of the largest that nobody has."""
        name = self._taken.get(engine)
        if name not in self._groups:
            others = set(self._taken.values())
            free = [group for group in self._groups if group not in others] or list(self._groups)
            name = max(free, key=lambda group: len(self._groups[group]))
            self._taken[engine] = name
        group = self._groups[name]
        job = group.popleft()
        if not group:
            del self._groups[name]
        self._count -= 1
        return job


def _group(job: Job) -> int:
    hashes = job.request.hashes
    return hashes[0] if hashes else -1 - job.request.id
