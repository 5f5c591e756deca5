"""Regions over time: tasks arrive, are served as allocated, and leave work in the VMs' queues."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from operator import itemgetter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sliceoff.checks import count
from sliceoff.errors import InputError
from sliceoff.region import draws
from sliceoff.region.allocation import Allocator, check_allocation
from sliceoff.region.scenario import Scenario
from sliceoff.region.serve import serve
from sliceoff.region.state import Allocation, Outcome, RegionState, Tasks, map_state

# Streams of random numbers, one per quantity drawn.
_COUNT, _SIZE, _PLACE, _WALK = range(4)
_MOST_AHEAD = 32
_MOST_ROWS = 6000  # rows that `run` serves in one batch: enough to be fast, few enough to stay in the cache
_EVERY_STEP = -1  # the step whose key is used for draws that stay the same over time


class RegionEnvironment:
    """A batch of independent regions (copies), one row each. It never ends: the caller cuts it into episodes.

    Users per slot are Poisson with the copy's mean, at most `max_users`. Tasks depend on (seed, copy id, step) only, so
    different allocators, rentals or batches get the same tasks.

    A VM that is no longer rented first finishes its queue, at the provider's expense, and takes no new tasks; if it is
    rented again before that, it still has the rest of its queue. No queue is ever dropped.

    Args:
        scenario: the regions' constants.
        mean_users: users per short slot, for each copy or for all, at most `max_users`; `traffic` changes them.
        n_copies: rows.
        seed: of all draws.
        copy_ids: the copies' ids in the draws, `0..n_copies-1` if not given; with its own ids, a part of a batch gets
            the same tasks as in the whole batch.
        bandwidth_hz, n_vms: what is rented, for each copy or for all; otherwise call `rent` before the first step.
        dtype: of all floating-point tensors.

    Raises:
        InputError: an argument is wrong; the message names it.
    """

    def __init__(
        self,
        scenario: Scenario,
        mean_users: float | int | Sequence[float] | Tensor,
        n_copies: int,
        seed: int,
        *,
        copy_ids: Sequence[int] | Tensor | None = None,
        bandwidth_hz: float | int | Tensor | None = None,
        n_vms: int | Tensor | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.scenario = scenario
        self.n_copies = count("n_copies", n_copies)
        self.seed = seed
        self.device = torch.device(device)
        self.dtype = dtype
        ids = torch.as_tensor(range(n_copies) if copy_ids is None else copy_ids, device=self.device)
        if ids.shape != (n_copies,):
            raise InputError(f"copy_ids has shape {tuple(ids.shape)}; give one id per copy, ({n_copies},)")
        self.copy_ids = ids.to(torch.int64)
        self._step = 0
        self._backlog_s = torch.zeros(n_copies, scenario.max_vms, device=self.device, dtype=dtype)
        self._bandwidth_hz = torch.zeros(n_copies, device=self.device, dtype=dtype)
        self._n_vms = torch.zeros(n_copies, device=self.device, dtype=torch.int64)
        self._drawn: list[tuple[Tensor, ...]] = []  # the tasks of the next slots, in reverse order
        self._ahead = 1  # slots drawn together, for speed: a draw depends on its step only
        self.traffic(mean_users)
        if bool((self._mean_users > scenario.max_users).any()):
            raise InputError(
                f"mean_users={self._mean_users.max().item():g} is above region.max_users={scenario.max_users}, the "
                "users that there is room for; raise region.max_users"
            )
        if (bandwidth_hz is None) != (n_vms is None):
            raise InputError("bandwidth_hz and n_vms go together; give both, or call rent() before the first step")
        if bandwidth_hz is not None and n_vms is not None:
            self.rent(bandwidth_hz, n_vms)

    @property
    def mean_users(self) -> Float[Tensor, " copies"]:
        """Mean number of users per short slot in each copy, before clipping to `max_users`."""
        return self._mean_users

    @property
    def expected_users(self) -> Float[Tensor, " copies"]:
        """The forecast of users per short slot, an input of allocators."""
        return self._expected_users

    @property
    def steps(self) -> int:
        """Short slots since the last reset."""
        return self._step

    @property
    def backlog_s(self) -> Float[Tensor, "copies max_vms"]:
        """Time until each VM is free of earlier slots' work."""
        return self._backlog_s

    @property
    def state(self) -> RegionState:
        """The regions at the start of the current slot."""
        if not self._drawn:
            self._drawn = list(zip(*(field.unbind() for field in self._draw(self._ahead)), strict=True))[::-1]
            self._ahead = min(2 * self._ahead, _MOST_AHEAD)
        return RegionState(
            Tasks(*self._drawn[-1]), self._backlog_s, self._bandwidth_hz, self._n_vms, self._expected_users
        )

    def reset(self, seed: int | None = None) -> RegionState:
        """Go back to step 0 with empty queues; traffic and rental stay.

        Args:
            seed: of new draws; None repeats the same draws.
        """
        self.seed = self.seed if seed is None else seed
        self._step = 0
        self._backlog_s = torch.zeros_like(self._backlog_s)
        self._drawn = []
        return self.state

    def traffic(
        self,
        mean_users: float | int | Sequence[float] | Tensor,
        expected_users: float | int | Sequence[float] | Tensor | None = None,
    ) -> None:
        """Change the traffic from the current slot on, for example to a trace's next value; queues stay.

        Args:
            mean_users: users per short slot, (n_copies,) or one for all, >= 0. May exceed `max_users`: users above it
                are turned away (`draws.poisson_mean` has the mean number of those that are not).
            expected_users: the forecast that allocators get, of the same form; None: the true mean.

        Raises:
            InputError: an argument is wrong; the message names it.
        """
        mean = self._number_of_users("mean_users", mean_users, torch.float64)
        expected = mean if expected_users is None else expected_users
        self._expected_users = self._number_of_users("expected_users", expected, self.dtype)
        self._mean_users, self._poisson_table = mean, draws.poisson_table(mean, self.scenario.max_users)
        self._drawn, self._ahead = [], 1

    def rent(self, bandwidth_hz: float | int | Tensor, n_vms: int | Tensor) -> RegionState:
        """Change the rental from the current slot on; queues stay.

        Args:
            bandwidth_hz: (n_copies,) or one for all, >= 0.
            n_vms: (n_copies,) or one for all, 1 to `max_vms`.
        """
        bandwidth = self._per_copy("bandwidth_hz", bandwidth_hz, self.dtype)
        if not bool((bandwidth.isfinite() & (bandwidth >= 0)).all()):
            raise InputError(f"bandwidth_hz={bandwidth.tolist()} must be finite and at least zero")
        vms = self._per_copy("n_vms", n_vms, torch.float64)
        if not bool(((vms >= 1) & (vms <= self.scenario.max_vms) & (vms == vms.round())).all()):
            raise InputError(
                f"n_vms={vms.tolist()} must be whole numbers between 1 and region.max_vms={self.scenario.max_vms}"
            )
        self._bandwidth_hz, self._n_vms = bandwidth, vms.long()
        return self.state

    def step(self, allocation: Allocation) -> tuple[RegionState, Outcome]:
        """Serve the current slot's tasks and go on to the next slot.

        Raises:
            InputError: the allocation breaks C4 or C5, is not finite or has the wrong shape; or nothing is rented yet.
        """
        self._check_rented()
        outcome = self._served(self.state, allocation)
        self._backlog_s = outcome.backlog_s
        self._step += 1
        self._drawn.pop()
        return self.state, outcome

    def run(self, allocator: Allocator, slots: int) -> Iterator[tuple[RegionState, Outcome]]:
        """Serve the next `slots` slots as `allocator` decides, several in one batch if it `serves_ahead`.

        Yields:
            States and outcomes of the next few slots, (few, copies, ...).

        Raises:
            InputError: as `step`.
        """
        self._check_rented()
        self._drawn = []
        at_once = max(1, _MOST_ROWS // self.n_copies) if getattr(allocator, "serves_ahead", False) else 1
        drawn = max(at_once, _MOST_AHEAD // at_once * at_once)
        for first in range(0, slots, drawn):
            tasks = self._draw(min(drawn, slots - first))
            for part in zip(*(field.split(at_once) for field in tasks), strict=True):
                states, outcomes = self._serve_ahead(allocator, Tasks(*part))
                self._backlog_s = outcomes.backlog_s[-1]
                self._step += len(part[0])
                yield states, outcomes

    def _serve_ahead(self, allocator: Allocator, tasks: Tasks) -> tuple[RegionState, Outcome]:
        """Serve the tasks of some slots, (slots, copies, users), in one batch: Picard iteration over time.

        Slots are linked by their backlogs only. All are first served with guessed backlogs; those whose guess was wrong
        are served again with what the slot before left, until all are right. After k rounds at least the first k slots
        are final, so this ends with the result of serving slot by slot (up to the last bit of a logarithm, which may
        depend on its place in the batch), in practice after three or four rounds.
        """
        slots, copies = tasks.present.shape[:2]
        given = self._backlog_s.new_zeros(slots, copies, self._backlog_s.shape[-1])
        given[0] = self._backlog_s
        constant = (x.expand(slots, copies) for x in (self._bandwidth_hz, self._n_vms, self._expected_users))
        states = RegionState(tasks, given, *constant)
        flat = map_state(lambda x: x.flatten(0, 1), states)
        outcome = self._served(flat, allocator.allocate(self.scenario, flat))
        for _ in range(1, slots):
            left = outcome.backlog_s.unflatten(0, (slots, copies))[:-1]
            wrong = (left != given[1:]).any(-1)
            rows = copies + wrong.flatten().nonzero().squeeze(-1)
            if not len(rows):
                break
            given[1:] = left
            part = map_state(itemgetter(rows), flat)
            again = self._served(part, allocator.allocate(self.scenario, part))
            for field, corrected in zip(outcome, again, strict=True):
                field[rows] = corrected
        return states, Outcome(*(field.unflatten(0, (slots, copies)) for field in outcome))

    def _check_rented(self) -> None:
        if bool((self._n_vms < 1).any()):
            raise InputError("nothing is rented yet; call rent(bandwidth_hz, n_vms) before the first slot")

    def _served(self, state: RegionState, allocation: Allocation) -> Outcome:
        check_allocation(state, allocation)
        return serve(self.scenario, state, allocation)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and ints from which `load_state_dict` resumes exactly here."""
        return {
            "seed": self.seed,
            "step": self._step,
            "copy_ids": self.copy_ids,
            "mean_users": self._mean_users,
            "expected_users": self._expected_users,
            "backlog_s": self._backlog_s,
            "bandwidth_hz": self._bandwidth_hz,
            "n_vms": self._n_vms,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from the `state_dict` of an environment with the same number of copies and the same scenario.

        Raises:
            InputError: it has another number of copies or VMs, or was written by another version.
        """
        if missing := self.state_dict().keys() - state.keys():
            raise InputError(
                f"state_dict of regions lacks {', '.join(sorted(missing))}: another version of SliceOff wrote it; "
                "start a new run"
            )
        if state["backlog_s"].shape != self._backlog_s.shape:
            raise InputError(
                f"state_dict is of {tuple(state['backlog_s'].shape)} copies and VMs, "
                f"this environment of {tuple(self._backlog_s.shape)}"
            )
        self.seed, self._step = int(state["seed"]), int(state["step"])
        self.copy_ids = state["copy_ids"].to(self.device)
        self.traffic(state["mean_users"], state["expected_users"])
        self._backlog_s = state["backlog_s"].to(self.device, self.dtype)
        self._bandwidth_hz = state["bandwidth_hz"].to(self.device, self.dtype)
        self._n_vms = state["n_vms"].to(self.device)

    def _draw(self, slots: int) -> Tasks:
        """The tasks of the next slots, (slots, copies, users)."""
        scenario = self.scenario
        steps = torch.arange(self._step, self._step + slots, device=self.device)
        key = draws.keys(self.seed, self.copy_ids, steps.unsqueeze(-1))
        size, density = draws.uniforms(key, _SIZE, scenario.max_users)
        place, rank = draws.uniforms(key, _PLACE, scenario.max_users)
        count = draws.poisson(key, _COUNT, self._poisson_table)
        priorities = torch.tensor(scenario.priorities, device=self.device, dtype=self.dtype)
        return Tasks(
            data_bits=_between(scenario.data_bits, size.to(self.dtype)),
            cycles_per_bit=_between(scenario.cycles_per_bit, density.to(self.dtype)),
            priority=priorities[(rank * len(scenario.priorities)).long()],
            distance_m=self._distance(place.to(self.dtype), steps),
            present=torch.arange(scenario.max_users, device=self.device) < count.unsqueeze(-1),
        )

    def _distance(
        self, place: Float[Tensor, "slots copies users"], steps: Int[Tensor, " slots"]
    ) -> Float[Tensor, "slots copies users"]:
        """Distances [m] of users spread evenly over the ring: drawn every slot, or walking if they have a speed."""
        scenario = self.scenario
        inner, outer = scenario.min_distance_m, scenario.cell_radius_m
        if scenario.speed_mps is None:
            return (inner**2 + place * (outer**2 - inner**2)).sqrt()
        key = draws.keys(self.seed, self.copy_ids, _EVERY_STEP)
        radius, angle = (u.to(self.dtype) for u in draws.uniforms(key, _WALK, scenario.max_users))
        walked = scenario.speed_mps * scenario.short_slot_s * steps.to(self.dtype)[:, None, None]
        return walk(radius.sqrt() * outer, angle * (2 * torch.pi), walked, outer).clamp_min(inner)

    def _number_of_users(self, name: str, value: Any, dtype: torch.dtype) -> Float[Tensor, " copies"]:
        users = self._per_copy(name, value, dtype)
        if not bool((users.isfinite() & (users >= 0)).all()):
            raise InputError(f"{name}={users.tolist()} must be finite and at least zero")
        return users

    def _per_copy(self, name: str, value: Any, dtype: torch.dtype) -> Tensor:
        tensor = torch.as_tensor(value, device=self.device).to(dtype)
        if tensor.shape not in ((), (self.n_copies,)):
            shape = tuple(tensor.shape)
            raise InputError(f"{name} has shape {shape}; give one number, or one per copy ({self.n_copies},)")
        return tensor.expand(self.n_copies).clone()


def typical_tasks(scenario: Scenario, n_tasks: int, device: str | torch.device = "cpu") -> Tasks:
    """A fixed sample of tasks, from draws that no run uses, to estimate what tasks need on average.

    Returns:
        Tasks of shape (n_tasks,), all present.
    """
    copies = ceil(n_tasks / scenario.max_users)
    drawn = RegionEnvironment(scenario, 0.0, copies, seed=draws.TYPICAL, device=device).state.tasks
    return Tasks(*(x.flatten()[:n_tasks] for x in drawn._replace(present=torch.ones_like(drawn.present))))


def walk(
    start_m: Float[Tensor, "*#shape"], angle: Float[Tensor, "*#shape"], walked_m: Any, radius_m: float
) -> Float[Tensor, "..."]:
    """Distance from the centre after walking `walked_m` back and forth along the chord through the start at `angle`.

    In coordinates in which the chord is horizontal, the start is at (start cos angle, start sin angle). Users that are
    spread evenly over the disc stay so at all times.
    """
    along, aside = start_m * angle.cos(), start_m * angle.sin()
    half = (radius_m**2 - aside**2).clamp_min(0).sqrt().clamp_min(1e-6 * radius_m)
    # Back and forth: the position on a circle twice as long as the chord, folded.
    place = ((along + half + walked_m) % (4 * half) - 2 * half).abs() - half
    return (place**2 + aside**2).sqrt()


def _between(bounds: Sequence[float], uniform: Tensor) -> Tensor:
    return bounds[0] + uniform * (bounds[1] - bounds[0])


def utilisation(
    scenario: Scenario, state: RegionState, outcome: Outcome
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The shares of rented bandwidth and VM time that a slot used.

    VM work counts in the slot that admitted it, so a single slot may have more than 1; the mean over time does not.
    """
    return outcome.airtime, outcome.work_s.sum(-1) / (state.n_vms * scenario.short_slot_s)
