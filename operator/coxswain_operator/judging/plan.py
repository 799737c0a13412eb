"""Which replica Pods to make and which to delete: a pure function of the Pods there are and the number wanted.

A replica sits in a slot. A slot has one live Pod, or two for as long as a roll-out puts a new one beside an old one
that serves. Replacing, rolling out and scaling are the same few rules, applied again after every change:

- a slot whose Pod is lost, failed or leaving gets another at once;
- too few slots: the lowest free ones are filled; too many: first those that serve nobody, then in departure order;
- a Pod of an old spec that serves nobody makes room at once; one that serves goes when its successor is ready, and at
  most `surge` successors are on their way at a time;
- where no node has room for a successor, and every other slot serves, the old Pod makes room for it;
- two Pods of the current spec in one slot (a node came back): the one that serves stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

SURGE = 1


class Fate(Enum):
    """What became of a Pod."""

    LIVE = "live"
    LOST = "lost"
    FAILED = "failed"
    LEAVING = "leaving"


class Cause(Enum):
    """Why a Pod is deleted: labels of a metric."""

    SCALE_DOWN = "scale-down"
    ROLL_OUT = "roll-out"
    SURPLUS = "surplus"
    LOST = "lost"
    FAILED = "failed"


@dataclass(frozen=True)
class Replica:
    """A replica Pod, as the plan sees it."""

    name: str
    slot: int
    incarnation: int
    current: bool
    """Made from the current spec."""
    fate: Fate = Fate.LIVE
    serving: bool = False
    """Some gateway hears it, or where nobody can be asked, it is ready: losing it would move streams."""
    settled: bool = False
    """Ready, and known as such to the gateways: whoever it replaces can go."""
    homeless: bool = False
    """No node has had room for it for a good while."""


@dataclass(frozen=True)
class Creation:
    """A Pod to make, and the fate of the one it stands in for, if any."""

    slot: int
    incarnation: int
    replaces: Fate | None = None


@dataclass(frozen=True)
class Deletion:
    """A Pod to delete."""

    name: str
    cause: Cause


@dataclass(frozen=True)
class Plan:
    """What to do now. Empty when everything is as wanted, or on its way."""

    create: tuple[Creation, ...] = ()
    delete: tuple[Deletion, ...] = ()


def plan(
    replicas: Collection[Replica],
    *,
    wanted: int,
    departures: Sequence[str] = (),
    held: Collection[int] = (),
    used: Mapping[int, int] | None = None,
) -> Plan:
    """The next changes.

    `held` slots get no new Pod yet: their last ones failed, and the pause is not over. `used` are the last incarnations
    given out by slot, so that a name does not come twice while the operator runs.
    """
    return _Planner(replicas, wanted, departures, frozenset(held), used or {}).plan()


class _Planner:
    def __init__(
        self,
        replicas: Collection[Replica],
        wanted: int,
        departures: Sequence[str],
        held: frozenset[int],
        used: Mapping[int, int],
    ) -> None:
        self.used = used
        self.wanted = wanted
        self.held = held
        self.order = {name: index for index, name in enumerate(departures)}
        self.slots: defaultdict[int, list[Replica]] = defaultdict(list)
        for replica in replicas:
            self.slots[replica.slot].append(replica)
        self.create: list[Creation] = []
        self.delete: dict[str, Cause] = {}

    def plan(self) -> Plan:
        self._clear_failed()
        for slot in self.slots:
            self._tidy(slot)
        self._shrink()
        self._grow()
        self._roll()
        self._make_room()
        self._clear_lost()
        return Plan(tuple(self.create), tuple(Deletion(name, cause) for name, cause in self.delete.items()))

    def _live(self, slot: int) -> list[Replica]:
        return [r for r in self.slots[slot] if r.fate is Fate.LIVE and r.name not in self.delete]

    def _live_slots(self) -> list[int]:
        return sorted(slot for slot in self.slots if self._live(slot))

    def _clear_failed(self) -> None:
        for pods in list(self.slots.values()):
            self.delete.update({r.name: Cause.FAILED for r in pods if r.fate is Fate.FAILED})

    def _tidy(self, slot: int) -> None:
        """At most one live Pod of the current spec and one of an old one; the old one goes when it is not needed."""
        live = sorted(self._live(slot), key=lambda r: (not r.settled, not r.serving, -r.incarnation))
        current, old = [r for r in live if r.current], [r for r in live if not r.current]
        self.delete.update({r.name: Cause.SURPLUS for r in current[1:] + old[1:]})
        if current and old and (current[0].settled or not old[0].serving):
            self.delete[old[0].name] = Cause.ROLL_OUT

    def _shrink(self) -> None:
        """Take away slots that are too many, with everything in them."""
        live = self._live_slots()
        spare = sorted(live, key=self._rank)[: max(0, len(live) - self.wanted)]
        for slot in spare:
            self.delete.update({r.name: Cause.SCALE_DOWN for r in self._live(slot)})
        if len(live) - len(spare) >= self.wanted:
            self._forget_dead({*self.slots} - (set(live) - set(spare)))

    def _forget_dead(self, slots: Collection[int]) -> None:
        """Enough slots live: nothing will be put where the lost ones were."""
        for slot in slots:
            self.delete.update({r.name: Cause.LOST for r in self.slots[slot] if r.fate is Fate.LOST})

    def _rank(self, slot: int) -> tuple[bool, int, int]:
        """Order in which slots leave: those that serve nobody, then as the coordinator says, then from the top."""
        serving = [r for r in self._live(slot) if r.serving]
        place = min((self.order.get(r.name, len(self.order)) for r in serving), default=0)
        return bool(serving), place, -slot

    def _grow(self) -> None:
        """Fill slots until there are enough: first where a Pod was lost, then from the bottom."""
        live = self._live_slots()
        free = [slot for slot in range(self.wanted + len(self.slots)) if slot not in live]
        free.sort(key=lambda slot: (self._replaced(slot) is None, slot))
        for slot in free[: max(0, self.wanted - len(live))]:
            self._add(slot)

    def _roll(self) -> None:
        """Put new Pods beside or in the place of old ones."""
        under_way = sum(1 for slot in self._live_slots() if self._is_under_way(slot))
        for slot in sorted(self._live_slots(), key=self._rank):
            live = self._live(slot)
            if any(r.current for r in live):
                continue
            if not live[0].serving and slot not in self.held:
                self.delete[live[0].name] = Cause.ROLL_OUT
                self._add(slot)
            elif live[0].serving and under_way < SURGE and self._add(slot):
                under_way += 1

    def _is_under_way(self, slot: int) -> bool:
        live = self._live(slot)
        return {r.current for r in live} == {True, False} or any(r.homeless for r in live)

    def _make_room(self) -> None:
        """Let one old Pod go whose successor finds no node, if its streams have somewhere to go.

        The only replica of a service stays: without it nobody serves, and how long for, nobody knows.
        """
        serving = {slot for slot in self._live_slots() if any(r.serving for r in self._live(slot))}
        if len(serving) < max(2, self.wanted):
            return
        for slot in sorted(serving, key=self._rank):
            current, old = ([r for r in self._live(slot) if r.current is which] for which in (True, False))
            if old and current and current[0].homeless:
                self.delete[old[0].name] = Cause.ROLL_OUT
                return

    def _add(self, slot: int) -> bool:
        if slot in self.held:
            return False
        there = [r.incarnation for r in self.slots[slot]] if slot in self.slots else []
        newest = max([*there, self.used.get(slot, 0)])
        self.create.append(Creation(slot, newest + 1, self._replaced(slot)))
        return True

    def _replaced(self, slot: int) -> Fate | None:
        """The fate of what was in a slot without a live Pod."""
        fates = [r.fate for r in self.slots[slot] if r.fate is not Fate.LIVE] if slot in self.slots else []
        return fates[-1] if fates else None

    def _clear_lost(self) -> None:
        """A lost Pod is kept while its replacement starts: if its node comes back first, it serves again."""
        for pods in self.slots.values():
            if any(r.settled and r.fate is Fate.LIVE for r in pods):
                self.delete.update({r.name: Cause.LOST for r in pods if r.fate is Fate.LOST})
