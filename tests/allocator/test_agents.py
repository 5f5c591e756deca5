"""The learner away from regions: a bandit with known optimum, delays, deployment."""

from functools import partial

import pytest
import torch

from sliceoff.allocator import Agents, MLPNetwork, ReplayBuffer, SetNetwork, Transition
from sliceoff.errors import InputError
from sliceoff.region import Observation

NETWORK = partial(MLPNetwork, region_features=1, user_features=0, n_users=1, action_shape=(1, 1), hidden=(32, 32))


def contexts(agents, count, generator):
    region = torch.rand(agents, count, 1, generator=generator) * 2 - 1
    return Observation(region, torch.zeros(agents, count, 1, 0), torch.ones(agents, count, 1, dtype=torch.bool))


def learn_bandit(updates=400, **options):
    """Reward -(a - 0.6 s)^2, every step the last: the best action is 0.6 s."""
    torch.manual_seed(0)
    agents = Agents(NETWORK, tau=0.05, **options)
    generator, buffer = torch.Generator().manual_seed(1), ReplayBuffer(4096)
    count = agents.n_agents
    optimizers = [
        torch.optim.Adam(part.parameters(), lr=3e-3) for part in (agents.network.actor, agents.network.critic)
    ]
    seen = contexts(count, 2048, generator)
    action = torch.rand(count, 2048, 1, 1, generator=generator) * 2 - 1
    reward = -(action - 0.6 * seen.region.unsqueeze(-1)).square().sum((-1, -2))
    buffer.add(Transition.of(seen, action, reward, torch.ones_like(reward, dtype=torch.bool), seen))
    for update in range(1, updates + 1):
        batch = buffer.sample(64, generator)
        agents.update_critics(batch, torch.randn(batch.action.shape, generator=generator), optimizers[1])
        if update % agents.policy_delay == 0:
            agents.update_actors(batch, optimizers[0])
    return agents


@pytest.mark.parametrize(
    "options",
    [{}, {"n_agents": 1}, {"n_agents": 1, "n_critics": 1, "policy_delay": 1, "target_policy_noise": 0.0}],
    ids=["dual", "td3", "ddpg"],
)
def test_bandit_with_known_optimum_is_learned(options):
    agents = learn_bandit(**options)
    held_out = Observation(*(x[0] for x in contexts(1, 500, torch.Generator().manual_seed(9))))
    best = 0.6 * held_out.region.unsqueeze(-1)
    for policy in ("hybrid", "current", "peer"):
        assert (agents.act(held_out, policy) - best).abs().mean() < 0.06
    assert int(agents.updates) == 400


