"""How much feedback may come: of one key, and of one user of a key. Token buckets, in bounded memory.

A bucket fills in a minute. The least recently used one is forgotten when there are too many; what a key may send in a
minute keeps anybody from pushing a bucket out that is not full again. Each process counts for itself, and anew when it
starts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from ninefold.errors import LimitReached

SECONDS = 60.0
"""In what time an empty bucket is full again."""


class Buckets:
    """One bucket for each name.

    Args:
        size: Tokens of a full bucket.
        most: Buckets that are remembered; one that is forgotten is full.
    """

    def __init__(self, size: int, most: int) -> None:
        self.size = size
        self._most = most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def wait(self, name: str, count: int, now: float) -> float:
        """Seconds until so many tokens are there; 0 where they are.

        Args:
            name: Whose bucket.
            count: Tokens, at most a bucketful.
            now: Seconds of a clock that never goes back.
        """
        return max(0.0, (count - self._tokens(name, now)) * SECONDS / self.size)

    def take(self, name: str, count: int, now: float) -> None:
        """Takes tokens that are there."""
        self._left[name] = (self._tokens(name, now) - count, now)
        self._left.move_to_end(name)
        if len(self._left) > self._most:
            self._left.popitem(last=False)

    def _tokens(self, name: str, now: float) -> float:
        left, then = self._left.get(name, (float(self.size), now))
        return min(float(self.size), left + (now - then) * self.size / SECONDS)


class FeedbackLimits:
    """What one key and one user of a key may send in a minute.

    Args:
        of_key: Feedback of one key, of all its users.
        of_user: Feedback of one user.
        most_keys: Keys that are remembered.
    """

    def __init__(self, *, of_key: int, of_user: int, most_keys: int = 100) -> None:
        self._keys = Buckets(of_key, most_keys)
        # As many users as the keys that are remembered can name in a minute, so that no bucket is forgotten before it
        # is full again.
        self._users = Buckets(of_user, most_keys * of_key)

    def take(self, key: str, users: Mapping[str, int], now: float) -> None:
        """Counts a request; all of it or nothing.

        Args:
            key: Name of the caller's key.
            users: User → feedback that the request brings of that user.
            now: Seconds of a clock that never goes back.

        Raises:
            LimitReached: It is more than may come now.
        """
        total = sum(users.values())
        asked = [
            (self._keys, key, total, "of this key"),
            *((self._users, u, n, "of one user") for u, n in users.items()),
        ]
        for buckets, name, count, whose in asked:
            if count > buckets.size:
                raise LimitReached(
                    f"{count:,} pieces of feedback {whose} in one request; {buckets.size:,} may come in a minute.",
                    remedy="Send smaller batches, over a longer time.",
                )
            if (seconds := buckets.wait(name, count, now)) > 0.0:
                raise LimitReached(
                    f"There is more feedback {whose} than the {buckets.size:,} that may come in a minute.",
                    remedy=f"Send it again in {max(1, round(seconds + 0.5))} seconds.",
                    after_seconds=seconds,
                )
        for buckets, name, count, _ in asked:
            buckets.take(name, count, now)
