"""The optimal revenue on a small instance if all tasks are known: an exact integer program in python-mip.

Only tasks done in time are worth placing; each may reach its VM just when its turn comes, and a VM's tasks of one slot
may run without a gap up to some end F. A *pattern* is a set of tasks in the order in which one VM runs them. To end at
F it needs the share `sum_j w_j / (F - L_j)` of the bandwidth, where L_j is the work of j and of all after it. This is
convex in F, so it is bounded from below by tangents, which are added where a solution violates it until none does. The
program chooses at most one pattern per slot and VM.
"""

from collections.abc import Sequence
from math import fsum
from typing import NamedTuple

import mip
import numpy as np
import torch
from jaxtyping import Float

from sliceoff.errors import InputError
from sliceoff.region.scenario import Scenario
from sliceoff.region.serve import bandwidth_work, execution_work
from sliceoff.region.state import Allocation, RegionState, Tasks, no_allocation
from sliceoff.solver import Solver, Status

# Share of every deadline and every slot's bandwidth kept free, so that an optimal plan is in time despite rounding.
_MARGIN = 1e-5
# Orders of the same tasks are compared at this many ends; the loss in between is below the margin.
_ENDS = 257
_TANGENTS = 6
_MAX_USERS = 12  # patterns grow as 2^users


class Optimum(NamedTuple):
    """The result of `optimum`."""

    revenue: float  # money over all slots
    plan: list[Allocation]  # one allocation (1, users) per slot; serving them earns `revenue`
    proven: bool  # whether it is proven optimal; False when the time ran out


class _Task(NamedTuple):
    user: int
    priority: float  # not its revenue: solvers' gaps are absolute, and any price may be small
    work: float  # seconds of the whole bandwidth
    execution_s: float


class _Pattern(NamedTuple):
    """Tasks in the order in which one VM runs them; the end of the last one is a variable."""

    users: tuple[int, ...]  # places in the slot's list of tasks
    priority: float  # of all together
    works: Float[np.ndarray, " users"]
    tails_s: Float[np.ndarray, " users"]  # own work and that of all after it; descending

    def share(self, end: float) -> float:
        """Share of the bandwidth that it needs to be done by `end`."""
        return float((self.works / (end - self.tails_s)).sum())

    def slope(self, end: float) -> float:
        """The derivative of `share` with respect to `end`."""
        return float(-(self.works / (end - self.tails_s) ** 2).sum())

    @property
    def execution_s(self) -> float:
        return float(self.tails_s[0])


def optimum(
    scenario: Scenario, states: Sequence[RegionState], *, max_seconds: float = 60.0, solver: str = "HIGHS"
) -> Optimum:
    """Largest revenue of one region over consecutive slots.

    Args:
        states: one region's state (batch of one) at the start of each slot; only the first one's backlog is used, later
            ones follow from the plan. Tasks, bandwidth and VMs are those of each state.
        max_seconds: for the solver, all rounds together.
        solver: python-mip's `HIGHS` or `CBC`.

    Raises:
        InputError: `region.queue` is not `lindley`, a state holds more than one region or more than 12 tasks.
        RuntimeError: the solver found no plan in time, or crashed.
    """
    if scenario.queue != "lindley":
        raise InputError(f"the optimum is for region.queue=lindley, not {scenario.queue}")
    if any(state.bandwidth_hz.shape != (1,) for state in states):
        raise InputError("the optimum is for one region at a time; give states of a single row")
    crowd = max(int(state.tasks.present.sum()) for state in states)
    if crowd > _MAX_USERS:
        raise InputError(f"the optimum is for up to {_MAX_USERS} tasks per slot, not {crowd}; see upper_bound")
    program = _Program(scenario, states, Solver(solver, max_seconds, integer=True, gap=1e-4))
    proven = program.solve()
    return Optimum(program.revenue, [program.allocation(slot, state) for slot, state in enumerate(states)], proven)


def _tasks(scenario: Scenario, state: RegionState) -> list[_Task]:
    tasks = Tasks(*(x[0].double() if x.is_floating_point() else x[0] for x in state.tasks))
    bandwidth = float(state.bandwidth_hz)
    works, executions = bandwidth_work(scenario, tasks).tolist(), execution_work(scenario, tasks).tolist()
    return [
        _Task(user, float(tasks.priority[user]), works[user] / bandwidth, executions[user])
        for user in tasks.present.nonzero().flatten().tolist()
        if bandwidth > 0
    ]


