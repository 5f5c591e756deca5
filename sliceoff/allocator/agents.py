"""One or two agents that learn from batches: Algorithm 3's inner loop, independent of the region environment."""

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sliceoff.allocator import distillation, td3
from sliceoff.allocator.networks import Network
from sliceoff.allocator.replay import Transition
from sliceoff.checks import between, count, not_negative, whole
from sliceoff.errors import OptionError
from sliceoff.region import Observation

Policy = Literal["hybrid", "current", "peer"]
Gradients = tuple[Tensor, ...]


class Agents(nn.Module):
    """Networks, target networks and the two updates, `update_critics` and `update_actors`, of all agents at once.

    The current agent has index 0, its peer index 1. With one agent there is no distillation.

    Args:
        network: called with `n_agents=, n_critics=`; see `sliceoff.allocator.networks`.
        n_agents: 2, or 1 for a single agent.
        n_critics: 2, the twins, or 1.
        gamma: discount per step.
        tau: weight of the online network in each soft update of the target.
        policy_delay: updates of the critics per update of actors and targets.
        target_policy_noise, target_noise_clip: sigma and c in Eq. 23.
        distillation: weight of Eq. 26 in the actors' loss; 0: no distillation.
        confidence: alpha in Eq. 26; 0 gives all states the same weight.
        exponent_clip: upper bound of the exponent in Eq. 26.

    Raises:
        InputError: an argument is out of range; names it.
    """

    xi_spread: Tensor
    updates: Tensor

    def __init__(
        self,
        network: Callable[..., Network],
        *,
        n_agents: int = 2,
        n_critics: int = 2,
        gamma: float | int = 0.99,
        tau: float | int = 0.005,
        policy_delay: int = 2,
        target_policy_noise: float | int = 0.2,
        target_noise_clip: float | int = 0.5,
        distillation: float | int = 0.5,
        confidence: float | int = 1.0,
        exponent_clip: float | int = 2.0,
    ):
        super().__init__()
        if n_agents not in (1, 2):
            raise OptionError("n_agents", f"={n_agents}: one agent, or two that distil from each other")
        self.n_agents = n_agents
        self.n_critics = whole("n_critics", n_critics, 1, 2)
        self.gamma = between("gamma", gamma, 0, 1)
        self.tau = between("tau", tau, 0, 1)
        self.policy_delay = count("policy_delay", policy_delay)
        self.target_policy_noise = not_negative("target_policy_noise", target_policy_noise)
        self.target_noise_clip = not_negative("target_noise_clip", target_noise_clip)
        self.distillation = not_negative("distillation", distillation)
        self.confidence = not_negative("confidence", confidence)
        self.exponent_clip = not_negative("exponent_clip", exponent_clip)
        self.network = network(n_agents=n_agents, n_critics=n_critics)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.register_buffer("xi_spread", torch.zeros(n_agents))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile both updates (loss, gradients and logged numbers), as one graph each.

        Args:
            args, options: as for `torch.compile`.
        """
        torch._dynamo.config.trace_autograd_ops = True  # else `torch.autograd.grad` cuts the graphs in two
        for update in ("critic_gradients", "actor_gradients"):
            setattr(self, update, torch.compile(getattr(self, update), *args, **options))

    def act(self, observation: Observation, policy: Policy = "hybrid") -> Float[Tensor, "batch rows actions"]:
        """The action of `policy`, without noise or gradient; `observation` has one row per region.

        A single agent is its own peer. Autocast is disabled: it does not speed up small batches, and the policy must
        act in training as it does when deployed.
        """
        rows = len(observation.region)
        with torch.no_grad(), torch.autocast(observation.region.device.type, enabled=False):
            # Matrix products round differently for few rows. Padded to a multiple of eight, a region's action is the
            # same bit for bit in any batch.
            everyone = Observation(
                *(
                    torch.cat((x, x[:1].expand(-rows % 8, *x.shape[1:]))).expand(self.n_agents, -1, *x.shape[1:])
                    for x in observation
                )
            )
            actions = self.network.actor(everyone)
            current, peer = actions[0], actions[-1]
            if policy == "hybrid" and self.n_agents > 1:
                value = distillation.state_value(self.network.critic(everyone, actions, self.n_critics))
                current = distillation.hybrid_action(current, peer, distillation.advantage(value[-1], value[0]))
            return (peer if policy == "peer" else current)[:rows]

    def update_critics(
        self,
        batch: Transition,
        noise: Float[Tensor, "agents batch rows actions"],
        optimizer: Optimizer,
    ) -> dict[str, Tensor]:
        """Algorithm 3, lines 9-11: one step of all critics towards the target of Eq. 24.

        Args:
            noise: standard normal, for Eq. 23.

        Returns:
            Numbers to log, detached.
        """
        gradients, logged = self.critic_gradients(batch, noise)
        _descend(self.network.critic, gradients, optimizer)
        self.updates += 1
        return logged

    def update_actors(self, batch: Transition, optimizer: Optimizer) -> dict[str, Tensor]:
        """Algorithm 3, lines 13-16: one gradient step on Eqs. 25 and 26 together, then the soft update of all targets.

        Returns:
            Numbers to log, detached.
        """
        gradients, logged = self.actor_gradients(batch)
        _descend(self.network.actor, gradients, optimizer)
        td3.soft_update(self.target.parameters(), self.network.parameters(), self.tau)
        return logged

    def critic_gradients(
        self, batch: Transition, noise: Float[Tensor, "agents batch rows actions"]
    ) -> tuple[Gradients, dict[str, Tensor]]:
        """Gradients of the critics' loss with respect to their parameters, in order, and numbers to log."""
        with torch.no_grad():
            next_action = td3.smoothed_target_action(
                self.target.actor(batch.next_observation), noise, self.target_policy_noise, self.target_noise_clip
            )
            next_values = self.target.critic(batch.next_observation, next_action, self.n_critics)
            target = td3.clipped_double_q_target(batch.reward, batch.terminated, next_values, self.gamma)
        values = self.network.critic(batch.observation, batch.action, self.n_critics)
        loss = td3.critic_loss(values, target)
        gradients = torch.autograd.grad(loss, list(self.network.critic.parameters()))
        values = values.detach()
        return gradients, {
            "critic_loss": loss.detach(),
            "q": values.mean(),
            "twin_gap": (values[0] - values[-1]).abs().mean(),
        }

    def actor_gradients(self, batch: Transition) -> tuple[Gradients, dict[str, Tensor]]:
        """Gradients of the actors' loss with respect to their parameters, in order, and numbers to log."""
        observation = batch.observation
        action = self.network.actor(observation)
        # xi needs every critic, Eq. 25 only the first.
        values = self.network.critic(observation, action, self.n_critics if self.n_agents > 1 else 1)
        policy_loss = td3.actor_loss(values[0])
        loss, logged = policy_loss, {"actor_loss": policy_loss.detach()}
        if self.n_agents > 1:
            distilled, told = self._distil(observation, action, distillation.state_value(values))
            loss, logged = loss + self.distillation * distilled, logged | told
        return torch.autograd.grad(loss, list(self.network.actor.parameters())), logged

    def _distil(
        self,
        observation: Observation,
        action: Float[Tensor, "agents batch rows actions"],
        value: Float[Tensor, "agents batch"],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 26 for both agents, each in its peer's states and towards its peer's actions; and numbers to log."""
        met, peer_action, peer_value = Observation(*(x.flip(0) for x in observation)), action.flip(0), value.flip(0)
        own_action = self.network.actor(met)
        with torch.no_grad():
            own_value = distillation.state_value(self.network.critic(met, own_action, self.n_critics))
            xi = distillation.advantage(peer_value, own_value).to(self.xi_spread.dtype)  # bfloat16 under autocast
            self.xi_spread.copy_(distillation.running_spread(self.xi_spread, xi))
            weight = distillation.confidence(xi, self.xi_spread, self.confidence, self.exponent_clip)
        loss = distillation.distillation_loss(own_action, peer_action, weight, acting(met, action))
        low, middle, high = xi.flatten().quantile(xi.new_tensor((0.1, 0.5, 0.9)))
        return loss, {
            "distillation_loss": loss.detach(),
            "distillation_weight": weight.mean(),
            "xi_mean": xi.mean(),
            "xi_std": xi.std(),
            "xi_10_percent": low,
            "xi_median": middle,
            "xi_90_percent": high,
            "peer_is_worth_more": (xi > 0).float().mean(),
        }


def acting(observation: Observation, action: Float[Tensor, "*batch rows actions"]) -> Bool[Tensor, "*batch rows"]:
    """Which rows of an action have an effect: those of present users, or the region's single row."""
    present = observation.present
    return present if action.shape[-2] == present.shape[-1] else torch.ones_like(present[..., :1])


def _descend(network: nn.Module, gradients: Gradients, optimizer: Optimizer) -> None:
    for weight, gradient in zip(network.parameters(), gradients, strict=True):
        weight.grad = gradient
    optimizer.step()
