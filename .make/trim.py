#!/usr/bin/env python3
"""trim.py MODULE [--names] [--never TEXT]... EXPORT...: takes out of a WebAssembly module what the filter never uses.

It leaves these exports, where it has them; EXPORT=NAME is what the module exports as NAME, under the name EXPORT. The SDK exports every callback
there is, and the proxy enters the module once per exported callback and request, whether or not the filter does anything in it. The functions
themselves stay: without an export nothing calls them, and wasm-opt drops them.

Functions with TEXT in their (mangled) names are never called, but something may still point to them: they become traps, so that wasm-opt drops
what only they call. Names go without --names, and what else is there for tools only always does.

(WebAssembly core specification, 5.4: instructions; 5.5: a section is its id, its size and its content; 5.5.3: a custom section starts with its
name; 5.5.5: imports; 5.5.10: exports are name, kind, index; 5.5.13: code; 7.4.1: the name section.)
"""
import sys

CUSTOM, IMPORTS, EXPORTS, CODE = 0, 2, 7, 10
# No locals, unreachable, end; with its length in front.
TRAP = b"\3\0\0\x0b"


def leb(data, at):
    """The unsigned LEB128 number at `at`, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def to_leb(number):
    encoded = bytearray()
    while True:
        number, byte = number >> 7, number & 0x7F
        encoded.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def text(data, at):
    length, at = leb(data, at)
    return data[at : at + length].decode(), at + length


def only(section, wanted):
    """The export section with those that are wanted, under the names that are."""
    count, at = leb(section, 0)
    kept = []
    for _ in range(count):
        name, end = text(section, at)
        _, at = leb(section, end + 1)
        if name in wanted:
            renamed = wanted[name].encode()
            kept.append(to_leb(len(renamed)) + renamed + section[end:at])
    return to_leb(len(kept)) + b"".join(kept)


def imported_functions(section):
    """How many there are: they are numbered before the module's own."""
    count, at = leb(section, 0)
    for _ in range(count):
        _, at = text(section, at)
        _, at = text(section, at)
        if section[at] != 0:
            sys.exit("error: the module imports something that is no function")
        _, at = leb(section, at + 1)
    return count


def named(section, parts):
    """The functions with one of these texts in their names."""
    _, at = text(section, 0)
    found = set()
    while at < len(section):
        kind = section[at]
        size, at = leb(section, at + 1)
        if kind == 1:
            count, entry = leb(section, at)
            for _ in range(count):
                index, entry = leb(section, entry)
                name, entry = text(section, entry)
                if any(part in name for part in parts):
                    found.add(index)
        at += size
    return found


def without(section, first, never):
    """The code section in which those functions are traps; `first` is the number of its first one."""
    count, at = leb(section, 0)
    out = [to_leb(count)]
    for index in range(first, first + count):
        size, start = leb(section, at)
        out.append(TRAP if index in never else section[at : start + size])
        at = start + size
    return b"".join(out)


def main(path, *arguments):
    with open(path, "rb") as file:
        module = file.read()
    if module[:8] != b"\0asm\1\0\0\0":
        sys.exit(f"error: {path} is no WebAssembly module of version 1")
    keep_names, never, wanted = False, [], {}
    arguments = iter(arguments)
    for argument in arguments:
        if argument == "--names":
            keep_names = True
        elif argument == "--never":
            never.append(next(arguments))
        else:
            export, _, name = argument.partition("=")
            wanted[name or export] = export
    sections, at = [], 8
    while at < len(module):
        size, start = leb(module, at + 1)
        sections.append((module[at], module[start : start + size]))
        at = start + size
    is_names = lambda kind, content: kind == CUSTOM and text(content, 0)[0] == "name"
    first, unused = 0, set()
    for kind, content in sections:
        if kind == IMPORTS:
            first = imported_functions(content)
        if is_names(kind, content) and never:
            unused = named(content, never)
    if never and not unused:
        sys.exit(f"error: {path} names no function of those that are never called")
    out = [module[:8]]
    for kind, content in sections:
        if kind == CUSTOM and not (keep_names and is_names(kind, content)):
            continue
        if kind == EXPORTS:
            content = only(content, wanted)
        if kind == CODE:
            content = without(content, first, unused)
        out += [bytes([kind]), to_leb(len(content)), content]
    with open(path, "wb") as file:
        file.write(b"".join(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
