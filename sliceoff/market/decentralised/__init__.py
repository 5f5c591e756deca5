"""Posted prices, set by a platform that sees only offers and masked sums, and learns the rest.

What still leaks. To the platform: how many applications are in every public band of value, the classes' sums of load,
overhead and worth, every bargain's total worth and its use of each server, and all offers: two of them within a
server's limits reveal its linear supply curve, further ones its capacity. To a server: what its tenants reserve. To an
application: the tariff beyond the other tenants' reservations. With `Noise`, the sums hide every single application;
offers, quotes and requests are not noisy. Parties are assumed to follow the protocol and to stay until its end.
"""

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
