"""Every equation of TD3 against numbers worked by hand."""

import pytest
import torch

from sliceoff.allocator import td3


def actions(*values):
    return torch.tensor(values).view(1, -1, 1, 1)


def test_exploration_stays_within_bounds():
    explored = td3.explore(actions(0.0, 0.9, -0.9), actions(1.0, 1.0, -2.0), sigma=0.5)
    assert explored.flatten().tolist() == pytest.approx([0.5, 1.0, -1.0])


def test_target_smoothing_clips_noise_then_action():
    smoothed = td3.smoothed_target_action(
        actions(0.0, 0.1, 0.8, -0.9), actions(1.0, 5.0, 5.0, -1.0), sigma=0.2, clip=0.5
    )
    assert smoothed.flatten().tolist() == pytest.approx([0.2, 0.6, 1.0, -1.0])


def test_target_takes_the_lower_twin_and_stops_where_terminated():
    next_values = torch.tensor([[[10.0, 4.0, 7.0]], [[8.0, 6.0, 9.0]]])
    target = td3.clipped_double_q_target(
        torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[False, False, True]]), next_values, gamma=0.5
    )
    assert target.tolist() == [[5.0, 4.0, 3.0]]


def test_target_does_not_bootstrap_from_nan_of_a_terminal_state():
    target = td3.clipped_double_q_target(
        torch.tensor([[3.0]]), torch.tensor([[True]]), torch.tensor([[[float("nan")]]]), gamma=0.5
    )
    assert target.tolist() == [[3.0]]


def test_critic_loss_sums_critics_and_agents_and_averages_the_batch():
    values = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 4.0], [1.0, 1.0]]])
    target = torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    # critic 1: (0+1)/2 + (0+4)/2; critic 2: (4+9)/2 + (1+1)/2
    assert td3.critic_loss(values, target).item() == pytest.approx(0.5 + 2.0 + 6.5 + 1.0)


def test_actor_loss_climbs_the_first_critic():
    assert td3.actor_loss(torch.tensor([[1.0, 3.0], [5.0, 5.0]])).item() == pytest.approx(-7.0)


def test_each_agent_gets_its_own_gradient():
    values = torch.ones(2, 4, requires_grad=True)
    td3.actor_loss(values).backward()
    assert values.grad.tolist() == [[-0.25] * 4] * 2


def test_actor_moves_every_policy_delay_updates():
    assert [update for update in range(1, 8) if td3.actor_is_due(update, 3)] == [3, 6]


def test_soft_update_moves_by_tau():
    target, online = [torch.tensor([0.0, 10.0]), torch.tensor(4.0)], [torch.tensor([10.0, 0.0]), torch.tensor(8.0)]
    td3.soft_update(target, online, tau=0.25)
    assert target[0].tolist() == [2.5, 7.5]
    assert target[1].item() == 5.0
    assert online[0].tolist() == [10.0, 0.0]
