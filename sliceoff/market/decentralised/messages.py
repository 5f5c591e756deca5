"""All messages that may pass between the parties, and the one channel that carries them."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, UInt64

PLATFORM = "platform"


@dataclass(frozen=True, eq=False)
class Message:
    """A message of one party to another: only numbers, text, bytes, tuples and arrays, no references to objects.

    Arrays are copied and made read-only, so that no party's memory is shared.
    """

    route: ClassVar[tuple[str, str]]
    """Roles of sender and receiver: "platform", "application" or "server"."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.copy()
                value.flags.writeable = False
                object.__setattr__(self, field.name, value)
            elif not isinstance(value, int | float | str | bytes | tuple):
                raise TypeError(f"{type(self).__name__}.{field.name}: a {type(value).__name__} may not cross")


@dataclass(frozen=True, eq=False)
class PublicKey(Message):
    """An application's X25519 public key, handed on by the platform."""

    route = ("application", "platform")
    key: bytes


@dataclass(frozen=True, eq=False)
class Roll(Message):
    """All applications' public keys in order, and the receiver's delays to the servers [s]."""

    route = (PLATFORM, "application")
    keys: tuple[bytes, ...]
    delay_s: Float[np.ndarray, " servers"]


@dataclass(frozen=True, eq=False)
class Ask(Message):
    """Asks for the "key", or for a masked report: "counts", "classes", or the result of the bargain of this name.

    Args:
        groups: band -> class, for "classes".
        members: number of applications in every class, so that one can refuse to be alone in its class.
    """

    route = (PLATFORM, "application")
    report: str
    groups: tuple[int, ...] = ()
    members: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Masked(Message):
    """An application's report in Z_2^61 under its masks; alone it is uniform noise."""

    route = ("application", "platform")
    report: str
    values: UInt64[np.ndarray, " numbers"]


@dataclass(frozen=True, eq=False)
class Price(Message):
    """The price posted to a server [money/Gcycle]."""

    route = (PLATFORM, "server")
    price: float


@dataclass(frozen=True, eq=False)
class Offer(Message):
    """What the server would sell at the posted price [Gcycle/s]."""

    route = ("server", "platform")
    capacity: float


@dataclass(frozen=True, eq=False)
class Tariff(Message):
    """What the platform expects to pay this server [money/s] for capacities [Gcycle/s], both rising."""

    route = (PLATFORM, "server")
    capacity: Float[np.ndarray, " steps"]
    payment: Float[np.ndarray, " steps"]


@dataclass(frozen=True, eq=False)
class Bargain(Message):
    """Opens a bargain between applications and servers."""

    route = (PLATFORM, "application")
    name: str


@dataclass(frozen=True, eq=False)
class Quote(Message):
    """What extra capacity [Gcycle/s] adds to the tariff [money/s], given the other tenants' reservations."""

    route = ("server", "application")
    extra: Float[np.ndarray, " steps"]
    payment: Float[np.ndarray, " steps"]


@dataclass(frozen=True, eq=False)
class Request(Message):
    """f_nm that the application wants reserved [Gcycle/s]; 0 releases it."""

    route = ("application", "server")
    capacity: float


@dataclass(frozen=True, eq=False)
class Grant(Message):
    """The application's part of the capacity that the server finally sold [Gcycle/s]."""

    route = ("server", "application")
    capacity: float


@dataclass(frozen=True, eq=False)
class Keep(Message):
    """The bargain to be carried out; "" for none."""

    route = (PLATFORM, "application")
    bargain: str


class Envelope(NamedTuple):
    """One entry of a channel's record."""

    sender: str
    receiver: str
    message: Message


class Channel:
    """The only connection between parties, named by role and number, such as "server 2". Records all messages."""

    def __init__(self) -> None:
        self.record: list[Envelope] = []

    def send(self, sender: str, receiver: str, message: Message) -> Message:
        """Record a message and return it for delivery.

        Raises:
            TypeError: it is no message, or one that this sender may not send to this receiver.
        """
        if not isinstance(message, Message):
            raise TypeError(f"a {type(message).__name__} is no message")
        if message.route != (role := (_role(sender), _role(receiver))):
            raise TypeError(f"a {type(message).__name__} may not pass from {role[0]} to {role[1]}")
        self.record.append(Envelope(sender, receiver, message))
        return message

    def seen_by(self, party: str) -> Iterator[Message]:
        """All messages that `party` has received."""
        return (envelope.message for envelope in self.record if envelope.receiver == party)


def _role(party: str) -> str:
    return party.split()[0]
