"""The market: a platform pays edge servers to take applications' work."""

from sliceoff.market.auction import Auction as Auction
from sliceoff.market.centralised import Centralised as Centralised
from sliceoff.market.centralised import Leader as Leader
from sliceoff.market.family import Family as Family
from sliceoff.market.family import Markets as Markets
from sliceoff.market.greedy import Greedy as Greedy
from sliceoff.market.max_transaction import MaxTransaction as MaxTransaction
from sliceoff.market.optimum import KnownSupply as KnownSupply
from sliceoff.market.optimum import Optimum as Optimum
from sliceoff.market.outcome import Mechanism as Mechanism
from sliceoff.market.outcome import Outcome as Outcome
from sliceoff.market.outcome import check_outcome as check_outcome
from sliceoff.market.outcome import nobody_hired as nobody_hired
from sliceoff.market.outcome import violations as violations
from sliceoff.market.scenario import MarketScenario as MarketScenario
from sliceoff.market.search import Bayesian as Bayesian
from sliceoff.market.search import Composite as Composite
from sliceoff.market.search import Negotiation as Negotiation
from sliceoff.market.search import Search as Search
from sliceoff.market.servers import Followers as Followers
from sliceoff.market.servers import Rational as Rational
from sliceoff.market.simulation import simulate as simulate
