"""Expected revenue of a slice by bandwidth, VMs and users, measured by simulation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sliceoff.region import Allocator, RegionEnvironment, Scenario


@dataclass(frozen=True)
class RevenueTable:
    """Revenue per short slot on a grid: interpolated linearly, constant beyond its ends, zero without users or slice.

    Args:
        bandwidth_hz, n_vms, users: (k,), (m,), (g,), rising from zero.
        revenue: (k, m, g) [money per short slot].
    """

    bandwidth_hz: Float[Tensor, " k"]
    n_vms: Float[Tensor, " m"]
    users: Float[Tensor, " g"]
    revenue: Float[Tensor, "k m g"]

    def expected(
        self,
        bandwidth_hz: Float[Tensor, "regions bandwidth_offers"],
        n_vms: Float[Tensor, "regions vm_offers"],
        users: Float[Tensor, "regions scenarios"],
    ) -> Float[Tensor, "regions bandwidth_offers vm_offers"]:
        """Mean revenue per short slot of every pair of offers over equally likely numbers of users."""
        by_users = hat_weights(self.users, users).mean(1)
        by_grid = torch.einsum("rg,kmg->rkm", by_users, self.revenue)
        return hat_weights(self.bandwidth_hz, bandwidth_hz) @ by_grid @ hat_weights(self.n_vms, n_vms).transpose(1, 2)


def hat_weights(grid: Float[Tensor, " g"], at: Float[Tensor, "rows points"]) -> Float[Tensor, "rows points g"]:
    """The weights of the values on `grid` in a linear interpolation at `at`, which is clamped to the grid's ends."""
    at = at.clamp(grid[0], grid[-1])
    right = torch.searchsorted(grid, at).clamp(1, len(grid) - 1)
    left = right - 1
    part = (at - grid[left]) / (grid[right] - grid[left])
    weights = torch.zeros(*at.shape, len(grid), dtype=grid.dtype)
    weights.scatter_(-1, right.unsqueeze(-1), part.unsqueeze(-1))
    return weights.scatter_(-1, left.unsqueeze(-1), (1 - part).unsqueeze(-1))


def measure_revenue(
    scenario: Scenario,
    allocator: Allocator,
    bandwidth_hz: Sequence[float],
    n_vms: Sequence[int],
    users: Sequence[float],
    *,
    copies: int = 4,
    slots: int = 24,
    warm_up: int = 4,
    seed: int = 0,
) -> RevenueTable:
    """Measure the table by simulating the region with `allocator`, with the same random draws in every cell.

    Args:
        bandwidth_hz, n_vms, users: the grid, rising and above zero; zero is added to each.
        copies, slots: a cell's revenue is the mean over `copies * slots` short slots, after `warm_up` more.
    """
    cells = [
        tensor.flatten().repeat_interleave(copies)
        for tensor in torch.meshgrid(
            torch.tensor(bandwidth_hz, dtype=torch.float64),
            torch.tensor(n_vms, dtype=torch.float64),
            torch.tensor(users, dtype=torch.float64),
            indexing="ij",
        )
    ]
    shape = (len(bandwidth_hz), len(n_vms), len(users), copies)
    environment = RegionEnvironment(
        scenario,
        mean_users=cells[2],
        n_copies=cells[0].numel(),
        seed=seed,
        copy_ids=torch.arange(copies).repeat(cells[0].numel() // copies),
        bandwidth_hz=cells[0],
        n_vms=cells[1].long(),
    )
    for _ in environment.run(allocator, warm_up):
        pass  # so that queues fill
    earned = torch.zeros(cells[0].numel(), dtype=torch.float64)
    for _, outcomes in environment.run(allocator, slots):
        earned += outcomes.revenue.sum(-1).double().sum(0)
    revenue = torch.zeros(*(size + 1 for size in shape[:3]), dtype=torch.float64)
    revenue[1:, 1:, 1:] = earned.view(shape).mean(-1) / slots

    def grid(values: Sequence[float]) -> Tensor:
        return torch.tensor([0.0, *values], dtype=torch.float64)

    return RevenueTable(grid(bandwidth_hz), grid(n_vms), grid(users), revenue)