@pytest.mark.parametrize("policy", ["hybrid", "current"])
def test_a_policy_acts_in_training_in_bfloat16_as_when_served(policy):
    agents = Agents(NETWORK)
    seen = Observation(*(x[0] for x in contexts(1, 20, torch.Generator().manual_seed(0))))
    served = agents.act(seen, policy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(agents.act(seen, policy), served)


SET = partial(SetNetwork, region_features=1, user_features=2, n_users=1, action_shape=(1, 1))


@pytest.mark.parametrize("network", [NETWORK, SET], ids=["mlp", "set"])
def test_all_of_an_update_stays_on_the_device(elsewhere, network):
    agents = Agents(network).to(elsewhere)
    users = network.keywords["user_features"]
    seen = Observation(
        torch.rand(2, 8, 1, device=elsewhere),
        torch.rand(2, 8, 1, users, device=elsewhere),
        torch.ones(2, 8, 1, dtype=torch.bool, device=elsewhere),
    )
    action, reward = torch.rand(2, 8, 1, 1, device=elsewhere), torch.rand(2, 8, device=elsewhere)
    buffer = ReplayBuffer(16)
    buffer.add(Transition.of(seen, action, reward, reward > 0, seen))
    batch = Transition(*(field[:, :8] for field in buffer.state_dict()["fields"].values()))
    agents.update_critics(batch, torch.randn_like(action), torch.optim.Adam(agents.network.critic.parameters()))
    agents.update_actors(batch, torch.optim.Adam(agents.network.actor.parameters()))
    served = agents.act(Observation(*(x[0] for x in seen)))
    assert (served.device.type, *served.shape) == (elsewhere, 8, 1, 1)


def test_critics_alone_leave_actors_and_targets():
    agents = Agents(NETWORK)
    before = {name: value.clone() for name, value in agents.state_dict().items()}
    seen = contexts(2, 8, torch.Generator().manual_seed(0))
    batch = Transition.of(seen, torch.zeros(2, 8, 1, 1), torch.ones(2, 8), torch.zeros(2, 8).bool(), seen)
    agents.update_critics(batch, torch.zeros(2, 8, 1, 1), torch.optim.Adam(agents.network.critic.parameters()))
    moved = {name for name, value in agents.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("network.critic") or name == "updates" for name in moved)


def test_actors_alone_leave_critics():
    agents = Agents(NETWORK)
    before = {name: value.clone() for name, value in agents.network.critic.state_dict().items()}
    seen = contexts(2, 8, torch.Generator().manual_seed(0))
    batch = Transition.of(seen, torch.zeros(2, 8, 1, 1), torch.ones(2, 8), torch.zeros(2, 8).bool(), seen)
    agents.update_actors(batch, torch.optim.Adam(agents.network.actor.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in agents.network.critic.state_dict().items())
    assert all(parameter.grad is None for parameter in agents.network.critic.parameters())


def test_hybrid_acts_per_state_as_whoever_is_worth_more():
    torch.manual_seed(0)
    agents = Agents(NETWORK)
    seen = Observation(*(x[0] for x in contexts(1, 200, torch.Generator().manual_seed(2))))
    both = Observation(*(x.expand(2, *x.shape) for x in seen))
    with torch.no_grad():
        actions = agents.network.actor(both)
        value = agents.network.critic(both, actions, 2).amin(0)
    as_peer = value[1] > value[0]
    assert 0 < as_peer.sum() < 200
    expected = torch.where(as_peer[:, None, None], actions[1], actions[0])
    torch.testing.assert_close(agents.act(seen, "hybrid"), expected)


@pytest.mark.parametrize("wrong", [{"n_agents": 3}, {"gamma": 1.5}, {"policy_delay": 0}, {"tau": -0.1}])
def test_wrong_options_are_named(wrong):
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}"):
        Agents(NETWORK, **wrong)


def test_agents_that_trade_places_learn_the_same():
    torch.manual_seed(0)
    agents, generator = Agents(NETWORK), torch.Generator().manual_seed(1)
    swapped = Agents(NETWORK)
    for part in ("actor", "critic"):  # members are (critic, agent), the agent fastest
        theirs = getattr(agents.network, part).parameters()
        for own, weight in zip(getattr(swapped.network, part).parameters(), theirs, strict=True):
            own.data.copy_(weight.data.unflatten(0, (-1, 2)).flip(1).flatten(0, 1))
    swapped.target.load_state_dict(swapped.network.state_dict())
    seen, following = contexts(2, 32, generator), contexts(2, 32, generator)
    action = torch.rand(2, 32, 1, 1, generator=generator) * 2 - 1
    reward = torch.rand(2, 32, generator=generator)
    batch = Transition.of(seen, action, reward, torch.zeros(2, 32, dtype=torch.bool), following)
    noise = torch.randn(action.shape, generator=generator)
    mirrored = Transition(*(x.flip(0) for x in batch))
    for here, there in (
        (agents.critic_gradients(batch, noise), swapped.critic_gradients(mirrored, noise.flip(0))),
        (agents.actor_gradients(batch), swapped.actor_gradients(mirrored)),
    ):
        for own, other in zip(here[0], there[0], strict=True):
            torch.testing.assert_close(other.unflatten(0, (-1, 2)).flip(1).flatten(0, 1), own)
