"""Eqs. 26-28: numbers by hand, gradients, and what a frozen peer does to a policy."""

import pytest
import torch
from torch import nn

from sliceoff.allocator import Agents, Transition, distillation
from sliceoff.allocator.networks import Network, StackedLinear
from sliceoff.region import Observation


def test_value_is_the_lower_twin():
    assert distillation.state_value(torch.tensor([[1.0, 5.0], [2.0, 3.0]])).tolist() == [1.0, 3.0]


def test_confidence_by_hand():
    weight = distillation.confidence(
        torch.tensor([[2.0, -2.0, 100.0]]), torch.tensor([4.0]), alpha=2.0, exponent_clip=3
    )
    assert weight.flatten().tolist() == pytest.approx([torch.e, 1 / torch.e, torch.e**3])


def test_confidence_does_not_depend_on_the_unit_of_returns():
    xi = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    weights = [
        distillation.confidence(x, distillation.running_spread(torch.zeros(2), x), alpha=1.0, exponent_clip=2.0)
        for x in (xi, 1000 * xi)
    ]
    torch.testing.assert_close(*weights)


def test_spread_moves_slowly_after_its_first_batch():
    first = distillation.running_spread(torch.zeros(1), torch.tensor([[1.0, 3.0]]))
    assert first.item() == pytest.approx(2**0.5)
    second = distillation.running_spread(first, torch.tensor([[0.0, 0.0]]))
    assert second.item() == pytest.approx(0.99 * 2**0.5)


def test_loss_by_hand_over_present_users_alone():
    action = torch.tensor([[[[1.0], [5.0]], [[0.0], [2.0]]]])
    peer = torch.zeros_like(action)
    present = torch.tensor([[[True, False], [True, True]]])
    weight = torch.tensor([[1.0, 3.0]])
    # 1/2 (1 * 1 + 3 * (0 + 4)) / 2
    assert distillation.distillation_loss(action, peer, weight, present).item() == pytest.approx(3.25)


def test_gradient_of_each_sample_scales_with_its_own_weight():
    action = torch.ones(1, 3, 2, 1, requires_grad=True)
    weight = torch.tensor([[1.0, 2.0, 0.0]])
    present = torch.ones(1, 3, 2, dtype=torch.bool)
    distillation.distillation_loss(action, torch.zeros_like(action), weight, present).backward()
    assert action.grad[0, :, 0, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])


def test_no_gradient_through_peer_or_weight():
    action = torch.ones(1, 2, 1, 1, requires_grad=True)
    peer = torch.zeros(1, 2, 1, 1, requires_grad=True)
    value, peer_value = torch.ones(1, 2, requires_grad=True), torch.full((1, 2), 2.0, requires_grad=True)
    xi = distillation.advantage(peer_value, value)
    weight = distillation.confidence(xi, torch.ones(1), alpha=1.0, exponent_clip=2.0)
    distillation.distillation_loss(action, peer, weight, torch.ones(1, 2, 1, dtype=torch.bool)).backward()
    assert action.grad.abs().sum() > 0
    assert peer.grad is None
    assert value.grad is None
    assert peer_value.grad is None


def hybrid_values(reward, transition, policies, values, gamma):
    """Exact values of the policy that (28) makes of two policies and of what it is told they are worth."""
    xi = distillation.advantage(values[1], values[0])
    as_action = [policy.double().view(-1, 1, 1) for policy in policies]
    chosen = distillation.hybrid_action(*as_action, xi).flatten().long()
    return exact_values(reward, transition, chosen, gamma)


def exact_values(reward, transition, policy, gamma):
    states = torch.arange(len(policy))
    return torch.linalg.solve(
        torch.eye(len(policy), dtype=torch.float64) - gamma * transition[states, policy], reward[states, policy]
    )


