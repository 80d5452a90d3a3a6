"""What is done to a component after componentize-py, on components of a few bytes."""

import struct
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "finish"))

import free_lists  # noqa: E402
import immortal  # noqa: E402
import wasm  # noqa: E402

HEADER = b"\0asm\x01\0\0\0"


def component(*modules):
    return wasm.joined(HEADER, [(wasm.CORE_MODULE, wasm.joined(HEADER, sections)) for sections in modules])


def section(component, kind):
    """Of the first module of a component."""
    ((_, module), *_) = wasm.sections(component)[1]
    return dict(wasm.sections(module)[1])[kind]


def vector(*items):
    return wasm.number(len(items)) + b"".join(items)


def exports(*names):
    return vector(*(wasm.number(len(name)) + name.encode() + bytes([wasm.FUNCTION, index]) for index, name in enumerate(names)))


class FreeLists(unittest.TestCase):
    def test_the_export_is_led_through_a_new_function(self):
        body = b"\x02\0\x0b"
        module = [(wasm.FUNCTIONS, vector(b"\x05", b"\x06")), (wasm.EXPORTS, exports(free_lists.POP, free_lists.FREE)), (wasm.CODE, vector(body, body))]
        changed = wasm.changed(component(module), free_lists.change)
        self.assertEqual(section(changed, wasm.FUNCTIONS), vector(b"\x05", b"\x06", b"\x05"))
        self.assertEqual(free_lists.exported(section(changed, wasm.EXPORTS)), [(free_lists.POP, 0, 2), (free_lists.FREE, 0, 1)])
        self.assertEqual(section(changed, wasm.CODE)[:7], vector(body, body, b"")[:7])

    def test_another_component_is_refused(self):
        one = [(wasm.EXPORTS, exports("other"))]
        both = [(wasm.EXPORTS, exports(free_lists.POP))]
        for modules, what in ([one], "0 modules"), ([both], free_lists.FREE):
            with self.subTest(what), self.assertRaisesRegex(ValueError, what):
                wasm.changed(component(*modules), free_lists.change)

    def test_what_ends_too_early_is_refused(self):
        whole = component([(wasm.EXPORTS, exports("other"))])
        with self.assertRaisesRegex(ValueError, "too early"):
            wasm.changed(whole[:-1], free_lists.change)


class Immortal(unittest.TestCase):
    """An image at 1000: `None`, a list, its items, objects, the mark."""

    AT, COUNT = 1000, immortal.MIN_OBJECTS

    def image(self, counts, none=immortal.STATIC, length=None):
        type_of, objects, items = 7, self.AT + 28, self.AT + 28 + 8 * len(counts)
        # One object many times is as good as many.
        addresses = [objects + 8 * (place % len(counts)) for place in range(self.COUNT)]
        listed = struct.pack("<5I", 1, type_of, self.COUNT if length is None else length, items, self.COUNT)
        data = struct.pack("<II", none, type_of) + listed
        data += b"".join(struct.pack("<II", count, type_of) for count in counts) + struct.pack(f"<{self.COUNT}I", *addresses)
        data += immortal.MARK + struct.pack("<II", self.AT + 8, self.AT) + b"."
        segment = b"\0" + wasm.I32_CONST + wasm.number(self.AT) + wasm.END + wasm.number(len(data)) + data
        return component([(wasm.DATA, vector(segment))])

    def changed(self, *arguments, **options):
        return immortal.Memory(section(wasm.changed(self.image(*arguments, **options), immortal.change), wasm.DATA))

    def test_objects_are_made_immortal_and_the_list_is_emptied(self):
        many = [1] * (self.COUNT - 1)
        memory = self.changed([*many, 6 << 28])
        counts = [memory.word(self.AT + 28 + 8 * place) for place in range(self.COUNT)]
        self.assertEqual(counts, [immortal.MADE] * len(many) + [6 << 28])
        self.assertEqual((memory.word(self.AT), memory.word(self.AT + 8), memory.word(self.AT + 16)), (immortal.STATIC, 1, 0))
        self.assertEqual(memory.word(self.AT + 28 + 8 * self.COUNT), 0)

    def test_another_image_is_refused(self):
        for options, what in ({"none": 3}, "None"), ({"length": 9}, "lists 9 objects"):
            with self.subTest(what), self.assertRaisesRegex(ValueError, what):
                self.changed([1], **options)
        for counts, what in ([0], "no object"), ([6 << 28], "could be made immortal"):
            with self.subTest(what), self.assertRaisesRegex(ValueError, what):
                self.changed(counts)


if __name__ == "__main__":
    unittest.main()
