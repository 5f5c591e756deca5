"""The mechanism: a value network learnt from past markets, and a session for every new one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from sliceoff import checkpoint
from sliceoff.checks import count, not_negative, path, positive, random_seed, rising, whole
from sliceoff.errors import InputError, OptionError
from sliceoff.market.checks import role
from sliceoff.market.decentralised.masking import Noise
from sliceoff.market.decentralised.networks import SettledBargains, ValueNetwork, concatenate, learn_worth
from sliceoff.market.decentralised.platform import Platform
from sliceoff.market.decentralised.session import Session
from sliceoff.market.family import Family, Markets
from sliceoff.market.outcome import Outcome
from sliceoff.market.scenario import MarketScenario

_PAST = 10**6  # past markets are numbered from here, so that none is also evaluated


@dataclass(eq=False)
class Decentralised:
    """Posted prices, set by a platform that sees only offers and masked sums; see `Platform` and `Session`.

    Sums are in fixed point, to 6e-8 in any unit: choose units in which loads and prices are near 1.

    Args:
        past: family of the markets that the value network learns from, once, before the first market is cleared.
        past_markets, past_bargains: how many past markets, and how many bargains in each.
        checkpoint: a file that `save` wrote, loaded instead of learning; None: learn.
        bands: upper edges of the public bands of value [money/Gcycle].
        noise: on every masked sum; None for exact sums.
        probes, rounds, bargains, supply_steps: as in `Platform`.
        sweeps, temperature: as in `Session`.
        seed: of learning and bargaining; keys and noise come from the system's random generator.

    Raises:
        InputError: a count below its least, bands that do not rise, `past` or `noise` of another kind, or a checkpoint
            that holds no value network; on clearing, amounts too large for fixed point.
    """

    past: Markets = field(default_factory=Family)
    past_markets: int = 150
    past_bargains: int = 6
    checkpoint: str | None = None
    bands: Sequence[float] = (0.75, 1.0, 1.25, 1.5, 1.75)
    noise: Noise | None = None
    probes: int = 12
    rounds: int = 2
    bargains: int = 16
    supply_steps: int = 300
    sweeps: int = 20
    temperature: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("past_markets", "past_bargains", "rounds", "bargains", "supply_steps", "sweeps"):
            count(name, getattr(self, name))
        whole("probes", self.probes, 2)
        not_negative("temperature", self.temperature)
        random_seed("seed", self.seed)
        for edge in rising("bands", self.bands):
            positive("bands", edge)
        role("past", self.past, Markets)
        if not isinstance(self.noise, Noise | None):
            raise OptionError("noise", f"={self.noise!r} is neither null nor a sliceoff.market.decentralised.Noise")
        if self.checkpoint is not None:
            self.value = self._loaded()  # a wrong file is refused before anything is computed

    def clear(self, scenario: MarketScenario) -> Outcome:
        """Clear the market; `Outcome.notes` has the number of `probes` and `reports`, and the `expected` revenue."""
        session = self.session(scenario, self.seed)
        return session.outcome(session.run(self.platform(scenario, self.value).trade()))

    @cached_property
    def value(self) -> ValueNetwork:
        """The value network: from the checkpoint, or learnt at first use."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = ValueNetwork()
        learnt = [self.practise(self.past.draw(_PAST + number), network) for number in range(self.past_markets)]
        learn_worth(network, concatenate(learnt), seed=self.seed)
        return network

    def practise(self, scenario: MarketScenario, network: ValueNetwork) -> SettledBargains:
        """The settled bargains of one past market, for the value network to learn from."""
        return self.session(scenario, self.seed).run(self.platform(scenario, network).practise(self.past_bargains))

    def save(self, path: str) -> None:
        """Write the value network to a file, for the option `checkpoint`."""
        content = {"state_dict": self.value.state_dict()}
        self.value.on_save_checkpoint(content)
        torch.save(content, path)

    def _loaded(self) -> ValueNetwork:
        file = path("checkpoint", self.checkpoint)
        try:
            return checkpoint.load(file, expect=ValueNetwork)
        except InputError as error:
            raise OptionError("checkpoint", f": {error}") from error

    def session(self, scenario: MarketScenario, seed: int) -> Session:
        """The parties of a market and the channel between them."""
        return Session(scenario, self.bands, self.noise, self.sweeps, self.temperature, seed)

    def platform(self, scenario: MarketScenario, network: ValueNetwork) -> Platform:
        """The platform in a market: of the scenario, it gets the delays only."""
        return Platform(
            scenario.delay_s.copy(), network, self.probes, self.rounds, self.bargains, self.supply_steps, self.seed
        )
