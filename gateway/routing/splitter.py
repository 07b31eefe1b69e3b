"""The split: 10,000 slots owned by variants, a keyed hash that finds a key's slot, and the smallest move.

Pure; never reads a route's document, never counts.

Assignment is a function of (slots, salt, key) and nothing else. The hash is blake2b-64 keyed with the route's salt over
a version byte and the key (BLAKE2, RFC 7693); the slot is hash × 10,000 / 2^64 rounded down, so that every slot holds
0.01 % of all keys to within 10^-15. The version byte is part of the frozen test vectors: a release that changed either
would deal all users anew.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from gateway.routing.route import WHOLE_BP

HASH_VERSION = b"\x01"


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns each of the 10,000 slots.

    Attributes:
        names: The variants in the order of the document.
        owners: One byte per slot, an index into the names.
    """

    names: tuple[str, ...]
    owners: bytes

    @property
    def weights_bp(self) -> dict[str, int]:
        """Slots owned by each variant, which is its weight in basis points."""
        counts = Counter(self.owners)
        return {name: counts[index] for index, name in enumerate(self.names)}

    def encode(self) -> str:
        """Write the slots as runs, `owner*length`, for the store: `0*9000,1*1000`."""
        starts = [slot for slot in range(WHOLE_BP) if slot == 0 or self.owners[slot] != self.owners[slot - 1]]
        ends = [*starts[1:], WHOLE_BP]
        return ",".join(f"{self.owners[start]}*{end - start}" for start, end in zip(starts, ends, strict=True))

    @classmethod
    def decode(cls, text: str, weights_bp: Mapping[str, int]) -> Slots:
        """Read the runs back.

        Args:
            weights_bp: The variants of the same revision, which the runs must agree with.
        Raises:
            ValueError: the runs cannot be read, or give a variant another share than its weight.
        """
        owners = bytearray()
        try:
            for run in text.split(","):
                owner, length = run.split("*")
                owners += bytes([int(owner)]) * int(length)
        except ValueError as exc:
            raise ValueError(f"slots '{text[:40]}': expected runs like 0*9000,1*1000") from exc
        slots = cls(names=tuple(weights_bp), owners=bytes(owners))
        if len(owners) != WHOLE_BP or max(owners) >= len(weights_bp) or slots.weights_bp != dict(weights_bp):
            raise ValueError(f"slots '{text[:40]}' do not give the variants their weights {dict(weights_bp)}")
        return slots


def deal_slots(weights_bp: Mapping[str, int]) -> Slots:
    """Deal the slots of a new route, in the order of its variants.

    Args:
        weights_bp: Basis points by variant, summing to 10,000.
    """
    owners = b"".join(bytes([index]) * weight for index, weight in enumerate(weights_bp.values()))
    return Slots(names=tuple(weights_bp), owners=owners)


def move_slots(slots: Slots, weights_bp: Mapping[str, int]) -> Slots:
    """Give variants new shares by moving as few slots as there can be, always the same ones.

    Only a variant that loses share gives slots, only one that gains takes them. The first variant gives its highest
    slots and the others their lowest, so that a candidate that is raised and lowered again hands back what it took.

    Args:
        weights_bp: Basis points by variant, summing to 10,000; variants are the same when their names are.
    """
    index_of = {name: index for index, name in enumerate(weights_bp)}
    owned: dict[str, list[int]] = {name: [] for name in slots.names}
    for slot, owner in enumerate(slots.owners):
        owned[slots.names[owner]].append(slot)
    first = next(iter(weights_bp))
    freed: list[int] = []
    owners = bytearray(WHOLE_BP)
    for name, mine in owned.items():
        surplus = max(0, len(mine) - weights_bp.get(name, 0))
        given, kept = (
            (mine[len(mine) - surplus :], mine[: len(mine) - surplus])
            if name == first
            else (mine[:surplus], mine[surplus:])
        )
        freed += given
        for slot in kept:
            owners[slot] = index_of[name]
    freed.sort()
    taken = 0
    for name, weight in weights_bp.items():
        shortfall = max(0, weight - len(owned.get(name, ())))
        for slot in freed[taken : taken + shortfall]:
            owners[slot] = index_of[name]
        taken += shortfall
    return Slots(names=tuple(weights_bp), owners=bytes(owners))


def moved_bp(old: Slots, new: Slots) -> int:
    """Count the slots whose variant, by name, is another one: the share of keys that move, in basis points."""
    return sum(old.names[before] != new.names[after] for before, after in zip(old.owners, new.owners, strict=True))


class Splitter:
    """Finds the variant of a key or of a random number; made once per revision, used for every request.

    Args:
        salt: The route's, 1 to 64 bytes.
        slots: The revision's.
        samples_bp: Basis points by shadow, in the order of the document.
    """

    __slots__ = ("_keyed", "_owners", "_samples", "_shadows_keyed")

    def __init__(self, salt: bytes, slots: Slots, samples_bp: Mapping[str, int] | None = None) -> None:
        self._owners = slots.owners
        # Keying a hash costs twice as much as copying a keyed one.
        self._keyed = hashlib.blake2b(HASH_VERSION, digest_size=8, key=salt)
        samples = samples_bp or {}
        self._samples: Sequence[int] = tuple(samples.values())
        self._shadows_keyed = tuple(
            hashlib.blake2b(HASH_VERSION, digest_size=8, key=shadow_salt(salt, shadow)) for shadow in samples
        )

    def hash_key(self, key: str | bytes) -> int:
        """Hash a routing key to 64 bits; the low bits are independent of the slot.

        Args:
            key: Text, or its UTF-8 as a header carries it; both hash alike.
        """
        keyed = self._keyed.copy()
        keyed.update(key if isinstance(key, bytes) else _encoded(key))
        return int.from_bytes(keyed.digest(), "big")

    def variant_of_hash(self, key_hash: int) -> int:
        """Find the variant's index by what `hash_key` gave."""
        return self._owners[key_hash * WHOLE_BP >> 64]

    def variant_of(self, key: str | bytes) -> int:
        """Find the variant's index by key: the same key, the same variant, on every replica."""
        return self._owners[self.hash_key(key) * WHOLE_BP >> 64]

    def variant_at(self, draw: float) -> int:
        """Find the variant's index by a random number of [0, 1)."""
        return self._owners[int(draw * WHOLE_BP)]

    def is_sampled(self, shadow: int, key: str | bytes) -> bool:
        """Decide by key whether the shadow sees the request; independent of the split and of other shadows."""
        sample_bp = self._samples[shadow]
        if sample_bp in (0, WHOLE_BP):
            return sample_bp != 0
        keyed = self._shadows_keyed[shadow].copy()
        keyed.update(_encoded(key))
        return int.from_bytes(keyed.digest(), "big") * WHOLE_BP >> 64 < sample_bp

    def is_sampled_at(self, shadow: int, draw: float) -> bool:
        """Decide by a random number of [0, 1), drawn for this shadow alone."""
        return draw * WHOLE_BP < self._samples[shadow]


def _encoded(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")


def shadow_salt(salt: bytes, shadow: str) -> bytes:
    """Make the 16-byte key of a shadow's sampling hash from the route's salt and the shadow's name."""
    return hashlib.blake2b(shadow.encode(), digest_size=16, key=salt, person=b"gateway shadow").digest()
