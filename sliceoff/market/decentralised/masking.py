"""Secure sums: fixed point in Z_2^61 under masks that cancel (after Bonawitz et al. 2017), and noise.

Applications i < j agree on a key (X25519, then HKDF). For every report both expand it into the same stream of numbers;
i adds it, j subtracts it. Any single report is uniform; all of them together sum to the plain sum, bit for bit.
Parties are assumed honest but curious, and present: there are no shares to recover the masks of one that left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from jaxtyping import Float, Int64, UInt64

from sliceoff.checks import positive
from sliceoff.errors import OptionError

BITS = 61
FRACTION_BITS = 24
LARGEST = 2.0 ** (BITS - 1 - FRACTION_BITS)
"""The absolute value of every sum must be below this, about 7e10."""
_RING = np.uint64(2**BITS - 1)
_DROWNED = 1e6  # largest scale of the noise; it hides every sum of a market, and draws of far larger ones fail

Ring = UInt64[np.ndarray, " numbers"]


def encode(values: Float[np.ndarray, " numbers"]) -> Ring:
    """Convert real numbers to fixed point in Z_2^61."""
    return np.rint(np.asarray(values) * 2.0**FRACTION_BITS).astype(np.int64).astype(np.uint64) & _RING


def decode(values: Ring) -> Float[np.ndarray, " numbers"]:
    """The inverse of `encode`, up to its rounding; the upper half of the ring is negative."""
    signed = (values << np.uint64(64 - BITS)).astype(np.int64) >> np.int64(64 - BITS)
    return signed / 2.0**FRACTION_BITS


def total(reports: Sequence[Ring]) -> Ring:
    """The reports' sum in Z_2^61."""
    return np.asarray(np.sum(np.stack(reports), axis=0, dtype=np.uint64) & _RING)


class Masks:
    """One application's side of the pairwise masks. The private key comes from the system and never leaves it."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self._pairs: list[tuple[int, bytes]] = []
        self._used: set[str] = set()

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def agree(self, keys: Sequence[bytes]) -> None:
        """Agree on a key with every other application.

        Args:
            keys: public keys of all applications, this one's included, in the same order for all.

        Raises:
            ValueError: fewer than two applications, so a sum would reveal a single number; or this one is not listed.
        """
        if len(keys) < 2 or len(set(keys)) < len(keys):
            raise ValueError("a masked sum needs at least two applications, all with keys of their own")
        here = keys.index(self.public)
        self._pairs = []
        for there, key in enumerate(keys):
            if there != here:
                shared = self._private.exchange(X25519PublicKey.from_public_bytes(key))
                pair = HKDF(SHA256(), 32, salt=None, info=b"sliceoff market mask").derive(shared)
                self._pairs.append((1 if here < there else -1, pair))

    def cover(self, values: Ring, report: str) -> Ring:
        """Mask a report.

        Raises:
            ValueError: no keys agreed yet, or a report of this name was masked before: the same mask on two values
                would reveal their difference.
        """
        if not self._pairs or report in self._used:
            raise ValueError(f"report {report!r} cannot be masked: no keys agreed, or its masks are used up")
        self._used.add(report)
        covered = values.copy()
        for sign, pair in self._pairs:
            stream = _stream(pair, report, len(values))
            covered = covered + stream if sign > 0 else covered - stream
        return covered & _RING


def _stream(pair: bytes, report: str, count: int) -> Ring:
    """`count` uniform numbers in Z_2^61 from ChaCha20, with a key for this report only."""
    key = HKDFExpand(SHA256(), 32, info=report.encode()).derive(pair)
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * count))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64) & _RING


@dataclass(frozen=True)
class Noise:
    """Discrete-Laplace noise on every masked sum, such that each is epsilon-differentially private for an application.

    Every application adds the difference of two Polya numbers, and these add up to one discrete-Laplace number
    (Goryczka & Xiong 2017), so nobody knows the noise and the sum has no more of it than needed. Epsilons of several
    reports add up.

    Args:
        epsilon: of one report: no outcome's probability changes by more than a factor e^epsilon when an application
            leaves its report out. Its influence on what the others reserve is not hidden.
        load, overhead, value: public bounds [Gcycle/s, Gcycle/s, money/Gcycle] to which applications clip.

    Raises:
        InputError: a number that is not finite and above 0, or an epsilon so small that sums would be noise alone.
    """

    epsilon: float
    load: float = 10.0
    overhead: float = 10.0
    value: float = 2.0

    def __post_init__(self) -> None:
        for name in ("epsilon", "load", "overhead", "value"):
            positive(name, getattr(self, name))
        if (noise := max(self.worth, self.allotted) / self.epsilon) > _DROWNED:
            raise OptionError(
                "epsilon",
                f"={self.epsilon} makes noise of {noise:.1g}, in which every sum drowns; raise it "
                "or lower the bounds (load, overhead, value)",
            )

    @property
    def member(self) -> float:
        """Bound of an application's part in a count."""
        return 1.0

    @property
    def worth(self) -> float:
        """Bound of v L [money/s]."""
        return self.value * self.load

    @property
    def allotted(self) -> float:
        """Bound of f_nm [Gcycle/s]."""
        return self.load + self.overhead


def noise_share(
    generator: np.random.Generator, epsilon: float, scale: Float[np.ndarray, " numbers"], parties: int
) -> Int64[np.ndarray, " numbers"]:
    """One of `parties` shares of discrete-Laplace numbers, P(k) ~ exp(-epsilon |k| / (2^24 scale)), in fixed point.

    Args:
        scale: by how much one application can change each number, times how many numbers it can change; so that
            changing all of them costs epsilon in total.
    """
    success = -np.expm1(-epsilon / (scale * 2.0**FRACTION_BITS))
    draws = generator.negative_binomial(1 / parties, success, size=(2, len(scale)))
    return draws[0] - draws[1]


def add(values: Ring, noise: Int64[np.ndarray, " numbers"]) -> Ring:
    """Add noise of either sign to values in Z_2^61."""
    return (values + noise.astype(np.uint64)) & _RING
