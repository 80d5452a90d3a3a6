"""Has the runner free the bytes that it passes to the host.

    python3 free_lists.py COMPONENT

The runtime of componentize-py copies each `bytes` that leaves Python (arguments of imports, results of exports) and frees that
copy never: `wit_dylib_pop_list` returns it, and nobody takes it back. The same module exports `wit_dylib_dealloc_bytes`, which
frees a list at the end of the call that it belongs to. So the export is led through a function that calls both:

    len = pop_list(call, type, &pointer)
    if pointer != 0: dealloc_bytes(call, pointer, len, align = 1, defer = 1)
    return len

The pointer is 0 for lists of anything but bytes: those are lowered one element after the other, and freed.
"""

import sys
from pathlib import Path

POP, FREE = "wit_dylib_pop_list", "wit_dylib_dealloc_bytes"

# Sections of a module, and the one of a component that holds a module.
IMPORTS, FUNCTIONS, EXPORTS, CODE, CORE_MODULE = 2, 3, 7, 10, 1
# What is imported and exported.
FUNCTION, TABLE, MEMORY, GLOBAL = 0, 1, 2, 3


class Reader:
    """Reads from the beginning of `data` to its end."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def __bool__(self):
        return self.at < len(self.data)

    def take(self, count):
        """So many bytes."""
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise ValueError("the file ends too early")
        self.at += count
        return taken

    def number(self):
        """Unsigned, in LEB128."""
        number = shift = 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def name(self):
        return self.take(self.number()).decode()


def number(value):
    """Unsigned, in LEB128."""
    encoded = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        encoded.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def sections(data):
    """The header, and each section: `(id, content)`."""
    reader = Reader(data)
    header, found = reader.take(8), []
    while reader:
        (kind,) = reader.take(1)
        found.append((kind, reader.take(reader.number())))
    return header, found


def joined(header, found):
    return header + b"".join(bytes([kind]) + number(len(content)) + content for kind, content in found)


def exported(content):
    """The exports of a module: `(name, kind, index)`."""
    reader = Reader(content)
    return [(reader.name(), reader.take(1)[0], reader.number()) for _ in range(reader.number())]


def imported_functions(content):
    """The types of the functions that a module imports."""
    reader, types = Reader(content), []
    for _ in range(reader.number()):
        reader.name(), reader.name()
        (kind,) = reader.take(1)
        if kind == FUNCTION:
            types.append(reader.number())
        elif kind == TABLE:
            reader.take(1)
            limits(reader)
        elif kind == MEMORY:
            limits(reader)
        elif kind == GLOBAL:
            reader.take(2)
        else:
            raise ValueError(f"an import of kind {kind}")
    return types


def limits(reader):
    has_maximum = reader.number() & 1
    reader.number()
    if has_maximum:
        reader.number()


def one_more(content, item):
    """A vector with an item more."""
    reader = Reader(content)
    return number(reader.number() + 1) + content[reader.at :] + item


def body(pop, free):
    """The function of the module's docstring, of one that has three parameters and one result."""
    call, of_type, pointer, length = 0, 1, 2, 3

    def get(local):
        return b"\x20" + number(local)

    def const(value):
        return b"\x41" + number(value)

    load = b"\x28\x02\x00"
    code = get(call) + get(of_type) + get(pointer) + b"\x10" + number(pop) + b"\x21" + number(length)
    code += get(pointer) + load + b"\x04\x40"
    code += get(call) + get(pointer) + load + get(length) + const(1) + const(1) + b"\x10" + number(free)
    code += b"\x0b" + get(length) + b"\x0b"
    # One group of locals: one of i32.
    code = b"\x01\x01\x7f" + code
    return number(len(code)) + code


def freeing_module(module):
    """The module, mended. `None`: it is another one."""
    header, found = sections(module)
    contents = dict(found)
    exports = exported(contents.get(EXPORTS, b"\0"))
    functions = {name: index for name, kind, index in exports if kind == FUNCTION}
    if POP not in functions:
        return None
    if FREE not in functions:
        raise ValueError(f"a module exports {POP} and no {FREE}")
    pop, free = functions[POP], functions[FREE]
    imported = imported_functions(contents.get(IMPORTS, b"\0"))
    reader = Reader(contents[FUNCTIONS])
    types = imported + [reader.number() for _ in range(reader.number())]
    entries = number(len(exports))
    for name, kind, index in exports:
        index = len(types) if (name, kind) == (POP, FUNCTION) else index
        entries += number(len(name.encode())) + name.encode() + bytes([kind]) + number(index)
    changed = {
        FUNCTIONS: one_more(contents[FUNCTIONS], number(types[pop])),
        EXPORTS: entries,
        CODE: one_more(contents[CODE], body(pop, free)),
    }
    return joined(header, [(kind, changed.get(kind, content)) for kind, content in found])


def freeing(component):
    """The component, mended."""
    header, found = sections(component)
    mended = 0
    for at, (kind, content) in enumerate(found):
        module = freeing_module(content) if kind == CORE_MODULE else None
        if module is not None:
            found[at] = (kind, module)
            mended += 1
    if mended != 1:
        raise ValueError(f"{mended} modules export {POP}, which one should")
    return joined(header, found)


def main(path):
    try:
        path.write_bytes(freeing(path.read_bytes()))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {path}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
