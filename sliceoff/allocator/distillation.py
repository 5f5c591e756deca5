"""Dual distillation, Eqs. 26-28: each agent learns from its peer where the peer is worth more.

With one agent the peer is the agent itself; all of this is then zero.
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
    """Eq. 27: `xi = V~(s) - V(s)`, how much more the peer's policy is worth. Carries no gradient."""
    return (peer_value - value).detach()


def running_spread(spread: Float[Tensor, " agents"], xi: Float[Tensor, "agents batch"]) -> Float[Tensor, " agents"]:
    """Exponential moving average of xi's standard deviation over the batch; a `spread` of 0 takes this batch's."""
    now = xi.std(-1)
    return torch.where(spread > 0, torch.lerp(now, spread, SPREAD_MOMENTUM), now)


def confidence(
    xi: Float[Tensor, "agents batch"], spread: Float[Tensor, " agents"], alpha: float | int, exponent_clip: float | int
) -> Float[Tensor, "agents batch"]:
    """The weight in Eq. 26: `exp(min(alpha xi / spread, exponent_clip))`, one number per state.

    xi has the unit of returns, so it is divided by its running spread (`running_spread`), which makes `alpha` a pure
    number; the spread is about the mean, so a peer that is worse everywhere still gets no weight. The exponent is
    clipped from above, so that no single state can outweigh the batch.
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
        action, peer_action: both in states that the peer met.
        acting: rows that count: the present users' ones.
        weight: `confidence`; one per state, multiplied with one squared distance per state.
    """
    distance = ((action - peer_action.detach()).square().sum(-1) * acting).sum(-1)
    return (weight.detach() * distance / 2).mean(-1).sum()


def hybrid_action(
    action: Float[Tensor, "batch rows actions"],
    peer_action: Float[Tensor, "batch rows actions"],
    xi: Float[Tensor, " batch"],
) -> Float[Tensor, "batch rows actions"]:
    """Eq. 28, corrected: act as the peer where xi > 0, as oneself elsewhere."""
    return torch.where((xi > 0)[:, None, None], peer_action, action)