def _patterns(tasks: list[_Task], ends: Float[np.ndarray, " ends"]) -> list[_Pattern]:
    """Every set of tasks, in every order that needs the least bandwidth for some end, if that is not more than all.

    A task put in front needs the same bandwidth for any order of those behind it, so the best orders of a set start
    with one task and continue with a best order of the rest.
    """
    best: list[list[_Pattern]] = [[_Pattern((), 0.0, np.empty(0), np.empty(0))]]
    for members in range(1, 1 << len(tasks)):
        candidates = [
            _in_front(place, task, rest)
            for place, task in enumerate(tasks)
            if members >> place & 1
            for rest in best[members ^ (1 << place)]
        ]
        kept: list[_Pattern] = []
        if candidates:
            room = ends - np.stack([pattern.tails_s for pattern in candidates])[..., None]
            works = np.stack([pattern.works for pattern in candidates])[..., None]
            needed = np.divide(works, room, out=np.full_like(room, np.inf), where=room > 0).sum(1)
            cheapest = {int(needed[:, end].argmin()) for end in range(len(ends)) if needed[:, end].min() <= 1}
            kept = [candidates[index] for index in sorted(cheapest)]
        best.append(kept)
    return [pattern for kept in best[1:] for pattern in kept]


def _in_front(place: int, task: _Task, rest: _Pattern) -> _Pattern:
    tail = task.execution_s + (rest.tails_s[0] if len(rest.tails_s) else 0.0)
    return _Pattern(
        (place, *rest.users),
        task.priority + rest.priority,
        np.concatenate(([task.work], rest.works)),
        np.concatenate(([tail], rest.tails_s)),
    )


class _Choice(NamedTuple):
    """The variables of one VM in one slot."""

    on: list[mip.Var]  # per pattern
    end: list[mip.Var]  # per pattern; 0 where it is not chosen
    share: mip.Var
    busy_until: mip.Var  # from the slot's start


