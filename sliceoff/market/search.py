"""The leader's search for the best request: Bayesian optimisation in BoTorch, one evaluation at a time."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.quasirandom import SobolEngine

from sliceoff.checks import count, not_negative, positive, random_seed
from sliceoff.market.program import Menus, best_choice
from sliceoff.market.scenario import MarketScenario, Servers

Answers = Float[np.ndarray, "evaluations servers"]


@dataclass(frozen=True, eq=False)
class Negotiation:
    """What the leader knows: its side of the market, and the servers' answers so far.

    Args:
        scenario: the market; its servers' costs are not used.
        asked, given: capacity asked for, and what the servers gave of it [Gcycle/s].
        wanted: rewards they wanted for that [money/s].
        revenue: what the leader would earn [money/s].
    """

    scenario: MarketScenario
    asked: Answers
    given: Answers
    wanted: Answers
    revenue: Float[np.ndarray, " evaluations"]

    @property
    def shares(self) -> Answers:
        """`asked` as shares of the servers' useful capacities."""
        return self.scenario.share_of_useful(self.asked)


@runtime_checkable
class Search(Protocol):
    """A way to look for the most profitable request."""

    def ask(self, past: Negotiation) -> Servers:
        """The next request, as shares of the servers' useful capacities."""
        ...


class Bayesian:
    """A Gaussian process of the revenue, and noisy log expected improvement: the revenue is a black box.

    A request depends only on the seed and the past answers, so a search can be resumed from those.

    Args:
        start: points of a scrambled Sobol sequence before the first model.
        seed: of the sequence and of the acquisition's restarts.

    Raises:
        InputError: no point to start from, or no seed.
    """

    def __init__(self, start: int = 8, seed: int = 0):
        self.start = count("start", start)
        self.seed = random_seed("seed", seed)

    def ask(self, past: Negotiation) -> Servers:
        """The next request, as shares; see `Search`."""
        told, servers = past.asked.shape
        if told < self.start:
            return sobol(told, servers, self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + told)
            # A request for nothing earns nothing: known without asking.
            x = torch.as_tensor(np.vstack([np.zeros(servers), past.shares]))
            return _most_promising(x, torch.as_tensor(np.append(0.0, past.revenue / _unit(past.revenue)))[:, None])


class Composite:
    """Bayesian optimisation of a composite function (Astudillo & Frazier 2019): only the servers' answers are unknown.

    The worth of capacity is known to the leader by its own program (B2); what a server gives and what it wants are
    functions of what it is asked for, each modelled by a Gaussian process. The request is the best choice from
    optimistic menus: `optimism` standard deviations more capacity and less reward than the models' means. If that was
    asked before, or no choice earns anything, `Bayesian` proposes the request: it does not assume that a server's
    answer depends on its own request only.

    Args:
        start: points of a scrambled Sobol sequence before the first model.
        optimism: standard deviations.
        steps: of a menu, from nothing to all useful capacity.
        time_limit_s: of the choice from the menus.
        seed: as in `Bayesian`.

    Raises:
        InputError: no point to start from, no step, optimism below 0, no time, or no seed.
    """

    def __init__(
        self, start: int = 5, optimism: float = 1.0, steps: int = 16, time_limit_s: float = 5.0, seed: int = 0
    ):
        self._elsewhere = Bayesian(start, seed)
        self.start, self.seed = self._elsewhere.start, self._elsewhere.seed
        self.steps = count("steps", steps)
        self.optimism = not_negative("optimism", optimism)
        self.time_limit_s = positive("time_limit_s", time_limit_s)

    def ask(self, past: Negotiation) -> Servers:
        """The next request, as shares; see `Search`."""
        told, servers = past.asked.shape
        if told < self.start:
            return sobol(told, servers, self.seed)
        chosen = best_choice(past.scenario, self._menus(past), self.time_limit_s)
        share = past.scenario.share_of_useful(chosen)
        known = np.vstack([np.zeros(servers), past.shares])
        if np.abs(known - share).max(1).min() < 1e-3:
            return self._elsewhere.ask(past)
        return share

    def _menus(self, past: Negotiation) -> Menus:
        share = np.linspace(1e-3, 1.0, self.steps + 1)
        capacity = past.scenario.useful[:, None]
        heard = past.asked.T > 0  # answers to requests for nothing carry no information
        known: Bool[np.ndarray, " servers"] = np.any(heard, axis=1)
        given, wanted = share * capacity, np.zeros((len(known), len(share)))  # never asked: assumed free
        if known.any():
            points = past.shares.T[known], heard[known]
            mean, deviation = _believed(*points, past.given.T[known], share)
            given[known] = np.clip(mean + self.optimism * deviation, 0.0, given[known])  # never more than asked
            mean, deviation = _believed(*points, past.wanted.T[known], share)
            wanted[known] = np.maximum(mean - self.optimism * deviation, 0.0)
        return Menus(share * capacity, given, wanted)


