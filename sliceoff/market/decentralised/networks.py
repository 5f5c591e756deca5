"""The platform's networks: servers' supply, from their answers to prices, and capacity's worth, from past markets."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from sliceoff import checkpoint
from sliceoff.fitting import quiet_lightning

STEPS = 24


class Answers(NamedTuple):
    """Prices posted to every server, relative to a ceiling, and its offers, relative to its largest."""

    price: Float[Tensor, "probes servers"]
    offer: Float[Tensor, "probes servers"]


class SupplyNetworks(pl.LightningModule):
    """One monotone network per server: a sum of sigmoids with positive heights and positive slopes (Sill 1998).

    Args:
        n_servers, n_units: how many networks, how many sigmoids in each.
        learning_rate: of Adam.
    """

    def __init__(self, n_servers: int, n_units: int = 24, learning_rate: float = 0.02):
        super().__init__()
        self.learning_rate = learning_rate
        centre = torch.linspace(0.0, 1.0, n_units).repeat(n_servers, 1)
        self.centre = nn.Parameter(centre)
        self.slope = nn.Parameter(torch.full_like(centre, float(n_units)).expm1().log())
        self.height = nn.Parameter(torch.full_like(centre, 1.0 / n_units).expm1().log())

    def forward(self, price: Float[Tensor, "prices servers"]) -> Float[Tensor, "prices servers"]:
        """Supply at relative prices, rising in each, 0 at the price 0."""
        slope, height = functional.softplus(self.slope), functional.softplus(self.height)
        steps = torch.sigmoid(slope * (price[..., None] - self.centre)) - torch.sigmoid(-slope * self.centre)
        return (height * steps).sum(-1)

    def training_step(self, batch: Answers, _: int) -> Tensor:
        """Mean squared error over all answers so far."""
        return functional.mse_loss(self(batch.price), batch.offer)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.learning_rate)


class SettledBargains(NamedTuple):
    """Settled bargains: class sums of the demand, the capacity bought of every server, and its worth.

    Args:
        classes: members, load L, overhead h, worth v L, summed over the class; zeros where there is none.
        capacity: f_m [Gcycle/s]; zeros for servers that a market lacks.
        worth: sum v_n w_nm [money/s].
    """

    classes: Float[Tensor, "markets classes 4"]
    capacity: Float[Tensor, "markets servers"]
    worth: Float[Tensor, " markets"]


class ValueNetwork(pl.LightningModule):
    """The worth V(f) of capacities f, from class sums; rising and concave in the capacity that can be used.

    Everything is relative to the demand, so one network serves markets of any size. The capacity that can be used is
    `sum_m f_m^2 / (f_m + q)`: each server loses a remainder too small for one more application, and the network
    predicts its size q. V is a sum of ramps `s_j min(capacity, t_j)` with `s_j >= 0`: those of filling the classes in
    order of worth per capacity, each times a factor that the network predicts.

    Args:
        n_hidden: width.
        learning_rate: of Adam.
    """

    def __init__(self, n_hidden: int = 64, learning_rate: float = 3e-3):
        super().__init__()
        self.spec = checkpoint.describe(type(self), {"n_hidden": n_hidden, "learning_rate": learning_rate})
        self.learning_rate = learning_rate
        self.body = nn.Sequential(
            nn.Linear(STEPS + 2, n_hidden),
            nn.SiLU(),
            nn.Linear(n_hidden, n_hidden),
            nn.SiLU(),
            nn.Linear(n_hidden, STEPS + 1),
        )
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, classes: Float[Tensor, "markets classes 4"], capacity: Float[Tensor, "markets servers"]
    ) -> Float[Tensor, " markets"]:
        """Worth of capacities [money/s]; see `SettledBargains` for the arguments."""
        members, load, overhead, worth = classes.sum(1).unbind(-1)
        need = (load + overhead).clamp_min(1e-9)
        steps = torch.linspace(0.0, 1.0, STEPS + 1, device=capacity.device)[1:]
        filled = fill(classes, steps * need[:, None]) / worth.clamp_min(1e-9)[:, None]
        change = self.body(torch.cat([filled, (overhead / need)[:, None], members.clamp_min(1).log()[:, None]], -1))
        heights = filled.diff(prepend=torch.zeros_like(filled[:, :1])) * torch.exp(change[:, :STEPS])
        lost = functional.softplus(change[:, STEPS:]) * (overhead / members.clamp_min(1))[:, None]
        used = (capacity.square() / (capacity + lost + 1e-9)).sum(-1) / need
        ramps = ((used[:, None] - (steps - 1 / STEPS)) * STEPS).clamp(0.0, 1.0)
        return worth * (heights.sort(descending=True).values * ramps).sum(-1)

    def training_step(self, batch: SettledBargains, _: int) -> Tensor:
        """Mean squared error of the worth, relative to the demand's total worth."""
        scale = batch.classes[..., 3].sum(-1).clamp_min(1e-9)
        return ((self(batch.classes, batch.capacity) - batch.worth) / scale).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.learning_rate)

    def on_save_checkpoint(self, content: dict) -> None:
        """Add the description from which `sliceoff.checkpoint` rebuilds the module."""
        content["spec"] = self.spec


def fill(
    classes: Float[Tensor, "markets classes 4"], capacity: Float[Tensor, "markets points"]
) -> Float[Tensor, "markets points"]:
    """Worth of filling `capacity` with the classes in falling order of worth per capacity, the last one partly."""
    need, worth = classes[..., 1] + classes[..., 2], classes[..., 3]
    density = worth / need.clamp_min(1e-9)
    order = density.argsort(descending=True)
    need, density = need.gather(1, order), density.gather(1, order)
    before = need.cumsum(1) - need
    taken = (capacity[:, :, None] - before[:, None]).clamp_min(0.0).minimum(need[:, None])
    return (taken * density[:, None]).sum(-1)


@quiet_lightning()
def fit(module: pl.LightningModule, batches: list) -> None:
    """Fit one of the platform's networks to batches in turn; afterwards it holds no reference to the trainer."""
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module.train(), DataLoader(cast(Dataset, batches), batch_size=None))
    module.trainer = None
    module.eval()


def learn_worth(
    network: ValueNetwork, experience: SettledBargains, epochs: int = 60, batch_size: int = 128, seed: int = 0
) -> None:
    """Fit the value network to settled bargains."""
    generator = torch.Generator().manual_seed(seed)
    count = len(experience.worth)
    order = [torch.randperm(count, generator=generator).split(batch_size) for _ in range(epochs)]
    fit(network, [SettledBargains(*(part[index] for part in experience)) for epoch in order for index in epoch])


def concatenate(parts: Sequence[SettledBargains]) -> SettledBargains:
    """Concatenate the bargains of several markets, padded to the most classes and servers."""
    classes = max(part.classes.shape[1] for part in parts)
    servers = max(part.capacity.shape[1] for part in parts)
    padded = [
        SettledBargains(
            functional.pad(part.classes, (0, 0, 0, classes - part.classes.shape[1])),
            functional.pad(part.capacity, (0, servers - part.capacity.shape[1])),
            part.worth,
        )
        for part in parts
    ]
    return SettledBargains(*(torch.cat(items) for items in zip(*padded, strict=True)))
