"""The memory image, which all agents share until they write to a page of it.

Measured with a small agent: with this and the rehearsal an agent that has started owns a copy of 320 pages of 4 KiB.
Without them it is 850, because its first objects go into holes all over the image.
"""

from __future__ import annotations

import gc

#: Net new containers after which a collection runs in the middle of a turn. A collection of that kind writes into every
#: object of the image; those at the end of a turn do not.
_THRESHOLD = 50_000

#: The same after which the end of a turn collects.
_TIDY = 5_000

#: Sizes of blocks that the interpreter's allocator takes from its pools, in bytes.
_SMALL = range(8, 513, 8)
#: Sizes that it leaves to the C library, the large ones first.
_LARGE = [size for power in range(16, 9, -1) for size in range(1 << power, 1 << (power - 1), -(1 << (power - 4)))]

_filling: list[object] = []


def seal() -> None:
    """The last thing that happens while the component is built."""
    gc.collect()
    _fill()
    gc.freeze()
    gc.set_threshold(_THRESHOLD)


def collect() -> None:
    """At the end of a turn: looks for garbage among what the agent made, if that is much."""
    if gc.get_count()[0] > _TIDY:
        gc.collect()


def _fill() -> None:
    """Fills the holes, so that what an agent makes lies together, in pages that nobody shares."""
    end = id(bytes(1 << 20))
    for size in [*_LARGE, *reversed(_SMALL)]:
        while id(block := _block(size)) < end:
            _filling.append(block)


def _block(size: int) -> object:
    header = bytes.__basicsize__
    if size >= header:
        return bytes(size - header)
    return float(size) if size >= float.__basicsize__ else object()
