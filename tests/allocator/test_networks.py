"""Equivariance, padding, and that stacked members are what separate networks would be."""

import pytest
import torch

from sliceoff.allocator import MLPNetwork, SetNetwork
from sliceoff.allocator.networks import StackedLinear
from sliceoff.errors import InputError
from sliceoff.region import Observation

SIZES = {"n_agents": 2, "n_critics": 2, "region_features": 4, "user_features": 3, "n_users": 6}
PER_USER, PER_REGION = {"action_shape": (6, 2)}, {"action_shape": (1, 2)}


def seen(users=6, batch=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(2, batch, users, generator=generator) < 0.7
    features = torch.randn(2, batch, users, 3, generator=generator) * present.unsqueeze(-1)
    action = torch.rand(2, batch, users, 2, generator=generator) * 2 - 1
    return Observation(torch.randn(2, batch, 4, generator=generator), features, present), action


def set_network(**options):
    torch.manual_seed(0)
    network = SetNetwork(**SIZES, **{**PER_USER, "width": 16, **options})
    with torch.no_grad():
        network.actor.head.weight.mul_(100)  # away from the near-zero start, where everything is equivariant
    return network


@pytest.mark.parametrize("outputs", [1, 5])
def test_stacked_linear_is_a_linear_layer_per_member(outputs):
    torch.manual_seed(0)
    layer, x = StackedLinear(3, 4, outputs), torch.randn(3, 2, 7, 4)
    for member in range(3):
        expected = torch.nn.functional.linear(x[member], layer.weight[member].T, layer.bias[member, 0])
        torch.testing.assert_close(layer(x)[member], expected)
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_set_actor_is_equivariant_and_critic_invariant(depth):
    network, (observation, action) = set_network(depth=depth), seen()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    moved = Observation(observation.region, observation.users[:, :, order], observation.present[:, :, order])
    torch.testing.assert_close(network.actor(moved), network.actor(observation)[:, :, order])
    torch.testing.assert_close(
        network.critic(moved, action[:, :, order], 2), network.critic(observation, action, 2), atol=1e-5, rtol=1e-5
    )


def test_set_actor_takes_any_number_of_users_and_ignores_padding():
    network, (observation, _) = set_network(), seen()
    padded = Observation(
        observation.region,
        torch.nn.functional.pad(observation.users, (0, 0, 0, 14), value=9.0),
        torch.nn.functional.pad(observation.present, (0, 14)),
    )
    torch.testing.assert_close(network.actor(padded)[:, :, :6], network.actor(observation))


def test_a_regions_action_ignores_order_and_padding():
    network, (observation, _) = set_network(**PER_REGION), seen()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    moved = Observation(
        observation.region,
        torch.nn.functional.pad(observation.users[:, :, order], (0, 0, 0, 3), value=9.0),
        torch.nn.functional.pad(observation.present[:, :, order], (0, 3)),
    )
    action = network.actor(observation)
    assert action.shape == (2, 5, 1, 2)
    torch.testing.assert_close(network.actor(moved), action)
    torch.testing.assert_close(network.critic(moved, action, 2), network.critic(observation, action, 2))
    assert not torch.equal(network.critic(observation, -action, 2), network.critic(observation, action, 2))


def test_set_critic_ignores_the_actions_of_absent_users():
    network, (observation, action) = set_network(), seen()
    other = torch.where(observation.present.unsqueeze(-1), action, 0.123)
    torch.testing.assert_close(network.critic(observation, other, 2), network.critic(observation, action, 2))


def test_nobody_present_is_finite():
    network, (observation, action) = set_network(), seen()
    empty = Observation(observation.region, torch.zeros_like(observation.users), torch.zeros_like(observation.present))
    assert network.actor(empty).isfinite().all()
    assert network.critic(empty, action, 2).isfinite().all()


@pytest.mark.parametrize("kind", [SetNetwork, MLPNetwork])
def test_agents_and_critics_share_nothing(kind):
    torch.manual_seed(0)
    network, (observation, action) = kind(**SIZES, **PER_USER), seen()
    actions, values = network.actor(observation), network.critic(observation, action, 2)
    assert actions.shape == (2, 5, 6, 2)
    assert actions.abs().max() <= 1
    assert values.shape == (2, 2, 5)
    torch.testing.assert_close(network.critic(observation, action, 1), values[:1])
    values[1, 0].sum().backward()
    for parameter in network.critic.parameters():
        touched = parameter.grad.flatten(1).abs().sum(-1) > 0
        assert touched[[0, 1, 3]].sum() == 0  # members are (critic, agent), agent fastest


def test_wrong_options_are_named():
    with pytest.raises(InputError, match=r"^width=0"):
        SetNetwork(**SIZES, **PER_USER, width=0)
    with pytest.raises(InputError, match=r"^hidden"):
        MLPNetwork(**SIZES, **PER_USER, hidden=[])
