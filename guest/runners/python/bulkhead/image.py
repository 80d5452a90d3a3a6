"""The memory image, which all agents share until they write to a page of it.

Measured with a small agent (`/proc/PID/pagemap`): with this and the rehearsal an agent that has started owns a copy of 150 pages of 4 KiB.
Without them it is 850, because its first objects go into holes all over the image. With counted references it is 320.
"""

from __future__ import annotations

import gc
import types
from typing import Any

#: Net new containers after which a collection runs in the middle of a turn. A collection of that kind writes into
#: 1.6 MB of the image; those at the end of a turn do not.
_THRESHOLD = 50_000

#: The same after which the end of a turn collects.
_TIDY = 5_000

#: Sizes of blocks that the interpreter's allocator takes from its pools, in bytes.
_SMALL = range(8, 513, 8)
#: Sizes that it leaves to the C library, the large ones first.
_LARGE = [size for power in range(16, 9, -1) for size in range(1 << power, 1 << (power - 1), -(1 << (power - 4)))]

_filling: list[object] = []

#: All objects of the image. `finish/src/immortal.rs` has nobody count references to them any more: that would write to the page of
#: each object that is so much as touched. It empties the list.
_objects: list[object] = []
#: Where that finds it.
_mark = b""

#: Addresses that objects of the image can have. It is smaller.
_SPAN = 40 << 20

#: What only runs now, and what somebody may let go of to have memory: the reserve of `report`.
_COUNTED = types.FrameType | types.GeneratorType | types.CoroutineType | bytearray


def seal() -> None:
    """The last thing that happens while the component is built."""
    global _mark
    gc.collect()
    _objects.extend(_reachable())
    _fill()
    _mark = b"".join([b"bulkhead", b" objects", id(_objects).to_bytes(4, "little"), id(None).to_bytes(4, "little"), b"."])
    gc.freeze()
    gc.set_threshold(_THRESHOLD)


def collect() -> None:
    """At the end of a turn: looks for garbage among what the agent made, if that is much."""
    if gc.get_count()[0] > _TIDY:
        gc.collect()


def _reachable() -> list[object]:
    """The objects that are there, but those that this makes."""
    found: list[object] = []
    # A bit for each address that an object can have. A set of numbers would make the image half as large again.
    seen = bytearray(_SPAN // 8 // 8)
    queue: list[Any] = gc.get_objects()
    while queue:
        each = queue.pop()
        at, bit = divmod(id(each) >> 3, 8)
        if seen[at] >> bit & 1 or each is found or each is queue or isinstance(each, _COUNTED):
            continue
        seen[at] |= 1 << bit
        found.append(each)
        queue += gc.get_referents(each)
        if isinstance(each, types.CodeType):
            queue += [each.co_consts, each.co_names, each.co_name, each.co_qualname, each.co_filename]
            queue += [each.co_linetable, each.co_exceptiontable]
    return found


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
