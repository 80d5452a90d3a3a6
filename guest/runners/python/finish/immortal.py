"""Has nobody count the references to objects of the image.

The interpreter writes the count of an object whenever it touches the object, mostly to take the same away again. Such a page
of the image is shared no longer: an agent that has started would own 319 pages of 4 KiB, of which 165 are as they were. CPython
does not count for objects that are immortal, which their count says. Until CPython 3.15 no function makes one so.

`bulkhead.image` leaves a list of the objects, and behind a mark where that list and `None` are. Objects as CPython 3.14 has
them on 32 bits: count, type; a list goes on with its length and the address of its items.

Instructions that had loaded a constant before still count it, upwards as a rule; that they are told otherwise saves no page.
"""

import bisect
import struct

from wasm import DATA, END, I32_CONST, Reader

MARK = b"bulkhead objects"

# CPython's counts of immortal objects: the least one, one that is made, one that it was built with, such as `None`.
LEAST, MADE, STATIC = 1 << 30, 5 << 28, 7 << 28

# Fewer are not the whole image.
MIN_OBJECTS = 50_000


def change(contents):
    """The new sections of the module that has the image of the memory."""
    if MARK not in contents.get(DATA, b""):
        return None
    if contents[DATA].count(MARK) != 1:
        raise ValueError("the image has more than one mark of its objects")
    memory = Memory(contents[DATA])
    listed, none = struct.unpack_from("<II", memory.data, memory.data.index(MARK) + len(MARK))
    if memory.word(none) != STATIC:
        raise ValueError("None is no object as CPython 3.14 has them")
    length, items = memory.word(listed + 8), memory.word(listed + 12)
    if length < MIN_OBJECTS:
        raise ValueError(f"the image lists {length} objects, not the {MIN_OBJECTS} that there are at least")
    made = 0
    for at in range(items, items + 4 * length, 4):
        each = memory.word(at)
        if memory.word(each) == 0 or memory.word(each + 4) == 0:
            raise ValueError(f"there is no object at {each:#x}")
        if memory.word(each) < LEAST:
            made += memory.set_word(each, MADE)
        memory.set_word(at, 0)
    memory.set_word(listed + 8, 0)
    if made < length // 2:
        raise ValueError(f"of {length} objects of the image {made} could be made immortal")
    return {DATA: bytes(memory.data)}


class Memory:
    """The memory that a section of data makes, by address."""

    def __init__(self, data):
        self.data = bytearray(data)
        reader, self._segments = Reader(data), []
        for _ in range(reader.number()):
            if reader.number() != 0 or reader.take(1) != I32_CONST:
                raise ValueError("a segment of data is not at a fixed address")
            address = reader.address()
            if reader.take(1) != END:
                raise ValueError("the address of a segment of data is an expression")
            length = reader.number()
            self._segments.append((address, length, reader.at))
            reader.take(length)
        self._segments.sort()

    def word(self, address):
        """4 bytes, little endian. What no segment has is 0."""
        places = self._places(address)
        return int.from_bytes(bytes(0 if at is None else self.data[at] for at in places), "little")

    def set_word(self, address, value):
        """Whether there was room: zeros need no segment."""
        places = self._places(address)
        octets = value.to_bytes(4, "little")
        if any(octet and at is None for at, octet in zip(places, octets)):
            return False
        for at, octet in zip(places, octets):
            if at is not None:
                self.data[at] = octet
        return True

    def _places(self, address):
        """Where its bytes are. `None`: in no segment."""
        return [self._place(address + offset) for offset in range(4)]

    def _place(self, address):
        nearest = bisect.bisect_right(self._segments, (address, 1 << 32)) - 1
        if nearest < 0:
            return None
        start, length, at = self._segments[nearest]
        return at + address - start if address < start + length else None
