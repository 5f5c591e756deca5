"""Task-by-task simulation that checks the response times promised by (B1)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sliceoff.market.outcome import Outcome

_MOST = 5_000_000


@dataclass(frozen=True)
class Responses:
    """Simulated responses of an outcome's pairs with work, one number per pair, in row-major order.

    Args:
        mean_s: mean response, delay included.
        promised_s: the mean response by the M/M/1 formula.
        missed: share of tasks whose response was above the application's limit.
    """

    mean_s: Float[np.ndarray, " pairs"]
    promised_s: Float[np.ndarray, " pairs"]
    missed: Float[np.ndarray, " pairs"]

    @property
    def error(self) -> float:
        """Mean over all pairs of simulated over promised response, less 1; negative if responses were faster."""
        return float((self.mean_s / self.promised_s - 1).mean()) if len(self.mean_s) else 0.0

    @property
    def worst_error(self) -> float:
        """The largest absolute relative error of any pair."""
        return float(np.abs(self.mean_s / self.promised_s - 1).max(initial=0.0))


def simulate(outcome: Outcome, n_tasks: int, seed: int) -> Responses:
    """Simulate every queue that has work with `n_tasks` tasks over the square of its idle share, at most `_MOST`.

    The busier a queue, the more tasks its mean response takes; its relative error is then about 2 / sqrt(n_tasks).

    Poisson arrivals at w_nm / c_n, exponential work served first come, first served at f_nm / c_n; every task's waiting
    time follows from the one before it (Lindley's recursion). The first tenth is discarded, since queues start empty.
    """
    generator = np.random.default_rng(seed)
    pairs = np.argwhere(outcome.hosted & (outcome.dispatch > 0))
    rows = [_queue(outcome, int(n), int(m), n_tasks, generator) for n, m in pairs]
    mean_s, promised_s, missed = np.array(rows).reshape(-1, 3).T
    return Responses(mean_s, promised_s, missed)


def _queue(
    outcome: Outcome, n: int, m: int, n_tasks: int, generator: np.random.Generator
) -> tuple[float, float, float]:
    scenario = outcome.scenario
    rate = outcome.dispatch[n, m] / scenario.work[n]
    spare = scenario.overhead[n, m] / scenario.work[n]  # speed less rate, exact even if it is below their rounding
    speed = rate + spare
    delay_s = scenario.delay_s[n, m]
    n_tasks = int(min(_MOST, n_tasks / (spare / speed) ** 2))
    gaps_s, service_s = generator.exponential(1 / rate, n_tasks), generator.exponential(1 / speed, n_tasks)
    response_s = lindley(gaps_s, service_s)[n_tasks // 10 :] + service_s[n_tasks // 10 :] + delay_s
    missed = (response_s > scenario.deadline_s[n]).mean()
    return float(response_s.mean()), float(1 / spare + delay_s), float(missed)


def lindley(gaps_s: Float[np.ndarray, " tasks"], service_s: Float[np.ndarray, " tasks"]) -> Float[np.ndarray, " tasks"]:
    """Waiting times `W_k = max(0, W_{k-1} + s_{k-1} - g_k)`, `W_0 = 0`: a random walk above its running minimum."""
    walk = np.concatenate(([0.0], np.cumsum(service_s[:-1] - gaps_s[1:])))
    return walk - np.minimum.accumulate(walk)
