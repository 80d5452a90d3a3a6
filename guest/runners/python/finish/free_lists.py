"""Has the runner free the bytes that it passes to the host.

The runtime of componentize-py copies each `bytes` that leaves Python (arguments of imports, results of exports) and frees that
copy never: `wit_dylib_pop_list` returns it, and nobody takes it back. The same module exports `wit_dylib_dealloc_bytes`, which
frees a list at the end of the call that it belongs to. So the export is led through a function that calls both:

    len = pop_list(call, type, &pointer)
    if pointer != 0: dealloc_bytes(call, pointer, len, align = 1, defer = 1)
    return len

The pointer is 0 for lists of anything but bytes: those are lowered one element after the other, and freed.
"""

from wasm import CODE, END, EXPORTS, FUNCTION, FUNCTIONS, GLOBAL, I32_CONST, IMPORTS, MEMORY, TABLE, Reader, number

POP, FREE = "wit_dylib_pop_list", "wit_dylib_dealloc_bytes"


def change(contents):
    """The new sections of the module that exports both."""
    exports = exported(contents.get(EXPORTS, b"\0"))
    functions = {name: index for name, kind, index in exports if kind == FUNCTION}
    if POP not in functions:
        return None
    if FREE not in functions:
        raise ValueError(f"a module exports {POP} and no {FREE}")
    pop, free = functions[POP], functions[FREE]
    reader = Reader(contents[FUNCTIONS])
    types = imported_functions(contents.get(IMPORTS, b"\0")) + [reader.number() for _ in range(reader.number())]
    entries = number(len(exports))
    for name, kind, index in exports:
        index = len(types) if (name, kind) == (POP, FUNCTION) else index
        entries += number(len(name.encode())) + name.encode() + bytes([kind]) + number(index)
    return {
        FUNCTIONS: one_more(contents[FUNCTIONS], number(types[pop])),
        EXPORTS: entries,
        CODE: one_more(contents[CODE], body(pop, free)),
    }


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
    """The function above, of one that has three parameters and one result."""
    call, of_type, pointer, length = 0, 1, 2, 3

    def get(local):
        return b"\x20" + number(local)

    def const(value):
        return I32_CONST + number(value)

    load = b"\x28\x02\x00"
    code = get(call) + get(of_type) + get(pointer) + b"\x10" + number(pop) + b"\x21" + number(length)
    code += get(pointer) + load + b"\x04\x40"
    code += get(call) + get(pointer) + load + get(length) + const(1) + const(1) + b"\x10" + number(free)
    code += END + get(length) + END
    # One group of locals: one of i32.
    code = b"\x01\x01\x7f" + code
    return number(len(code)) + code
