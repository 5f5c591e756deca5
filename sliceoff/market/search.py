"""Bayesian optimisation over a box, evaluation by evaluation: ask where to look, tell what was found there."""

import warnings
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch.quasirandom import SobolEngine

Point = Float[np.ndarray, " dimensions"]


@runtime_checkable
class Search(Protocol):
    """A way to look for the highest value of a function over the unit cube."""

    def ask(self, points: Sequence[Point], values: Sequence[float], dimensions: int) -> Point:
        """The point to look at next, after `values` were found at `points`."""
        ...


class Bayesian:
    """A Gaussian process (Matern 5/2, one length per dimension) and noisy log expected improvement, in BoTorch.

    What is asked depends on the seed and on what was found alone: a search goes on from its points and values.

    Args:
        start: points of a scrambled Sobol sequence before the first model.
        seed: of the sequence and of the acquisition's restarts.
    """

    def __init__(self, start: int = 8, seed: int = 0):
        self.start, self.seed = start, seed

    def ask(self, points: Sequence[Point], values: Sequence[float], dimensions: int) -> Point:
        """See `Search`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + len(points))
            if len(points) < self.start:
                sobol = SobolEngine(dimensions, scramble=True, seed=self.seed)
                return sobol.draw(len(points) + 1, dtype=torch.float64)[-1].numpy()
            return _most_promising(torch.tensor(np.array(points)), torch.tensor(values, dtype=torch.float64)[:, None])


def _most_promising(x: torch.Tensor, y: torch.Tensor) -> Point:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits retried; a poor fit costs an evaluation, nothing else
        # Imported here: BoTorch takes seconds to load, and is an extra.
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.optim import optimize_acqf
        from gpytorch.mlls import ExactMarginalLogLikelihood

        if float(y.std()) < 1e-12:  # nothing to model: all alike
            return torch.rand(x.shape[1], dtype=torch.float64).numpy()
        model = SingleTaskGP(x, y, torch.full_like(y, 1e-8), outcome_transform=Standardize(1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition = qLogNoisyExpectedImprovement(model, x, prune_baseline=True, cache_root=True)
        bounds = torch.stack((torch.zeros_like(x[0]), torch.ones_like(x[0])))
        found, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=4, raw_samples=128)
    return found[0].numpy()
