"""Actors and critics of all agents, batched into one module each: `MLPNetwork` (the paper's) and `SetNetwork`."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod, sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sliceoff.checks import count, counts, whole
from sliceoff.region import Observation

# Divides sums over users, so that they are about 1.
_CROWD = 20


class Network(nn.Module):
    """Interface of the networks that `Agents` needs.

    Built with `n_agents=, n_critics=, region_features=, user_features=, n_users=, action_shape=` (rows and columns of
    one action: a single row for the region, or one per user) and the network's own options.

    Attributes:
        actor: `actor(observation) -> action` in [-1, 1], (agents, batch, rows, actions).
        critic: `critic(observation, action, critics) -> values`, (critics, agents, batch), of the first `critics`
            critics of every agent.
    """

    actor: nn.Module
    critic: nn.Module


class StackedLinear(nn.Module):
    """`n_members` independent linear layers in one batched product, initialised as `torch.nn.Linear`."""

    def __init__(self, n_members: int, n_inputs: int, n_outputs: int, scale: float = 1.0):
        super().__init__()
        bound = scale / sqrt(max(n_inputs, 1))
        self.weight = nn.Parameter(torch.empty(n_members, n_inputs, n_outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_outputs).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "members *rows inputs"]) -> Float[Tensor, "members *rows outputs"]:
        """Layer m is applied to x[m]; if x has fewer members than there are layers, the first ones are used."""
        members, rows = x.shape[0], x.shape[1:-1]
        bias: Tensor = self.bias
        weight: Tensor = self.weight
        if members < len(weight):  # only then: the gradient of a slice is a copy of the whole
            bias, weight = bias[:members], weight[:members]
        x = x.reshape(members, rows.numel(), x.shape[-1])
        if weight.shape[-1] == 1:  # for one column, a matrix product's overhead is larger than its work
            y = (x * weight.mT).sum(-1, keepdim=True) + bias
        elif torch.compiler.is_compiling():  # the compiler fuses the bias
            y = x @ weight + bias
        else:
            y = torch.baddbmm(bias, x, weight)
        return y.view(members, *rows, y.shape[-1])


class MLPActor(nn.Module):
    """Multilayer perceptron from all features of a region, as one vector, to all of its actions."""

    def __init__(self, n_agents: int, n_inputs: int, action_shape: tuple[int, int], hidden: Sequence[int]):
        super().__init__()
        self._shape = action_shape
        self.layers = _stack(n_agents, (n_inputs, *hidden, prod(action_shape)))

    def forward(self, observation: Observation) -> Float[Tensor, "agents batch rows actions"]:
        return self.layers(_flat(observation.region, observation.users)).tanh().unflatten(-1, self._shape)


class MLPCritic(nn.Module):
    """Multilayer perceptron from a region's features and actions, as one vector, to a value."""

    def __init__(self, n_members: int, n_inputs: int, hidden: Sequence[int]):
        super().__init__()
        self.layers = _stack(n_members, (n_inputs, *hidden, 1))

    def forward(
        self, observation: Observation, action: Float[Tensor, "agents batch rows actions"], critics: int
    ) -> Float[Tensor, "critics agents batch"]:
        x = _flat(observation.region, observation.users, action)
        return self.layers(_for_each(critics, x)).squeeze(-1).unflatten(0, (critics, -1))


class MLPNetwork(Network):
    """The paper's networks: plain multilayer perceptrons over padded vectors; they depend on the order of users.

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
        action_shape: tuple[int, int],
        hidden: Sequence[int] = (400, 300),
    ):
        super().__init__()
        counts("hidden", hidden)
        n_inputs = region_features + n_users * user_features
        self.actor = MLPActor(n_agents, n_inputs, action_shape, hidden)
        self.critic = MLPCritic(n_agents * n_critics, n_inputs + prod(action_shape), hidden)


class DeepSet(nn.Module):
    """Embeds every user from its features, the region's and, `depth` times, the mean user (Zaheer et al. 2017)."""

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
        """Embeddings of all users; absent ones have no effect on those of present users."""
        h = (self.user(users) + self.region(region).unsqueeze(-2)).relu()
        for own, others in zip(self.own, self.others, strict=True):
            mean = masked_sum(h, present) / present.sum(-1, keepdim=True).clamp_min(1)
            h = (own(h) + others(mean).unsqueeze(-2)).relu()
        return h


