"""Twin-critic deterministic policy gradients (TD3, Fujimoto et al. 2018): one function per equation, in order.

Tensors are batched over agents: values are (critics, agents, batch), rewards (agents, batch). Agents share no
parameter, so the gradient of a loss summed over them is every agent's own.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def explore(
    action: Float[Tensor, "agents batch rows actions"],
    noise: Float[Tensor, "agents batch rows actions"],
    sigma: float | int,
) -> Float[Tensor, "agents batch rows actions"]:
    """Algorithm 3, line 5: the policy's action with Gaussian noise of standard deviation `sigma`, within [-1, 1]."""
    return (action + sigma * noise).clamp(-1, 1)


def smoothed_target_action(
    action: Float[Tensor, "agents batch rows actions"],
    noise: Float[Tensor, "agents batch rows actions"],
    sigma: float | int,
    clip: float | int,
) -> Float[Tensor, "agents batch rows actions"]:
    """Eq. 23: `a~ = pi'(s') + clip(N(0, sigma), -c, c)`, within [-1, 1].

    Args:
        action: the target policy's, `pi'(s')`.
        noise: standard normal.
    """
    return (action + (sigma * noise).clamp(-clip, clip)).clamp(-1, 1)


def clipped_double_q_target(
    reward: Float[Tensor, "agents batch"],
    terminated: Bool[Tensor, "agents batch"],
    next_values: Float[Tensor, "critics agents batch"],
    gamma: float | int,
) -> Float[Tensor, "agents batch"]:
    """Eq. 24: `y = r + gamma (1 - done) min_i Q'_i(s', a~)`; at a truncation, `done` is 0."""
    return reward + gamma * torch.where(terminated, 0, next_values.amin(0))


def critic_loss(
    values: Float[Tensor, "critics agents batch"], target: Float[Tensor, "agents batch"]
) -> Float[Tensor, ""]:
    """Algorithm 3, line 11: squared distance of every critic to the target, mean over the batch."""
    return (values - target).square().mean(-1).sum()


def actor_loss(first_values: Float[Tensor, "agents batch"]) -> Float[Tensor, ""]:
    """Eq. 25 as a loss: minus the first critic's value of the policy's own action, mean over the batch."""
    return -first_values.mean(-1).sum()


def actor_is_due(update: int, policy_delay: int) -> bool:
    """Algorithm 3, line 12: actors and targets are updated only in every `policy_delay`-th update."""
    return update % policy_delay == 0


def soft_update(target: Iterable[Tensor], online: Iterable[Tensor], tau: float | int) -> None:
    """Algorithm 3, line 15: `target <- (1 - tau) target + tau online`, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target), list(online), tau)
