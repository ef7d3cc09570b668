#!/usr/bin/env python3
"""exports.py MODULE [--names] EXPORT...: leaves a WebAssembly module only these exports, where it has them, and without --names no names.
EXPORT=NAME: what the module exports as NAME, under the name EXPORT.

The SDK exports every callback there is, and the proxy enters the module once per exported callback and request, whether or not the filter
does anything in it. The functions themselves stay: without an export nothing calls them, and wasm-opt drops them.
(WebAssembly core specification, 5.5: a section is its id, its size and its content; 5.5.3: a custom section starts with its name;
5.5.10: exports are name, kind, index.)
"""
import sys


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


def only(section, names):
    count, at = leb(section, 0)
    kept = []
    for _ in range(count):
        length, at = leb(section, at)
        name, end = section[at : at + length].decode(), at + length
        _, at = leb(section, end + 1)
        if name in names:
            renamed = names[name].encode()
            kept.append(to_leb(len(renamed)) + renamed + section[end:at])
    return to_leb(len(kept)) + b"".join(kept)


def main(path, *names):
    with open(path, "rb") as file:
        module = file.read()
    if module[:8] != b"\0asm\1\0\0\0":
        sys.exit(f"error: {path} is no WebAssembly module of version 1")
    CUSTOM, EXPORTS = 0, 7
    keep_names = "--names" in names
    wanted = {name.split("=")[-1]: name.split("=")[0] for name in names}
    out, at = [module[:8]], 8
    while at < len(module):
        kind = module[at]
        size, start = leb(module, at + 1)
        at = start + size
        if kind == CUSTOM and not keep_names and module[start + 1 :].startswith(b"name"):
            continue
        content = only(module[start:at], wanted) if kind == EXPORTS else module[start:at]
        out += [bytes([kind]), to_leb(len(content)), content]
    with open(path, "wb") as file:
        file.write(b"".join(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
