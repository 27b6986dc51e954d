"""Which share of a batch comes from which sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from ninefold.errors import InvalidInput

Sampler = Literal["uncertainty", "sure_but_wrong", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Shares of a batch, which sum to 1.

    Only the random share lets a batch say how good the model is on everything: without it no inclusion probability is
    known, and what was labelled stands for itself alone.

    Args:
        uncertainty: What the model is least sure of, no two alike.
        sure_but_wrong: What somebody said is wrong although the model was sure. What there is too little of is left to
            ``uncertainty``.
        random: Drawn at random from all that the others left.
    """

    uncertainty: float = 0.8
    sure_but_wrong: float = 0.1
    random: float = 0.1

    def __post_init__(self) -> None:
        for one in fields(self):
            share = getattr(self, one.name)
            if not math.isfinite(share) or share < 0:
                raise InvalidInput(f"mix.{one.name}", f"{share} is no share.", remedy="Give 0 to 1.")
        total = self.uncertainty + self.sure_but_wrong + self.random
        if abs(total - 1) > 1e-9:
            raise InvalidInput("mix", f"the shares sum to {total:g}.", remedy="Make them sum to 1.")

    def counts(self, count: int) -> dict[Sampler, int]:
        """How many of a batch each sampler picks: largest remainders, and at least one where the share is above 0.

        Args:
            count: Size of the batch.
        """
        shares: dict[Sampler, float] = {
            "random": self.random,
            "uncertainty": self.uncertainty,
            "sure_but_wrong": self.sure_but_wrong,
        }
        whole = {name: int(share * count + 1e-9) for name, share in shares.items()}
        for name in sorted(shares, key=lambda n: -(shares[n] * count - whole[n]))[: count - sum(whole.values())]:
            whole[name] += 1
        if self.random > 0 and whole["random"] == 0 and count > 0:
            # A batch without a single random pick would lose what its random share is for.
            whole[max(whole, key=lambda n: whole[n])] -= 1
            whole["random"] = 1
        return whole

    def text(self) -> str:
        """``uncertainty=0.8,sure_but_wrong=0.1,random=0.1``, which ``parse`` reads back."""
        return ",".join(f"{one.name}={_shortest(getattr(self, one.name))}" for one in fields(self))

    @classmethod
    def parse(cls, text: str) -> Mix:
        """Reads ``uncertainty=0.9,random=0.1``; a sampler that is not named has no share.

        Raises:
            InvalidInput: A name or a share is wrong.
        """
        shares = {one.name: 0.0 for one in fields(cls)}
        for part in text.split(","):
            name, equals, share = part.strip().partition("=")
            if name not in shares or not equals:
                raise InvalidInput(
                    "mix", f"{part.strip()[:60]!r} is no share of a sampler.", remedy=f"Samplers: {', '.join(shares)}."
                )
            try:
                shares[name] = float(share)
            except ValueError:
                raise InvalidInput(f"mix.{name}", f"{share[:20]!r} is no number.", remedy="Give 0 to 1.") from None
        return cls(**shares)


def _shortest(share: float) -> str:
    short = f"{share:g}"
    return short if float(short) == share else repr(share)