def sobol(number: int, servers: int, seed: int) -> Servers:
    """Point `number` of a scrambled Sobol sequence."""
    return SobolEngine(servers, scramble=True, seed=seed).draw(number + 1, dtype=torch.float64)[-1].numpy()


def _unit(numbers: np.ndarray) -> float:
    """The unit in which numbers are modelled, the largest of them: thresholds of Gaussian processes are absolute."""
    return float(np.abs(numbers).max()) or 1.0


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings: of BoTorch's imports, and of retried fits and restarts, which at worst cost an evaluation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@_quiet()
def _believed(
    points: Float[np.ndarray, "servers evaluations"],
    heard: Bool[np.ndarray, "servers evaluations"],
    answers: Float[np.ndarray, "servers evaluations"],
    at: Float[np.ndarray, " steps"],
) -> tuple[Float[np.ndarray, "servers steps"], Float[np.ndarray, "servers steps"]]:
    """Mean and standard deviation of one Gaussian process per server; answers that are not `heard` are ignored."""
    # Imported here, as below: BoTorch takes seconds to load, and is optional.
    from botorch.models.transforms import Standardize

    unit = _unit(answers)
    mean = np.average(answers, axis=1, weights=heard)[:, None]
    x, y = torch.as_tensor(points)[..., None], torch.as_tensor(np.where(heard, answers, mean) / unit)[..., None]
    scale = float(y.std(correction=0)) + 1e-9
    doubt = torch.as_tensor(np.where(heard, 1e-8, 1e6))[..., None] * scale**2
    model = _fitted(x, y, doubt, Standardize(1, batch_shape=x.shape[:1]))
    with torch.no_grad():
        posterior = model.posterior(torch.as_tensor(at)[:, None].expand(x.shape[0], -1, 1))
        deviation = posterior.variance[..., 0].clamp_min(0).sqrt()
        return unit * posterior.mean[..., 0].numpy(), unit * deviation.numpy()


@_quiet()
def _most_promising(x: Tensor, y: Tensor) -> Servers:
    if float(y.std(correction=0)) < 1e-12:  # nothing to model: all alike
        return torch.rand(x.shape[1], dtype=torch.float64).numpy()
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf

    model = _fitted(x, y, torch.full_like(y, 1e-8), Standardize(1))
    acquisition = qLogNoisyExpectedImprovement(model, x, prune_baseline=True, cache_root=True)
    bounds = torch.stack((torch.zeros_like(x[0]), torch.ones_like(x[0])))
    found, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=4, raw_samples=128)
    return found[0].numpy()


def _fitted(x: Tensor, y: Tensor, variance: Tensor, transform: Any) -> Any:
    """A Gaussian process with one length scale per dimension, its hyperparameters by marginal likelihood."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    model = SingleTaskGP(x, y, variance, outcome_transform=transform)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model