class _Program:
    """The program that chooses patterns and their ends."""

    def __init__(self, scenario: Scenario, states: Sequence[RegionState], solver: Solver):
        self._deadline = scenario.deadline_s * (1 - _MARGIN)
        self._latest = max(self._deadline, float(states[0].backlog_s.max()))  # that a VM is free: late tasks may `run`
        self._price, self._solver, self._model = scenario.price, solver, solver.open()
        self._tasks = [_tasks(scenario, state) for state in states]
        self._patterns: list[list[_Pattern]] = []
        self._choices: list[list[_Choice]] = []
        # For every VM: when it is free, and how long before the current slot that time is counted from.
        busy: list[tuple[mip.Var | float, float]] = [(end, 0.0) for end in states[0].backlog_s[0].double().tolist()]
        for slot, state in enumerate(states):
            # Ending before the slot's end has no benefit; in the last slot, ending before the deadline has none.
            earliest = self._deadline if slot == len(states) - 1 else min(self._deadline, scenario.short_slot_s)
            ends = np.linspace(earliest, self._deadline, 1 if earliest == self._deadline else _ENDS)
            self._patterns.append(_patterns(self._tasks[slot], ends))
            self._choices.append([self._add_vm(slot, earliest, *busy[vm]) for vm in range(int(state.n_vms))])
            self._add_slot(slot)
            now = [(choice.busy_until, 0.0) for choice in self._choices[slot]] + busy[int(state.n_vms) :]
            busy = [(end, age + scenario.short_slot_s) for end, age in now]
        self._model.objective = mip.maximize(
            mip.xsum(
                pattern.priority * on
                for patterns, choices in zip(self._patterns, self._choices, strict=True)
                for choice in choices
                for pattern, on in zip(patterns, choice.on, strict=True)
            )
        )

    @property
    def revenue(self) -> float:
        """Revenue of the plan found."""
        return self._price * fsum(
            pattern.priority for slot in range(len(self._choices)) for _, pattern, _ in self._chosen_patterns(slot)
        )

    def solve(self) -> bool:
        """Solve repeatedly, adding tangents that the solution violates; returns whether the plan is proven optimal."""
        if not any(self._patterns):
            return True
        most = self._solver.time_limit_s
        while self._solver.seconds < most:
            self._solver.time_limit_s = most - self._solver.seconds
            solution = self._solver.solve(self._model, ())
            if solution.values is None:
                raise RuntimeError(f"the solver found no plan: {solution.status}")
            overspent = [slot for slot in range(len(self._choices)) if self._share_needed(slot) > 1 - _MARGIN / 2]
            if not overspent:
                return solution.status is Status.OPTIMAL
            # Read the whole solution before the model changes. VMs are alike: add a violated tangent for all of them.
            ends = [(slot, end) for slot in overspent for _, _, end in self._chosen_patterns(slot)]
            for slot, end in ends:
                for choice in self._choices[slot]:
                    self._add_tangents(slot, choice, [end] * len(self._patterns[slot]))
        raise RuntimeError(f"the solver found no plan that keeps to the bandwidth: {Status.TIME_LIMIT}")

    def allocation(self, slot: int, state: RegionState) -> Allocation:
        """The allocation that the plan has for one slot."""
        share, vm = no_allocation(state)
        for machine, pattern, end in self._chosen_patterns(slot):
            users = [self._tasks[slot][place].user for place in pattern.users]
            share[0, users] = torch.from_numpy(pattern.works / (end - pattern.tails_s)).to(share.dtype)
            vm[0, users] = machine
        return Allocation(share, vm)

    def _add_vm(self, slot: int, earliest: float, busy: mip.Var | float, age: float) -> _Choice:
        model, patterns, deadline = self._model, self._patterns[slot], self._deadline
        choice = _Choice(
            on=[model.add_var(var_type=mip.BINARY) for _ in patterns],
            end=[model.add_var(ub=deadline) for _ in patterns],
            share=model.add_var(),
            busy_until=model.add_var(),
        )
        backlog = busy - age
        for pattern, on, end in zip(patterns, choice.on, choice.end, strict=True):
            model += end <= deadline * on
            model += end >= max(earliest, pattern.execution_s) * on
            if isinstance(backlog, float):
                model += end >= (pattern.execution_s + max(backlog, 0.0)) * on
        model += mip.xsum(choice.on) <= 1
        model += choice.busy_until >= mip.xsum(choice.end)
        model += choice.busy_until >= backlog
        if not isinstance(backlog, float):
            # The first task starts after the backlog of earlier slots; without a pattern there is no constraint.
            start = mip.xsum(
                end - pattern.execution_s * on for pattern, on, end in zip(patterns, choice.on, choice.end, strict=True)
            )
            model += start + self._latest * (1 - mip.xsum(choice.on)) >= backlog
        lowest = [max(earliest, pattern.execution_s) for pattern in patterns]
        for part in np.linspace(1.0, 0.0, 1 if earliest == deadline else _TANGENTS, endpoint=False):
            self._add_tangents(slot, choice, [low + part * (deadline - low) for low in lowest])
        return choice

    def _add_slot(self, slot: int) -> None:
        """Add a slot's constraints: shares sum to at most one (C4), and every task is chosen at most once."""
        choices, patterns = self._choices[slot], self._patterns[slot]
        self._model += mip.xsum(choice.share for choice in choices) <= 1 - _MARGIN
        for place in range(len(self._tasks[slot])):
            self._model += (
                mip.xsum(
                    choice.on[index]
                    for choice in choices
                    for index, pattern in enumerate(patterns)
                    if place in pattern.users
                )
                <= 1
            )

    def _add_tangents(self, slot: int, choice: _Choice, points: Sequence[float]) -> None:
        """Require that a VM's share is above the chosen pattern's tangent; `points` has one end per pattern."""
        self._model += choice.share >= mip.xsum(
            (pattern.share(point) - pattern.slope(point) * point) * on + pattern.slope(point) * end
            for pattern, on, end, point in zip(self._patterns[slot], choice.on, choice.end, points, strict=True)
            if point > pattern.execution_s
        )

    def _chosen_patterns(self, slot: int) -> list[tuple[int, _Pattern, float]]:
        """The chosen patterns, each with its VM and its end."""
        return [
            (vm, pattern, end.x)
            for vm, choice in enumerate(self._choices[slot])
            for pattern, on, end in zip(self._patterns[slot], choice.on, choice.end, strict=True)
            if on.x > 0.5
        ]

    def _share_needed(self, slot: int) -> float:
        return sum(pattern.share(end) for _, pattern, end in self._chosen_patterns(slot))
