"""Reads and writes components and their modules: what is in which section."""

# Sections of a module, and the one of a component that holds a module.
IMPORTS, FUNCTIONS, EXPORTS, CODE, DATA, CORE_MODULE = 2, 3, 7, 10, 11, 1
# What is imported and exported.
FUNCTION, TABLE, MEMORY, GLOBAL = 0, 1, 2, 3
# Instructions.
I32_CONST, END = b"\x41", b"\x0b"


class Reader:
    """Reads `data` from the beginning to the end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def __bool__(self):
        return self.at < len(self.data)

    def take(self, count):
        """So many bytes."""
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise ValueError("a section ends too early")
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

    def address(self):
        """Of memory: the operand of `i32.const`, which is signed, as what it means here."""
        began = self.at
        number = self.number()
        bits = 7 * (self.at - began)
        is_negative = bits < 32 and number >> (bits - 1)
        return (number - (1 << bits) if is_negative else number) & 0xFFFF_FFFF

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


def changed(component, change):
    """The component with one module changed: the one that `change` does not return `None` for. It gets the contents of the
    module's sections by their ids, and returns those that are new.
    """
    header, found = sections(component)
    count = 0
    for at, (kind, content) in enumerate(found):
        if kind != CORE_MODULE:
            continue
        module_header, module = sections(content)
        new = change(dict(module))
        if new is not None:
            module = [(kind, new.get(kind, content)) for kind, content in module]
            found[at] = (CORE_MODULE, joined(module_header, module))
            count += 1
    if count != 1:
        raise ValueError(f"{count} modules are what {change.__module__} is for, and not one")
    return joined(header, found)
