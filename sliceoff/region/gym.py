"""A region as a Gymnasium environment, single or vectorised: `gymnasium.make("sliceoff/Region-v0")`.

Observation: `flatten`, all in [-1, 1].
Action: in [-1, 1]; a bandwidth weight for every user, then a VM for every user. With x the number mapped to [0, 1],
shares are x normalised over the users present, and VMs are `floor(x V)` (21).
Reward: the slot's revenue (22), relative to the mean worth of a slot's tasks at the `mean_users` given at construction.
Episodes end after `episode_slots` (truncated, never terminated: bootstrap the value at their end).

`regions = env.unwrapped.environment` is the underlying `RegionEnvironment`: `regions.rent(bandwidth_hz, n_vms)` and
`regions.traffic(mean_users, expected_users)` change the rental, the traffic and its observed forecast between any two
slots; queues stay.
"""

from statistics import fmean
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from sliceoff.checks import count, one_of, positive
from sliceoff.errors import InputError
from sliceoff.region.environment import RegionEnvironment
from sliceoff.region.observation import Kind, observe, region_features, user_features
from sliceoff.region.picture import draw_slot, rgb
from sliceoff.region.rules import allocation_of
from sliceoff.region.scenario import Scenario
from sliceoff.region.serve import serve
from sliceoff.region.state import Allocation, Outcome, RegionState, no_allocation


def decode(state: RegionState, action: Float[Tensor, "*batch actions"]) -> Allocation:
    """Shares and VMs from an action in [-1, 1].

    Raises:
        InputError: a number of the action is not finite, or not in [-1, 1].
    """
    if not bool((action.isfinite() & (action.abs() <= 1 + 1e-6)).all()):
        raise InputError("action has a number that is not finite or not in [-1, 1]; clip it to the action space")
    return allocation_of(state, *((action + 1) / 2).clamp(0, 1).chunk(2, -1))


def flatten(scenario: Scenario, state: RegionState, kind: Kind = "full") -> Float[Tensor, "*batch features"]:
    """`observe` as one vector: the region, every user, then a flag per user (1 present, -1 absent)."""
    seen = observe(scenario, state, kind)
    return torch.cat((seen.region, seen.users.flatten(-2), seen.present * 2.0 - 1), -1)


class _Regions:
    """The common part of both environments: a batch of regions with array inputs and outputs."""

    def __init__(
        self,
        copies: int,
        scenario: Scenario | None,
        mean_users: float | int,
        bandwidth_hz: float | int,
        n_vms: int,
        observation: Kind,
        episode_slots: int,
    ):
        self.scenario = scenario or Scenario()
        positive("mean_users", mean_users)
        self.scenario.check_pays()
        count("episode_slots", episode_slots)
        one_of("observation", observation, ("full", "paper"))
        self.environment = RegionEnvironment(
            self.scenario, mean_users, copies, seed=0, bandwidth_hz=bandwidth_hz, n_vms=n_vms
        )
        self._episode_slots = episode_slots
        self._kind: Kind = observation
        self._slot_worth = mean_users * self.scenario.price * fmean(self.scenario.priorities)
        users = self.scenario.max_users
        size = region_features(self.scenario, observation) + users * (user_features(observation) + 1)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2 * users,), np.float32)
        self._last: tuple[RegionState, Allocation, Outcome] | None = None

    def reset(self, generator: np.random.Generator) -> np.ndarray:
        """Start an episode with empty queues and new draws; returns the observations, one row per copy."""
        self._last = None
        return self._seen(self.environment.reset(seed=int(generator.integers(2**62))))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Serve one slot; returns observations, rewards, and revenue and task counts, one row per copy."""
        expected = (self.environment.n_copies, *self.action_space.shape)
        if np.shape(action) != expected:
            raise InputError(f"action has shape {np.shape(action)}; give {expected}")
        state = self.environment.state
        allocation = decode(state, torch.as_tensor(action, dtype=torch.float32))
        after, outcome = self.environment.step(allocation)
        self._last = (state, allocation, outcome)
        revenue = outcome.revenue.sum(-1)
        info = {
            "revenue": revenue.numpy(),
            "tasks": state.tasks.present.sum(-1).numpy(),
            "on_time": outcome.on_time.sum(-1).numpy(),
            "dropped": outcome.dropped.sum(-1).numpy(),
        }
        return self._seen(after), (revenue / self._slot_worth).double().numpy(), info

    def draw(self) -> Figure:
        """A picture of the first copy's last served slot."""
        if self._last is None:
            state = self.environment.state
            nothing = no_allocation(state)
            return draw_slot(self.scenario, state, nothing, serve(self.scenario, state, nothing))
        return draw_slot(self.scenario, *self._last)

    @property
    def over(self) -> bool:
        """Whether the episode's last slot has been served."""
        return self.environment.steps >= self._episode_slots

    def _seen(self, state: RegionState) -> np.ndarray:
        return flatten(self.scenario, state, self._kind).numpy()


class RegionEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One region; see the module's docstring for observation, action and reward.

    Args:
        scenario: defaults to `Scenario()`.
        mean_users: users per slot on average.
        bandwidth_hz, n_vms: the rental.
        observation: `full` or `paper`, as in `observe`.
        episode_slots: slots per episode.
        render_mode: None or `rgb_array`, a picture of the last served slot.

    Raises:
        InputError: an argument is wrong; the message names it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012

    def __init__(
        self,
        scenario: Scenario | None = None,
        mean_users: float | int = 20,
        bandwidth_hz: float | int = 15e6,
        n_vms: int = 8,
        observation: Kind = "full",
        episode_slots: int = 200,
        render_mode: str | None = None,
    ):
        if render_mode not in (None, "rgb_array"):
            raise InputError(f"render_mode={render_mode!r} is not one of None, 'rgb_array'")
        self._regions = _Regions(1, scenario, mean_users, bandwidth_hz, n_vms, observation, episode_slots)
        self.environment = self._regions.environment
        self.observation_space = self._regions.observation_space
        self.action_space = self._regions.action_space
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start a new episode; without a seed, its draws continue the random stream of the environment."""
        super().reset(seed=seed)
        return self._regions.reset(self.np_random)[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Serve one slot; the episode is never terminated, only truncated."""
        seen, reward, info = self._regions.step(np.asarray(action)[None])
        single = {name: value[0].item() for name, value in info.items()}
        return seen[0], float(reward[0]), False, self._regions.over, single

    def render(self) -> np.ndarray | None:
        """A picture (height, width, 3) of the last served slot; before the first step, of the current one, unallocated.

        None without a render mode.
        """
        return None if self.render_mode is None else rgb(self._regions.draw())


class RegionVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many regions in one batch of tensors; arguments as in `RegionEnv`.

    All copies' episodes end together. The call after that resets them and ignores its actions (autoreset on the next
    step): its transition joins two episodes and must not be learned from.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Scenario | None = None,
        mean_users: float | int = 20,
        bandwidth_hz: float | int = 15e6,
        n_vms: int = 8,
        observation: Kind = "full",
        episode_slots: int = 200,
    ):
        self._regions = _Regions(num_envs, scenario, mean_users, bandwidth_hz, n_vms, observation, episode_slots)
        self.environment = self._regions.environment
        self.num_envs = num_envs
        self.single_observation_space = self._regions.observation_space
        self.single_action_space = self._regions.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start new episodes; without a seed, their draws continue the random stream of the environment."""
        super().reset(seed=seed)
        return self._regions.reset(self.np_random), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Serve one slot of every copy, or reset all when the episodes have ended."""
        never = np.zeros(self.num_envs, dtype=bool)
        if self._regions.over:
            seen, _ = self.reset()
            return seen, np.zeros(self.num_envs), never, never.copy(), {}
        seen, reward, info = self._regions.step(actions)
        return seen, reward, never, np.full(self.num_envs, self._regions.over), info
