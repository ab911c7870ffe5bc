"""Compares the reader with the vectors: `python check.py`, with the reader's requirements installed."""

import io
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reader"))

import archive  # noqa: E402: needs the path set above
import packs  # noqa: E402
import sealed  # noqa: E402

VECTORS = {vector["name"]: vector for vector in json.loads((HERE / "vectors.json").read_text())}
checks = 0


def same(what, found, expected):
    global checks
    checks += 1
    if found != expected:
        sys.exit(f"vectors: {what}: found {found!r}, expected {expected!r}")


def of(name, value):
    return bytes.fromhex(VECTORS[name][value])


def opened(name):
    """Returns the block of a vector, opened at its position in a file."""
    vector, keys = VECTORS[name], VECTORS["subkeys"]
    file = io.BytesIO(bytes(sealed.BLOCK * vector["position"]) + of(name, "sealed"))
    reader = sealed.Sealed(file, bytes.fromhex(keys["archive"]), bytes.fromhex(keys["master_key"]))
    same(f"key of {name}", reader.keys[vector["kind"]], of(name, "key"))
    block = reader.open(vector["kind"], vector["position"])
    plain = sealed.Plain.at(of(name, "plaintext"))
    same(name, block[1:], plain[:4] + (plain.data,))
    same(f"generation of {name}", block.generation, sealed.Generation.at(of(name, "nonce")))
    for other in {"data", "registry", "meta"} - {vector["kind"]}:
        try:
            reader.open(other, vector["position"])
        except sealed.Damaged:
            same(f"{name} under the key of {other}", True, True)
        else:
            sys.exit(f"vectors: {name} opens with the key of {other}")
    return reader, block


def check_fields():
    for vector in VECTORS.values():
        for field in vector.get("fields", []):
            data, expected = bytes.fromhex(vector[field["of"]]), bytes.fromhex(field["bytes"])
            found = data[field["offset"]:field["offset"] + len(expected)]
            same(f"{vector['name']}: {field['name']}", found, expected)


def check_header():
    header = sealed.ReadHeader(of("header", "header"))
    master = of("subkeys", "master_key")
    for kind, name in ((1, "key slot, raw key"), (2, "key slot, passphrase")):
        same(name, header.unlock(kind, of(name, "secret")), master)
        slot = sealed.KeySlot.at(of(name, "slot"))
        number = VECTORS[name]["number"]
        same(f"{name} in the header", header.slots[number], slot)
        try:
            header.unlock(kind, of(name, "secret") + b"x")
        except sealed.WrongKey:
            same("another secret", True, True)
    header.authenticate(master)
    same("revision", header.fields.revision, 2)


def check_structures():
    reader, block = opened("meta slot")
    slot = archive.Slot(reader, 1)
    same("commit", (slot.fields.number, slot.blocks, slot.generation), (17, 27, block.generation))
    same("header of the commit", slot.fields.header_digest, of("header", "digest"))
    same("root", slot.roots[0], (tuple(sealed.Reference(at, block.generation) for at in (15, 26)), 2, 3))
    same("inline free runs", slot.inline_free, [(23, 1)])
    same("redo list", [copy.position for copy in slot.redo_head], [16, 22])
    opened("data block")
    leaf = archive.parse_page(opened("leaf page")[1].data, 0, 0)
    streams = [archive.parse_stream(key + value, key) for key, value in leaf]
    same("streams", [(stream.begin, stream.count, stream.flags) for stream in streams], [(8, 3, 1), (11, 2, 0)])
    same("stored stream", b"".join(leaf[0]), of("stream record", "stored"))
    branch = archive.parse_page(opened("branch page")[1].data, 0, 1)
    children = [copy.position for _, value in branch for copy in slot.doubled(value)]
    same("children", children, [13, 24, 14, 25])
    _, redo = opened("redo block")
    same("next redo block", [copy.position for copy in slot.doubled(redo.data[8:28])], [20, 21])
    same("first entry", archive.Run.at(redo.data, 28), (9, 17))


def check_frames():
    for name in ("raw frame", "compressed frame", "frame of uncompressed blocks"):
        frame, vector = of(name, "frame"), VECTORS[name]
        head, content, slices = packs.decode(b"gap" + frame, 3)
        same(f"head of {name}", (head.first, head.length, packs.HEAD + head.stored), (vector["first"], 300, len(frame)))
        same(f"content of {name}", content, of(name, "content"))
        same(f"slices of {name}", [list(found) for found in slices], vector["slices"])
        longer = frame[:16] + (head.stored + 1).to_bytes(4, "big") + frame[20:] + b"x"
        other_length = frame[:12] + (head.length + 1).to_bytes(4, "big") + frame[16:]
        for wrong in (frame[:-1], longer, other_length):
            try:
                packs.decode(wrong, 0)
            except sealed.Damaged:
                same("a changed frame", True, True)
            else:
                sys.exit(f"vectors: {name} decodes after a change")
    record = packs.parse_frame(int.from_bytes(of("record of a frame", "key"), "big"), of("record of a frame", "value"))
    same("record of a frame", record[1:], (4008, 161, 300, 240, 180, 2))
    first, value = int.from_bytes(of("record of a hole", "key"), "big"), of("record of a hole", "value")
    hole, wrong = packs.parse_frame(first, value), value[:-1] + b"\1"
    same("record of a hole", (first, hole), (2**40 + 300, (bytes(16), 0, 0, 2**40, 2**40, 2**40 - 1, 0)))
    try:
        packs.parse_frame(first, wrong)
    except sealed.Damaged:
        same("a hole that is stored", True, True)
    else:
        sys.exit("vectors: a frame without a pack is accepted")


check_fields()
check_header()
check_structures()
check_frames()
print(f"vectors: {checks} comparisons agree")
