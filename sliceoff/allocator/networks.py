"""Actors and critics of all agents as one batched module each: `MLPNetwork` (the paper) and `SetNetwork`."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sliceoff.errors import InputError
from sliceoff.region import Observation


class Network(nn.Module):
    """Interface: what `Agents` need, built with `n_agents=, n_critics=, region_features=, user_features=, n_users=,
    n_actions=` and options of its own.

    Attributes:
        actor: `actor(observation) -> action` in [-1, 1], (agents, batch, users, actions).
        critic: `critic(observation, action, critics) -> values` (critics, agents, batch) by the first `critics` ones.
    """

    actor: nn.Module
    critic: nn.Module


class StackedLinear(nn.Module):
    """`n_members` linear layers side by side, initialised as torch's own."""

    def __init__(self, n_members: int, n_inputs: int, n_outputs: int, scale: float = 1.0):
        super().__init__()
        bound = scale / sqrt(max(n_inputs, 1))
        self.weight = nn.Parameter(torch.empty(n_members, n_inputs, n_outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_outputs).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "members *rows inputs"]) -> Float[Tensor, "members *rows outputs"]:
        """Member m maps x[m]; fewer members than there are means the first ones."""
        members, rows = x.shape[0], x.shape[1:-1]
        y = torch.baddbmm(self.bias[:members], x.reshape(members, rows.numel(), x.shape[-1]), self.weight[:members])
        return y.view(members, *rows, y.shape[-1])


class MLPActor(nn.Module):
    """All users' features in one vector, all users' actions in another."""

    def __init__(self, n_agents: int, n_inputs: int, n_users: int, n_actions: int, hidden: Sequence[int]):
        super().__init__()
        self._shape = (n_users, n_actions)
        self.layers = _stack(n_agents, (n_inputs, *hidden, n_users * n_actions))

    def forward(self, observation: Observation) -> Float[Tensor, "agents batch users actions"]:
        """The policy's action."""
        return self.layers(_flat(observation.region, observation.users)).tanh().unflatten(-1, self._shape)


class MLPCritic(nn.Module):
    """Observation and action in one vector."""

    def __init__(self, n_members: int, n_inputs: int, hidden: Sequence[int]):
        super().__init__()
        self.layers = _stack(n_members, (n_inputs, *hidden, 1))

    def forward(
        self, observation: Observation, action: Float[Tensor, "agents batch users actions"], critics: int
    ) -> Float[Tensor, "critics agents batch"]:
        """Values by the first `critics` critics of every agent."""
        x = _flat(observation.region, observation.users, action)
        return self.layers(_for_each(critics, x)).squeeze(-1).unflatten(0, (critics, -1))


class MLPNetwork(Network):
    """The paper's: plain multilayer perceptrons over padded vectors; the order of users matters to it.

    Args:
        hidden: widths of the hidden layers, of actors and critics alike.
    """

    def __init__(
        self,
        *,
        n_agents: int,
        n_critics: int,
        region_features: int,
        user_features: int,
        n_users: int,
        n_actions: int,
        hidden: Sequence[int] = (400, 300),
    ):
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise InputError(
                f"network.hidden={list(hidden)} must name at least one width above zero, such as [400, 300]"
            )
        n_inputs = region_features + n_users * user_features
        self.actor = MLPActor(n_agents, n_inputs, n_users, n_actions, hidden)
        self.critic = MLPCritic(n_agents * n_critics, n_inputs + n_users * n_actions, hidden)


