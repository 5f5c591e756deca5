"""Posted prices by a platform that is told prices, offers and masked sums only, and learns the rest."""

from sliceoff.market.decentralised.masking import Masks as Masks
from sliceoff.market.decentralised.masking import Noise as Noise
from sliceoff.market.decentralised.mechanism import Decentralised as Decentralised
from sliceoff.market.decentralised.messages import Channel as Channel
from sliceoff.market.decentralised.messages import Message as Message
from sliceoff.market.decentralised.networks import SupplyNetworks as SupplyNetworks
from sliceoff.market.decentralised.networks import ValueNetwork as ValueNetwork
from sliceoff.market.decentralised.parties import Application as Application
from sliceoff.market.decentralised.parties import EdgeServer as EdgeServer
from sliceoff.market.decentralised.platform import Platform as Platform
from sliceoff.market.decentralised.session import Session as Session
