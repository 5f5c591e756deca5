"""The learning allocator as a LightningModule: Algorithm 3 with its replay loop inside."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import fmean
from typing import Any, Literal, cast

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff import checkpoint
from sliceoff.allocator import td3
from sliceoff.allocator.agents import Agents, Policy, acting
from sliceoff.allocator.decoder import Decoder
from sliceoff.allocator.networks import Network
from sliceoff.allocator.perspectives import Perspectives, traffic_levels
from sliceoff.allocator.replay import ReplayBuffer, Transition
from sliceoff.checks import count, not_negative, one_of, positive, precision, whole
from sliceoff.errors import InputError, OptionError, under
from sliceoff.region import (
    Allocation,
    Greedy,
    Observation,
    Outcome,
    RegionEnvironment,
    RegionState,
    Scenario,
    draws,
    map_state,
    observe,
    region_features,
    upper_bound,
    user_features,
)

_SATURATED = 0.99
_BOUND_ITERATIONS = 30


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero: Adam's moments of dead units decay into them, which slows the CPU by a third."""
    flushed_before = sys.float_info.min / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)


class LearningAllocator(pl.LightningModule):
    """One or two agents that learn to allocate, each in its own regions, and distil from each other.

    One `training_step` is one turn of the replay loop: `env_steps` steps in all regions into the buffer, then
    `gradient_steps` updates of all agents. Every `slots_per_rental` slots all regions get a new traffic level and a new
    rental (`Perspectives`), so that one policy serves any rental. Until every agent's buffer holds `learning_starts`
    transitions there are no updates, and actions are random.

    The reward (22) is the slot's revenue. `reward="above_greedy"` subtracts what the rule `Greedy` earns in a shadow of
    the region: same tasks, same rental, its own queues. No action changes the shadow, so the best policy and xi stay
    the same, while the noise of the tasks' draw, nearly all of the reward's variance, is removed. With `above_rest` the
    decoder at rest (`Decoder.at_rest`) acts in the shadow, which removes more noise if that is a good rule by itself.
    All are in units of a task of mean priority, times `reward_scale`.

    `trainer.fit(allocator)` needs no data. A checkpoint holds the buffer, the regions and the random generators besides
    the weights: on the CPU a resumed run continues bit for bit. `sliceoff.checkpoint.load` needs only the file.

    Args:
        scenario: the regions' constants, or a mapping of them.
        mean_users: (periods, regions) users per short slot in the training part of the trace; of more than 4096
            numbers, so many evenly spaced ones of the sorted are kept, here and in checkpoints (`traffic_levels`).
        bandwidth_options_hz, vm_options: sizes that may be rented; a run passes those of its first region.
        network, decoder: make them; see `sliceoff.allocator.networks` and `.decoder`.
        observation: `full`, or `paper`, which leaves out expected users, backlogs and channels.
        policy: who acts in `allocate`: `current`, `peer`, or `hybrid`, the one with the higher value in each state.
        reward: `revenue`, `above_greedy` or `above_rest`, see above.
        reward_scale: factor on the reward.
        actor_learning_rate, critic_learning_rate: of Adam.
        batch_size: transitions per agent and update.
        buffer_size: transitions kept per agent.
        learning_starts: transitions per agent before the first update; until then actions are random.
        exploration_noise: standard deviation of the noise on actions.
        n_copies: regions per agent.
        env_steps, gradient_steps: per training step; they determine `update_to_data`.
        slots_per_rental: short slots between two draws of traffic and rental.
        capacity: range (low, high) of the ratio of rented to needed resources.
        forecast_error: standard deviation, in training, of the logarithm of expected over mean users.
        steps_per_epoch: training steps per epoch.
        validation_copies, validation_slots: regions and slots of each evaluation.
        seed: seeds the regions, exploration and batches.
        agents: further arguments of `Agents`.

    Raises:
        InputError: an argument is out of range; names it.
    """

    automatic_optimization = False
    # Options that must equal those the weights were trained with; see `checkpoint.load_weights`. Those of the scenario
    # scale the observation.
    weights_need = (
        *("n_agents", "n_critics", "observation", "network", "decoder"),
        *("scenario.max_bandwidth_hz", "scenario.max_vms", "scenario.max_users"),
    )

    def __init__(
        self,
        scenario: Scenario | Mapping[str, Any],
        mean_users: Float[Tensor, "periods regions"],
        bandwidth_options_hz: Sequence[float | int],
        vm_options: Sequence[int],
        network: Callable[..., Network],
        decoder: Callable[..., Decoder],
        *,
        observation: str = "full",
        policy: str = "hybrid",
        reward: str = "above_rest",
        reward_scale: float | int = 1.0,
        actor_learning_rate: float | int = 3e-5,
        critic_learning_rate: float | int = 1e-3,
        batch_size: int = 128,
        buffer_size: int = 16384,
        learning_starts: int = 2560,
        exploration_noise: float | int = 0.3,
        n_copies: int = 32,
        env_steps: int = 8,
        gradient_steps: int = 16,
        slots_per_rental: int = 60,
        capacity: Sequence[float | int] = (0.5, 2.0),
        forecast_error: float | int = 0.2,
        steps_per_epoch: int = 10,
        validation_copies: int = 32,
        validation_slots: int = 40,
        seed: int = 0,
        **agents: Any,
    ):
        super().__init__()
        mean_users = traffic_levels(mean_users)  # a long trace would make every checkpoint large
        arguments = {name: value for name, value in locals().items() if name not in ("self", "agents", "__class__")}
        scenario = scenario if isinstance(scenario, Scenario) else Scenario(**scenario)
        self.spec = checkpoint.describe(type(self), {**arguments, **agents, "scenario": dataclasses.asdict(scenario)})
        self.scenario = scenario
        self.observation: Literal["full", "paper"] = one_of("observation", observation, ("full", "paper"))
        self.policy: Policy = one_of("policy", policy, ("hybrid", "current", "peer"))
        self.reward = one_of("reward", reward, ("revenue", "above_greedy", "above_rest"))
        self.reward_scale = positive("reward_scale", reward_scale)
        self.actor_learning_rate = positive("actor_learning_rate", actor_learning_rate)
        self.critic_learning_rate = positive("critic_learning_rate", critic_learning_rate)
        self.batch_size = count("batch_size", batch_size)
        self.buffer_size = count("buffer_size", buffer_size)
        self.learning_starts = whole("learning_starts", learning_starts)
        self.exploration_noise = not_negative("exploration_noise", exploration_noise)
        self.n_copies = count("n_copies", n_copies)
        self.env_steps = count("env_steps", env_steps)
        self.gradient_steps = count("gradient_steps", gradient_steps)
        self.slots_per_rental = count("slots_per_rental", slots_per_rental)
        self.steps_per_epoch = count("steps_per_epoch", steps_per_epoch)
        self.validation_copies = count("validation_copies", validation_copies)
        self.validation_slots = count("validation_slots", validation_slots)
        self.seed = whole("seed", seed)
        if buffer_size < max(n_copies, learning_starts):
            raise OptionError(
                "buffer_size", f"={buffer_size} is below n_copies={n_copies} or learning_starts={learning_starts}"
            )
        with under("decoder"):
            self.decoder = decoder()

        def networks(**counted: Any) -> Network:
            with under("network"):
                return network(
                    region_features=region_features(scenario, self.observation),
                    user_features=user_features(self.observation),
                    n_users=scenario.max_users,
                    action_shape=self.decoder.action_shape(scenario.max_users),
                    **counted,
                )

        self.agents = Agents(networks, **agents)
        if self.agents.n_agents > 1:
            whole("batch_size", batch_size, 2)  # distillation standardises over the batch
        self._perspectives = Perspectives(
            scenario, mean_users, bandwidth_options_hz, vm_options, capacity, forecast_error
        )
        self._experience: Experience | None = None
        self._saved_experience: Mapping[str, Any] | None = None
        self._yardsticks: tuple[float, float | None] | None = None

    # Deployment

    def allocate(self, scenario: Scenario, state: RegionState) -> Allocation:
        """Allocate with the deployed policy, `policy`; deterministic."""
        return self._allocate(self.policy, scenario, state)

    @torch.no_grad()
    def _allocate(self, policy: Policy, scenario: Scenario, state: RegionState) -> Allocation:
        observation = Observation(*(x.to(self.device) for x in observe(scenario, state, self.observation)))
        return self.decoder(scenario, state, self.agents.act(observation, policy).to(state.bandwidth_hz))

    # Training

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the updates of critics and actors; arguments as for `torch.compile`."""
        self.agents.compile(*args, **options)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for all actors, one for all critics."""
        network = self.agents.network
        return [
            torch.optim.Adam(network.actor.parameters(), lr=self.actor_learning_rate, fused=True),
            torch.optim.Adam(network.critic.parameters(), lr=self.critic_learning_rate, fused=True),
        ]

    def train_dataloader(self) -> range:
        """One dummy batch per training step: the replay loop makes its own data."""
        return range(self.steps_per_epoch)

    def val_dataloader(self) -> range:
        """A single dummy batch: one validation step is one whole evaluation."""
        return range(1)

    @property
    def update_to_data(self) -> float:
        """Updates of every agent per transition that it collects."""
        return self.gradient_steps / (self.env_steps * self.n_copies)

    def on_train_start(self) -> None:
        """Make the regions and the buffer, or restore them from the checkpoint.

        Raises:
            InputError: with this configuration nothing can be learned.
        """
        self._check_can_learn()
        self._experience = Experience(
            environment=self._regions(),
            shadow=self._regions(),
            buffer=ReplayBuffer(self.buffer_size),
            generator=torch.Generator(self.device).manual_seed(self.seed),
            draws=torch.Generator().manual_seed(self.seed),
        )
        if self._saved_experience is not None:
            self._experience.load_state_dict(self._saved_experience, self.device)
            self._saved_experience = None

    def _check_can_learn(self) -> None:
        self.scenario.check_pays()
        precision("trainer.allocator.precision", self.trainer.precision)
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 0 or self.trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning's
            return
        most = epochs * int(self.trainer.num_training_batches) * self.env_steps * self.n_copies
        if most < self.learning_starts:
            raise InputError(
                f"allocator.learning_starts={self.learning_starts} is never reached: trainer.allocator.max_epochs="
                f"{epochs} makes {most} transitions per agent; raise the latter or lower the former"
            )

    def _regions(self) -> RegionEnvironment:
        """All agents' training regions; their traffic and rentals are drawn later, by `_perspectives`."""
        return RegionEnvironment(
            self.scenario,
            mean_users=0.0,
            n_copies=self.agents.n_agents * self.n_copies,
            seed=self.seed + draws.TRAINING,
            device=self.device,
        )

    @_flushed_denormals()
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One turn of the replay loop: act, then learn."""
        experience = self._experience
        assert experience is not None
        with torch.autocast(self.device.type, enabled=False):  # it acts as when deployed: see `Agents.act`
            logged = self._act(experience)
        if experience.buffer.size >= self.learning_starts:
            logged |= self._learn(experience)
        logged["env_steps"] = float(experience.environment.steps * experience.environment.n_copies)
        logged["updates"] = self.agents.updates.float()
        logged["update_to_data"] = self.update_to_data
        self.log_dict({f"train/{name}": value for name, value in logged.items()}, batch_size=1)

    @torch.no_grad()
    def _act(self, experience: "Experience") -> dict[str, Any]:
        """Take `env_steps` steps of every agent in its own regions, and store the transitions."""
        environment, agents = experience.environment, self.agents.n_agents
        revenue = torch.zeros(agents, device=self.device)
        saturated = torch.zeros((), device=self.device)
        for _ in range(self.env_steps):
            if environment.steps % self.slots_per_rental == 0:
                mean_users, expected_users, bandwidth_hz, n_vms = self._perspectives.draw(
                    environment.n_copies, experience.draws
                )
                for regions in (environment, experience.shadow):
                    regions.traffic(mean_users, expected_users)
                    regions.rent(bandwidth_hz, n_vms)
            state = environment.state
            seen = self._observed(state)
            policy = self.agents.network.actor(seen)
            action = self._explored(policy, experience)
            # The next state is observed under the same rental: a value is that of the rental while it lasts.
            following, outcome = environment.step(self.decoder(self.scenario, state, action.flatten(0, 1)))
            reward = self._reward(experience.shadow, outcome).unflatten(0, (agents, -1))
            experience.buffer.add(
                Transition.of(
                    seen, action, reward, torch.zeros_like(reward, dtype=torch.bool), self._observed(following)
                )
            )
            revenue += outcome.revenue.sum(-1).unflatten(0, (agents, -1)).mean(-1)
            saturated += saturated_share(policy, seen)
        return {
            "revenue_current": revenue[0] / self.env_steps,
            "revenue_peer": revenue[-1] / self.env_steps,
            "saturated": saturated / self.env_steps,
        }

    def _explored(
        self, action: Float[Tensor, "agents copies rows actions"], experience: "Experience"
    ) -> Float[Tensor, "agents copies rows actions"]:
        """The policies' actions with noise; uniformly random ones before learning starts."""
        if experience.buffer.size < self.learning_starts:
            return 2 * torch.rand(action.shape, generator=experience.generator, device=self.device) - 1
        return td3.explore(action, self._noise(action.shape, experience.generator), self.exploration_noise)

    def _learn(self, experience: "Experience") -> dict[str, Tensor]:
        """Make `gradient_steps` updates of all agents; returns numbers to log."""
        actor_optimizer, critic_optimizer = cast(list[torch.optim.Optimizer], self.optimizers())
        logged: dict[str, Tensor] = {}
        done = int(self.agents.updates)
        for update in range(done + 1, done + self.gradient_steps + 1):
            batch = experience.buffer.sample(self.batch_size, experience.generator)
            noise = self._noise(batch.action.shape, experience.generator)
            logged |= self.agents.update_critics(batch, noise, critic_optimizer)
            if td3.actor_is_due(update, self.agents.policy_delay):
                logged |= self.agents.update_actors(batch, actor_optimizer)
        return logged

    def _observed(self, state: RegionState) -> Observation:
        """The agents' observation, (agents, copies, ...)."""
        seen = observe(self.scenario, state, self.observation)
        return Observation(*(x.unflatten(0, (self.agents.n_agents, -1)) for x in seen))

    def _noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.randn(*shape, generator=generator, device=self.device)

    def _reward(self, shadow: RegionEnvironment, outcome: Outcome) -> Float[Tensor, " rows"]:
        """Eq. 22, in units of a task of mean priority times `reward_scale`; steps the shadow if the reward needs it."""
        earned = outcome.revenue.sum(-1)
        if self.reward != "revenue":
            earned = earned - shadow.step(self._baseline(shadow.state))[1].revenue.sum(-1)
        return earned * (self.reward_scale / (self.scenario.price * fmean(self.scenario.priorities)))

    def _baseline(self, state: RegionState) -> Allocation:
        """The allocation of the rule that acts in the shadow."""
        if self.reward == "above_greedy":
            return Greedy().allocate(self.scenario, state)
        return self.decoder.at_rest(self.scenario, state)

    # Evaluation

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log every policy's revenue per region and slot, without noise, in separate regions, the same every time."""
        if self._yardsticks is None:
            self._yardsticks = self._measure_yardsticks()
        greedy, bound = self._yardsticks
        # A single agent is its own peer.
        policies: tuple[Policy, ...] = ("hybrid", "current", "peer") if self.agents.n_agents > 1 else (self.policy,)
        slots = {policy: list(self._rollout(partial(self._allocate, policy))) for policy in policies}
        for policy, outcomes in slots.items():
            self.log(f"val/revenue_{policy}", self._per_slot(outcomes), batch_size=1)
        deployed = slots[self.policy]
        revenue = self._per_slot(deployed)
        self.log("val/revenue", revenue, batch_size=1, prog_bar=True)
        if greedy > 0:
            self.log("val/above_greedy", revenue / greedy - 1, batch_size=1, prog_bar=True)
        if bound:
            self.log("val/of_bound", revenue / bound, batch_size=1)
        self.log("val/saturated", self._saturated([state for state, _ in deployed]), batch_size=1)
        self.log_dict(done_by_priority(self.scenario, deployed), batch_size=1)

    def _saturated(self, states: Sequence[RegionState]) -> Tensor:
        seen = [observe(self.scenario, state, self.observation) for state in states]
        return torch.stack([saturated_share(self.agents.act(each, self.policy), each) for each in seen]).mean()

    def _rollout(
        self, allocate: Callable[[Scenario, RegionState], Allocation]
    ) -> Iterator[tuple[RegionState, Outcome]]:
        """Run one evaluation with `allocate`: the state and outcome of every slot."""
        seed = self.seed + draws.VALIDATION
        mean_users, expected_users, bandwidth_hz, n_vms = self._perspectives.draw(
            self.validation_copies, torch.Generator().manual_seed(seed)
        )
        environment = RegionEnvironment(
            self.scenario,
            mean_users,
            self.validation_copies,
            seed,
            bandwidth_hz=bandwidth_hz,
            n_vms=n_vms,
            device=self.device,
        )
        environment.traffic(mean_users, expected_users)
        for _ in range(self.validation_slots):
            state = environment.state
            _, outcome = environment.step(allocate(self.scenario, state))
            yield state, outcome

    def _measure_yardsticks(self) -> tuple[float, float | None]:
        """Per region and slot: the revenue of `Greedy`, and an upper bound (None unless queues are `lindley`)."""
        slots = list(self._rollout(Greedy().allocate))
        greedy = self._per_slot(slots)
        if self.scenario.queue != "lindley":
            return greedy, None
        with torch.inference_mode(False), torch.enable_grad():
            bound = upper_bound(self.scenario, [_plain(state) for state, _ in slots], iterations=_BOUND_ITERATIONS)
        return greedy, float(bound.mean()) / self.validation_slots

    def _per_slot(self, slots: Iterable[tuple[RegionState, Outcome]]) -> float:
        total = sum(float(outcome.revenue.sum()) for _, outcome in slots)
        return total / (self.validation_copies * self.validation_slots)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the spec, which rebuilds the module, and the state of the replay loop, to resume it.

        A file of the weights only (`save_weights_only` of Lightning's `ModelCheckpoint`) gets the spec only: the replay
        buffer is nearly all of a file.
        """
        checkpoint["spec"] = self.spec
        if self._experience is not None and "optimizer_states" in checkpoint:
            checkpoint["experience"] = self._experience.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the replay loop's state until training starts."""
        self._saved_experience = checkpoint.get("experience")


@dataclasses.dataclass
class Experience:
    """The state of the replay loop, apart from the agents."""

    environment: RegionEnvironment
    shadow: RegionEnvironment
    buffer: ReplayBuffer
    generator: torch.Generator  # for noise and batches, on the device
    draws: torch.Generator  # for `Perspectives`

    def state_dict(self) -> dict[str, Any]:
        """Everything as tensors and plain numbers, for `load_state_dict`."""
        return {
            "environment": self.environment.state_dict(),
            "shadow": self.shadow.state_dict(),
            "buffer": self.buffer.state_dict(),
            "generator": self.generator.get_state(),
            "draws": self.draws.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore a `state_dict`.

        Raises:
            InputError: it is from another kind of device, whose random generator has another state.
        """
        self.environment.load_state_dict(state["environment"])
        self.shadow.load_state_dict(state["shadow"])
        self.buffer.load_state_dict(state["buffer"], device)
        try:
            self.generator.set_state(state["generator"])
        except RuntimeError as error:
            raise InputError(
                f"the training to resume was begun on another kind of device than {device.type}; resume it there, or "
                "start a new run from its weights (init.allocator=RUN)"
            ) from error
        self.draws.set_state(state["draws"])


def saturated_share(action: Float[Tensor, "*batch rows actions"], observation: Observation) -> Float[Tensor, ""]:
    """Share of a policy's actions that lie at a bound (-1 or 1), without those of absent users."""
    counts = acting(observation, action)
    return ((action.abs() > _SATURATED).float().mean(-1) * counts).sum() / counts.sum().clamp_min(1)


def done_by_priority(scenario: Scenario, slots: Sequence[tuple[RegionState, Outcome]]) -> dict[str, Tensor]:
    """Share of the tasks of each priority that were done in time, by the name under which it is logged."""
    levels = torch.tensor(scenario.priorities, device=slots[0][0].n_vms.device)
    done, asked = torch.zeros_like(levels), torch.zeros_like(levels)
    for state, outcome in slots:
        level = state.tasks.present.unsqueeze(-1) & (state.tasks.priority.unsqueeze(-1) == levels)
        asked += level.sum((0, 1))
        done += (level & outcome.on_time.unsqueeze(-1)).sum((0, 1))
    return dict(
        zip((f"val/done_priority_{level:g}" for level in levels.tolist()), done / asked.clamp_min(1), strict=True)
    )


def _plain(state: RegionState) -> RegionState:
    """The state as ordinary tensors: gradients cannot be taken of tensors made in inference mode."""
    return map_state(Tensor.clone, state)