class DeepSet(nn.Module):
    """Embeds every user knowing the region and, by their mean, all other users (Zaheer et al. 2017); equivariant."""

    def __init__(self, n_members: int, region_features: int, user_features: int, width: int, depth: int):
        super().__init__()
        self.region = StackedLinear(n_members, region_features, width)
        self.user = StackedLinear(n_members, user_features, width)
        self.own = nn.ModuleList(StackedLinear(n_members, width, width) for _ in range(depth))
        self.others = nn.ModuleList(StackedLinear(n_members, width, width) for _ in range(depth))

    def forward(
        self,
        region: Float[Tensor, "members batch region_features"],
        users: Float[Tensor, "members batch users user_features"],
        present: Bool[Tensor, "members batch users"],
    ) -> Float[Tensor, "members batch users width"]:
        """Absent users neither give nor matter."""
        h = (self.user(users) + self.region(region).unsqueeze(-2)).relu()
        for own, others in zip(self.own, self.others, strict=True):
            mean = masked_sum(h, present) / present.sum(-1, keepdim=True).clamp_min(1)
            h = (own(h) + others(mean).unsqueeze(-2)).relu()
        return h


class SetActor(nn.Module):
    """The same map for every user."""

    def __init__(self, n_agents: int, region_features: int, user_features: int, n_actions: int, width: int, depth: int):
        super().__init__()
        self.body = DeepSet(n_agents, region_features, user_features, width, depth)
        # Small: a policy starts near action 0, which the structured decoder turns into a good rule.
        self.head = StackedLinear(n_agents, width, n_actions, scale=0.01)

    def forward(self, observation: Observation) -> Float[Tensor, "agents batch users actions"]:
        """The policy's action."""
        return self.head(self.body(*observation)).tanh()


class SetCritic(nn.Module):
    """A sum over users, each with its action, then a perceptron."""

    def __init__(
        self, n_members: int, region_features: int, user_features: int, n_actions: int, width: int, depth: int
    ):
        super().__init__()
        self.body = DeepSet(n_members, region_features, user_features + n_actions, width, depth)
        self.head = _stack(n_members, (2 * width + region_features, width, 1))

    def forward(
        self, observation: Observation, action: Float[Tensor, "agents batch users actions"], critics: int
    ) -> Float[Tensor, "critics agents batch"]:
        """Values by the first `critics` critics of every agent."""
        users = _for_each(critics, torch.cat((observation.users, action), -1))
        region, present = _for_each(critics, observation.region), _for_each(critics, observation.present)
        total = masked_sum(self.body(region, users, present), present)
        count = present.sum(-1, keepdim=True)
        pooled = torch.cat((total / count.clamp_min(1), total / present.shape[-1], region), -1)
        return self.head(pooled).squeeze(-1).unflatten(0, (critics, -1))


class SetNetwork(Network):
    """Weights shared over users: equivariant to their order (actor), invariant (critic), for any number of users.

    Args:
        width: of every hidden layer.
        depth: rounds in which users learn of each other.
    """

    def __init__(
        self,
        *,
        n_agents: int,
        n_critics: int,
        region_features: int,
        user_features: int,
        n_users: int,
        n_actions: int,
        width: int = 64,
        depth: int = 1,
    ):
        super().__init__()
        if width < 1 or depth < 0:
            raise InputError(f"network.width={width} must be above zero, network.depth={depth} at least zero")
        self.actor = SetActor(n_agents, region_features, user_features, n_actions, width, depth)
        self.critic = SetCritic(n_agents * n_critics, region_features, user_features, n_actions, width, depth)


def masked_sum(
    x: Float[Tensor, "*batch users width"], present: Bool[Tensor, "*batch users"]
) -> Float[Tensor, "*batch width"]:
    """Sum over present users (as a matrix product, which writes no masked copy of `x`)."""
    return (present.to(x.dtype).unsqueeze(-2) @ x).squeeze(-2)


def _stack(n_members: int, sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in pairwise(sizes):
        layers += [StackedLinear(n_members, n_inputs, n_outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _flat(region: Tensor, *users: Tensor) -> Tensor:
    return torch.cat((region, *(x.flatten(-2) for x in users)), -1)


def _for_each(critics: int, x: Float[Tensor, "agents ..."] | Bool[Tensor, "agents ..."]) -> Tensor:
    """Repeat the agents' inputs for each of their critics: members are (critic, agent), agent fastest."""
    return x.expand(critics, *x.shape).flatten(0, 1)
