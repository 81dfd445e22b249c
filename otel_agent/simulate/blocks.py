"""The KV cache: blocks of sixteen tokens, handed out, shared by equal prefixes, and taken again when nobody needs them.

A block that is given back keeps what it holds until it is needed for something else: that is the prefix cache. The one that
has lain unused the longest goes first.
"""

from collections.abc import Iterable, Sequence

from otel_agent.simulate.options import BLOCK_TOKENS

START = 0  # the hash before the first block


def block_hash(before: int, tokens: Sequence[int]) -> int:
    """Return the hash of a full block that follows the block with the hash `before`: equal only for equal beginnings."""
    return hash((before, *tokens))


def prefix_hashes(tokens: Sequence[int]) -> list[int]:
    """Return the hashes of the full blocks of a list of tokens."""
    hashes, before = [], START
    for at in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        before = block_hash(before, tokens[at : at + BLOCK_TOKENS])
        hashes.append(before)
    return hashes


class Blocks:
    """All blocks of an engine; `free` of them and those in use are always `total`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._unused: dict[int, None] = dict.fromkeys(range(total))  # a dict keeps the order: the first one goes first
        self._users = [0] * total
        self._holds: list[int | None] = [None] * total
        self._by_hash: dict[int, int] = {}

    @property
    def free(self) -> int:
        """How many blocks nobody uses."""
        return len(self._unused)

    @property
    def used(self) -> int:
        """How many blocks somebody uses."""
        return sum(users > 0 for users in self._users)

    def known(self, hashes: Iterable[int]) -> list[int]:
        """Return the blocks that hold these contents, from the first on, up to the first that none holds."""
        found = []
        for wanted in hashes:
            if (block := self._by_hash.get(wanted)) is None:
                break
            found.append(block)
        return found

    def take(self, new: int, shared: Sequence[int] = ()) -> list[int] | None:
        """Return `shared` blocks and `new` empty ones after them for one more user; None, and nothing taken, where too few are free."""
        waking = [block for block in shared if not self._users[block]]
        if new + len(waking) > len(self._unused):
            return None
        for block in waking:
            del self._unused[block]
        for block in shared:
            self._users[block] += 1
        return [*shared, *(self._empty() for _ in range(new))]

    def _empty(self) -> int:
        block = next(iter(self._unused))
        del self._unused[block]
        if (held := self._holds[block]) is not None:
            del self._by_hash[held]
            self._holds[block] = None
        self._users[block] = 1
        return block

    def filled(self, block: int, content: int) -> None:
        """Say what a block that is full now holds; the first block with a content is the one that is shared."""
        if content not in self._by_hash and self._holds[block] is None:
            self._by_hash[content] = block
            self._holds[block] = content

    def give_back(self, blocks: Sequence[int]) -> None:
        """Take blocks back from one user; ends go before beginnings, which are the likelier ones to be asked for again."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if not self._users[block]:
                self._unused[block] = None

    def forget(self) -> bool:
        """Forget what unused blocks hold; False, and nothing forgotten, while any block is in use, as in vLLM."""
        if len(self._unused) < self.total:
            return False
        self._by_hash.clear()
        self._holds = [None] * self.total
        return True