class SetActor(nn.Module):
    """Actor with the same map for every user; for a single row of actions, applied to the pooled users (`Pool`)."""

    def __init__(
        self,
        n_agents: int,
        region_features: int,
        user_features: int,
        action_shape: tuple[int, int],
        width: int,
        depth: int,
    ):
        super().__init__()
        self.body = DeepSet(n_agents, region_features, user_features, width, depth)
        self.pool = Pool(n_agents, region_features, width) if action_shape[0] == 1 else None
        # Small initial weights: a policy starts near action 0, which `Prices` and `Packing` turn into a good rule.
        self.head = StackedLinear(n_agents, width, action_shape[1], scale=0.01)

    def forward(self, observation: Observation) -> Float[Tensor, "agents batch rows actions"]:
        h = self.body(*observation)
        if self.pool is not None:
            h = self.pool(observation.region, h, observation.present).unsqueeze(-2)
        return self.head(h).tanh()


class SetCritic(nn.Module):
    """Critic that pools users, each with its action (`Pool`); a region's single action is added to its features."""

    def __init__(
        self,
        n_members: int,
        region_features: int,
        user_features: int,
        action_shape: tuple[int, int],
        width: int,
        depth: int,
    ):
        super().__init__()
        rows, actions = action_shape
        self._for_region = rows == 1
        region_features += actions if self._for_region else 0
        user_features += 0 if self._for_region else actions
        self.body = DeepSet(n_members, region_features, user_features, width, depth)
        self.pool = Pool(n_members, region_features, width)
        self.head = StackedLinear(n_members, width, 1)

    def forward(
        self, observation: Observation, action: Float[Tensor, "agents batch rows actions"], critics: int
    ) -> Float[Tensor, "critics agents batch"]:
        region, users, present = observation
        if self._for_region:
            region = torch.cat((region, action.squeeze(-2)), -1)
        else:
            users = torch.cat((users, action), -1)
        region, users, present = (_for_each(critics, x) for x in (region, users, present))
        h = self.pool(region, self.body(region, users, present), present)
        return self.head(h).squeeze(-1).unflatten(0, (critics, -1))


class Pool(nn.Module):
    """Pools all users of a region into one vector, from their mean and their sum; invariant to their order."""

    def __init__(self, n_members: int, region_features: int, width: int):
        super().__init__()
        self.layer = StackedLinear(n_members, 2 * width + region_features, width)

    def forward(
        self,
        region: Float[Tensor, "members batch region_features"],
        h: Float[Tensor, "members batch users width"],
        present: Bool[Tensor, "members batch users"],
    ) -> Float[Tensor, "members batch width"]:
        total, count = masked_sum(h, present), present.sum(-1, keepdim=True)
        return self.layer(torch.cat((total / count.clamp_min(1), total / _CROWD, region), -1)).relu()


class SetNetwork(Network):
    """Weights shared over users: equivariant to their order (actor), invariant (critic), for any number of users.

    Args:
        width: of every hidden layer.
        depth: further layers, in which every user sees the mean over all users.
    """

    def __init__(
        self,
        *,
        n_agents: int,
        n_critics: int,
        region_features: int,
        user_features: int,
        n_users: int,
        action_shape: tuple[int, int],
        width: int = 32,
        depth: int = 0,
    ):
        super().__init__()
        count("width", width)
        whole("depth", depth)
        self.actor = SetActor(n_agents, region_features, user_features, action_shape, width, depth)
        self.critic = SetCritic(n_agents * n_critics, region_features, user_features, action_shape, width, depth)


def masked_sum(
    x: Float[Tensor, "*batch users width"], present: Bool[Tensor, "*batch users"]
) -> Float[Tensor, "*batch width"]:
    """Sum over present users (as a matrix product, which makes no masked copy of `x`)."""
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