@pytest.mark.parametrize(("noise", "least_share"), [(0.0, 1.0), (0.1, 0.9)])
def test_hybrid_dominates_both_policies_on_random_mdps(noise, least_share):
    generator = torch.Generator().manual_seed(0)
    n_states, n_actions, gamma, better, total = 6, 3, 0.9, 0, 0
    for _ in range(300):
        reward = torch.rand(n_states, n_actions, generator=generator, dtype=torch.float64)
        transition = torch.rand(n_states, n_actions, n_states, generator=generator, dtype=torch.float64) ** 3
        transition /= transition.sum(-1, keepdim=True)
        policies = torch.randint(n_actions, (2, n_states), generator=generator)
        values = torch.stack([exact_values(reward, transition, policy, gamma) for policy in policies])
        told = values + noise * values.std() * torch.randn(values.shape, generator=generator, dtype=torch.float64)
        hybrid = hybrid_values(reward, transition, policies, told, gamma)
        better += int((hybrid >= values.amax(0) - 1e-9).sum())
        total += n_states
    assert better / total >= least_share
    assert noise == 0 or better < total  # with noise it is no theorem


class Target(nn.Module):
    """A critic that knows the truth, Q = -|a - 0.5 s|^2, and shows its gradient or not."""

    def __init__(self, shows_gradient):
        super().__init__()
        self.shows_gradient = shows_gradient

    def forward(self, observation, action, critics):
        action = action if self.shows_gradient else action.detach()
        value = -(action - 0.5 * observation.region.unsqueeze(-1)).square().sum((-1, -2))
        return value.expand(critics, *value.shape)


class Linear(nn.Module):
    """a = w s + b."""

    def __init__(self, n_agents):
        super().__init__()
        self.map = StackedLinear(n_agents, 1, 1)

    def forward(self, observation):
        return self.map(observation.region).unsqueeze(-1)


class KnownValues(Network):
    def __init__(self, shows_gradient, n_agents, n_critics):
        super().__init__()
        self.actor, self.critic = Linear(n_agents), Target(shows_gradient)


def train_beside_frozen_peer(own, peer, *, shows_gradient, updates=300):
    """Mean return of the current agent before and after, its peer being kept as it is."""
    torch.manual_seed(0)
    agents = Agents(lambda **counted: KnownValues(shows_gradient, **counted))
    layer = agents.network.actor.map
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([own[0], peer[0]]).view(2, 1, 1))
        layer.bias.copy_(torch.tensor([own[1], peer[1]]).view(2, 1, 1))
    for parameter in layer.parameters():
        parameter.register_hook(lambda grad: grad * torch.tensor([1.0, 0.0]).view(2, 1, 1))
    optimizer = torch.optim.Adam(agents.network.actor.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(1)

    def states(count):
        region = torch.rand(2, count, 1, generator=generator) * 2 - 1
        return Observation(region, torch.zeros(2, count, 1, 0), torch.ones(2, count, 1, dtype=torch.bool))

    def mean_return():
        everywhere = states(1000)
        with torch.no_grad():
            return agents.network.critic(everywhere, agents.network.actor(everywhere), 1)[0].mean(-1).tolist()

    before = mean_return()
    for _ in range(updates):
        seen = states(64)
        nothing = torch.zeros(2, 64)
        agents.update_actors(Transition.of(seen, torch.zeros(2, 64, 1, 1), nothing, nothing.bool(), seen), optimizer)
    after = mean_return()
    assert after[1] == pytest.approx(before[1], abs=0.05)  # the peer is frozen
    return before[0], after[0]


def test_frozen_better_peer_pulls_returns_up_by_distillation_alone():
    before, after = train_beside_frozen_peer(own=(-0.5, 0.3), peer=(0.5, 0.0), shows_gradient=False)
    assert before < -0.3
    assert after > -0.01


def test_frozen_much_worse_peer_leaves_the_policy_as_it_was():
    before, after = train_beside_frozen_peer(own=(0.5, 0.0), peer=(0.6, 1.0), shows_gradient=True)
    assert before == pytest.approx(0.0, abs=1e-6)
    assert after > -1e-3  # the peer's return is about -1


def test_without_confidence_the_same_peer_drags_the_policy_along():
    """The counterpart: were every state weighted alike, the test above would fail."""
    action, peer = torch.zeros(1, 4, 1, 1, requires_grad=True), torch.ones(1, 4, 1, 1)
    xi, present = torch.full((1, 4), -8.0), torch.ones(1, 4, 1, dtype=torch.bool)
    pulls = []
    for alpha in (0.0, 1.0):
        weight = distillation.confidence(xi, torch.ones(1), alpha=alpha, exponent_clip=2.0)
        loss = distillation.distillation_loss(action, peer, weight, present)
        pulls.append(torch.autograd.grad(loss, action)[0].abs().sum().item())
    assert pulls[1] < 1e-3 * pulls[0]
