"""Replay buffer: a preallocated ring of transitions per agent."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sliceoff.checks import memory
from sliceoff.region import Observation


class Transition(NamedTuple):
    """State, action, reward and next state; leading shape (agents, rows)."""

    region: Float[Tensor, "agents rows region_features"]
    users: Float[Tensor, "agents rows users user_features"]
    present: Bool[Tensor, "agents rows users"]
    action: Float[Tensor, "agents rows action_rows actions"]
    reward: Float[Tensor, "agents rows"]
    terminated: Bool[Tensor, "agents rows"]
    next_region: Float[Tensor, "agents rows region_features"]
    next_users: Float[Tensor, "agents rows users user_features"]
    next_present: Bool[Tensor, "agents rows users"]

    @classmethod
    def of(
        cls,
        observation: Observation,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        next_observation: Observation,
    ) -> "Transition":
        """Make a transition from its two observations."""
        return cls(*observation, action, reward, terminated, *next_observation)

    @property
    def observation(self) -> Observation:
        """The observation of the state in which the agent acted."""
        return Observation(self.region, self.users, self.present)

    @property
    def next_observation(self) -> Observation:
        """The observation of the state that followed."""
        return Observation(self.next_region, self.next_users, self.next_present)


class ReplayBuffer:
    """The last `buffer_size` transitions of every agent, in tensors allocated at the first `add`.

    Args:
        buffer_size: transitions kept per agent.
    """

    def __init__(self, buffer_size: int):
        self.buffer_size = buffer_size
        self.size = 0
        self._next = 0
        self._storage: Transition | None = None

    def add(self, rows: Transition) -> None:
        """Append rows, which overwrite the oldest once the buffer is full. At most `buffer_size` rows at a time.

        Raises:
            InputError: there is too little memory for the buffer.
        """
        count = rows.reward.shape[1]
        if self._storage is None:
            self._storage = self._allocated(rows)
        place = (torch.arange(count, device=rows.reward.device) + self._next) % self.buffer_size
        for stored, new in zip(self._storage, rows, strict=True):
            stored[:, place] = new
        self._next = (self._next + count) % self.buffer_size
        self.size = min(self.size + count, self.buffer_size)

    def sample(self, batch_size: int, generator: torch.Generator) -> Transition:
        """Draw `batch_size` transitions per agent, with replacement; the generator is on the buffer's device."""
        assert self._storage is not None, "nothing was added yet"
        agents, device = self._storage.reward.shape[0], self._storage.reward.device
        row = torch.randint(self.size, (agents, batch_size), generator=generator, device=device)
        # One index over both axes: a single gather per field.
        row = (row + torch.arange(agents, device=device).unsqueeze(-1) * self.buffer_size).flatten()
        return Transition(
            *(field.flatten(0, 1).index_select(0, row).unflatten(0, (agents, batch_size)) for field in self._storage)
        )

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the buffer as tensors and ints."""
        fields = {} if self._storage is None else self._storage._asdict()
        return {
            "size": self.size,
            "next": self._next,
            "fields": {name: field[:, : self.size].clone() for name, field in fields.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Restore the `state_dict` of a buffer with the same `buffer_size`; raises as `add`."""
        self.size, self._next = state["size"], state["next"]
        if not state["fields"]:
            self._storage = None
            return
        filled = Transition(**{name: field.to(device) for name, field in state["fields"].items()})
        self._storage = self._allocated(filled)
        for stored, old in zip(self._storage, filled, strict=True):
            stored[:, : self.size] = old

    def _allocated(self, rows: Transition) -> Transition:
        """Storage for `buffer_size` such rows.

        Raises:
            InputError: there is too little memory.
        """
        size = self.buffer_size * sum(field[:, 0].numel() * field.element_size() for field in rows)
        copies = 3 if rows.reward.device.type == "cpu" else 1  # a checkpoint copies it, and makes the file in memory
        memory(f"allocator.buffer_size={self.buffer_size}", copies * size, "lower it or region.max_users")
        return Transition(*(field.new_zeros(len(field), self.buffer_size, *field.shape[2:]) for field in rows))
