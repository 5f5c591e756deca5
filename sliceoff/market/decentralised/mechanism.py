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

_PAST = 10**6  # numbers of past markets begin here, so that none is met again


@dataclass(eq=False)
class Decentralised:
    """Posted prices by a platform that is told prices, offers and masked sums only; see `Platform` and `Session`.

    Sums are in fixed point, to 6e-8, whatever the units: choose some in which loads and prices are near 1.

    Args:
        past: family of the markets that the value network learns from, once, before the first market is cleared,
        past_markets, past_bargains: how many, and how many bargains in each,
        checkpoint: unless a file that `save` wrote is named.
        bands: upper edges of the public bands of value [money/Gcycle].
        noise: on every masked sum; None for exact sums.
        probes, rounds, bargains, supply_steps: as in `Platform`.
        sweeps, temperature: as in `Session`.
        seed: of learning and bargaining; keys and noise come from the system.

    Raises:
        InputError: a count below its least, bands that do not rise, something else than markets or noise, or a
            checkpoint that holds no value network; on clearing, amounts beyond fixed point.
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
        """See `Mechanism`; notes the number of `probes` and masked `reports`, and the revenue that was `expected`."""
        session = self.session(scenario, self.seed)
        return session.outcome(session.run(self.platform(scenario, self.value).trade()))

    @cached_property
    def value(self) -> ValueNetwork:
        """The value network: from the checkpoint, or learnt when first asked for."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = ValueNetwork()
        learnt = [self.practise(self.past.draw(_PAST + number), network) for number in range(self.past_markets)]
        learn_worth(network, concatenate(learnt), seed=self.seed)
        return network

    def practise(self, scenario: MarketScenario, network: ValueNetwork) -> SettledBargains:
        """What the platform learns in one past market."""
        return self.session(scenario, self.seed).run(self.platform(scenario, network).practise(self.past_bargains))

    def save(self, path: str) -> None:
        """Write the value network for `checkpoint`."""
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
        """The parties of a market."""
        return Session(scenario, self.bands, self.noise, self.sweeps, self.temperature, seed)

    def platform(self, scenario: MarketScenario, network: ValueNetwork) -> Platform:
        """The platform in a market: it is given the delays, and nothing else of the scenario."""
        return Platform(
            scenario.delay_s.copy(), network, self.probes, self.rounds, self.bargains, self.supply_steps, self.seed
        )
