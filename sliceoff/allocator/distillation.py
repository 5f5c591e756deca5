"""Dual distillation, Eqs. 26-28: each agent learns from its peer in states where the peer's value is higher.

With a single agent, the peer is the agent itself, and all of this is zero.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SPREAD_MOMENTUM = 0.99
_LEAST_SPREAD = 1e-6


def state_value(values: Float[Tensor, "critics ..."]) -> Float[Tensor, "..."]:
    """`V(s) = min_i Q_i(s, pi(s))`.

    Args:
        values: every critic's value of the policy's own action.
    """
    return values.amin(0)


def advantage(peer_value: Float[Tensor, "*batch"], value: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Eq. 27: `xi = V~(s) - V(s)`, the peer's value less the agent's own. Carries no gradient."""
    return (peer_value - value).detach()


def running_spread(spread: Float[Tensor, " agents"], xi: Float[Tensor, "agents batch"]) -> Float[Tensor, " agents"]:
    """Exponential moving average of xi's standard deviation over the batch; a `spread` of 0 takes this batch's."""
    now = xi.std(-1)
    return torch.where(spread > 0, torch.lerp(now, spread, SPREAD_MOMENTUM), now)


def confidence(
    xi: Float[Tensor, "agents batch"], spread: Float[Tensor, " agents"], alpha: float | int, exponent_clip: float | int
) -> Float[Tensor, "agents batch"]:
    """The weight in Eq. 26: `exp(min(alpha xi / spread, exponent_clip))`, one number per state.

    xi has the unit of returns; divided by its running standard deviation (`running_spread`), it makes `alpha`
    dimensionless. As xi is not centred, a peer that is worse everywhere still gets little weight. The exponent is
    clipped from above, so that no single state outweighs the batch.
    """
    return (alpha * xi / spread.clamp_min(_LEAST_SPREAD).unsqueeze(-1)).clamp_max(exponent_clip).exp()


def distillation_loss(
    action: Float[Tensor, "agents batch rows actions"],
    peer_action: Float[Tensor, "agents batch rows actions"],
    weight: Float[Tensor, "agents batch"],
    acting: Bool[Tensor, "agents batch rows"],
) -> Float[Tensor, ""]:
    """Eq. 26: `E_{s ~ peer}[ 1/2 |pi(s) - pi~(s)|^2 exp(alpha xi) ]`.

    Neither the peer's action nor the weight carries a gradient.

    Args:
        action, peer_action: both in the peer's states.
        acting: rows of actions that have an effect: those of present users.
        weight: `confidence`; one per state, multiplied with one squared distance per state.
    """
    distance = ((action - peer_action.detach()).square().sum(-1) * acting).sum(-1)
    return (weight.detach() * distance / 2).mean(-1).sum()


def hybrid_action(
    action: Float[Tensor, "batch rows actions"],
    peer_action: Float[Tensor, "batch rows actions"],
    xi: Float[Tensor, " batch"],
) -> Float[Tensor, "batch rows actions"]:
    """Eq. 28, corrected: the peer's action where xi > 0, the agent's own elsewhere."""
    return torch.where((xi > 0)[:, None, None], peer_action, action)
