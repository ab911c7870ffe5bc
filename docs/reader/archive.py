"""Commits, trees, streams and names: the rest of FORMAT.md, on top of sealed blocks."""
import hashlib
import uuid
from collections import namedtuple
from functools import partial
from os.path import commonprefix
from struct import unpack_from

from packs import Packed
from sealed import (BLOCK, BLOCKS_MAX, DATA, RESERVED, THIRD_END, THIRD_SLOTS, ArchiveError, Damaged, Generation, NewerFormat,
                    Reference, Sealed, Tampered, Truncated, attempt, is_reserved, layout, need, read_headers, reference_at)

TREES = {"streams": (16, 43), "extents": (20, 20), "free": (4, 4), "deletions": (16, 43), "sessions": (4, 8),
         "names": (None, None), "inodes": (8, None), "frames": (8, 49), "packs": (16, 8), "dead_slices": (8, 8)}  # in the order of the roots; lengths of key and value
TYPES = {1: "file", 2: "directory", 3: "symlink", 4: "fifo", 5: "socket", 6: "character_device", 7: "block_device"}
NUMBERS = {2: 2, 3: 4, 4: 4, 6: 8, 7: 4, 10: 8, 15: 8, 16: 8}  # fields of an inode: tag and most bytes
FIXED = {1: 1, 9: 16, 11: 8, 14: 16}  # tag and length
ROOT = 1  # number of the root directory

Meta = layout("Meta", "4sHH16xQ12sQI512s20sIBBH128s472sQ32sII64s384sH2048s266s", "tag version length required "
              "generation number blocks roots redo_head redo_length inline_count pending_count reserved inline streams "
              "header_revision header_digest master_key watermark counters pending metadata_length metadata tail")
Stored = layout("Stored", "16siiIQHB12sQ", "identity begin end count length compression flags generation inode")
Run = layout("Run", "II", "start count")
Extent = namedtuple("Extent", "first start count generation")
Inode = namedtuple("Inode", "kind mode owner group modified size links target stream parent device origin inline extended slice")

def own_stream(number):  # the stream of pages, meta slots and the redo list
    return uuid.UUID(int=0x61723700_0000_0000_8000_000000000000 + number).bytes

def parse_stream(data, identity):
    stream = Stored.at(data)
    need(stream.compression == 0, "compression", stream.compression, error=NewerFormat)
    one_run, begin, end, count = stream.flags == 1, stream.begin, stream.end, stream.count
    sound = stream.identity == identity and stream.flags <= 1 and stream.length <= count * DATA
    sound &= (begin, end) == (-1, -1) if count == 0 else (begin == end) == (count == 1)
    sound &= count == 0 or begin >= 0 and not (is_reserved(begin) or is_reserved(end))
    sound &= end == begin + count - 1 if one_run and count else not any(stream.generation)
    need(sound and (one_run or count >= 2), "record of stream", identity.hex())
    return stream

class Slot:  # the state of the archive in one commit
    def __init__(self, sealed, position):
        block = sealed.open("meta", position)
        self.raw, self.fields = block.data, (fields := Meta.at(block.data))
        need(block.stream == own_stream(0x101), "meta slot", position, error=Tampered)
        need(fields.tag == b"meta" and fields.version > 0, "meta slot", position)
        need(fields.version == 1 and fields.required == 0, "version or features", error=NewerFormat)
        self.generation, self.blocks = Generation.at(fields.generation), fields.blocks
        need(self.generation == block.generation, "generation of meta slot", position, error=Tampered)
        inline, pending, metadata = fields.inline_count, fields.pending_count, fields.metadata_length
        need(3742 <= fields.length <= DATA and inline <= 16 and pending <= 32 and metadata <= 2048, "lengths in a slot")
        need(not any(block.data[fields.length:] + fields.inline[8 * inline:] + fields.pending[12 * pending:]
                     + fields.metadata[metadata:]), "zeros of meta slot", position)
        need(fields.reserved == 0 and fields.number < 1 << 62 and RESERVED <= self.blocks <= BLOCKS_MAX, "number of blocks", self.blocks)
        need(fields.watermark == 0, "a master key that is being replaced", error=NewerFormat)
        self.roots = [self.root(fields.roots[at:at + 32]) for at in range(0, 512, 32)]
        self.redo_head, length = self.doubled(fields.redo_head), fields.redo_length
        need((self.redo_head is None) == (length == 0) and length <= self.blocks - RESERVED, "redo list")
        self.inline_free, least = [Run.at(fields.inline, 8 * at) for at in range(inline)], RESERVED
        for run in self.inline_free:
            fits = least <= run.start and 1 <= run.count <= self.blocks - run.start
            need(fits and not is_reserved(*run), "inline free run", run)
            least = run.start + run.count
        self.streams = [parse_stream(fields.streams[59 * at:59 * at + 59], uuid.UUID(int=at).bytes) for at in range(8)]
        need(all(max(at.begin, at.end) < self.blocks and not at.inode for at in self.streams), "reserved stream")
        self.counters = unpack_from("!8Q", fields.counters)

    def reference(self, data):
        found = reference_at(data)
        need(found is None or not is_reserved(found.position) and found.position < self.blocks, "reference", found)
        return found

    def doubled(self, data):
        """References to both copies of a page or a block of the redo list, or None."""
        first, copy = (self.reference(data[at:at + 4] + data[8:]) for at in (0, 4))
        need((first is None) == (copy is None) and (first is None or first != copy), "copies", first, copy)
        return first and (first, copy)

    def root(self, data):
        found, (depth, reserved, entries) = self.doubled(data[:20]), unpack_from("!B3sQ", data, 20)
        need(depth <= 16 and (found is not None) == (depth > 0) == (entries > 0) and not any(reserved), "root")
        return found, depth, entries

def lost_pairs(copies):
    return [at for at in (0, 1) if not any(copies[at::2])]

def choose(copies, third, faults):
    """The current commit, of four slots and the third copies in the order of their positions, None for a bad one."""
    good = sorted(filter(None, copies + third), key=lambda slot: slot.generation[:2])
    for older, newer in zip(good, good[1:]):
        rises = older.generation[:2] < newer.generation[:2] and older.fields.number < newer.fields.number
        need(rises or older.raw == newer.raw, "order of the commits", error=Tampered)
    pairs = [sorted(slot.fields.number for slot in copies[at::2] if slot) for at in (0, 1)]
    need(all(pairs) or any(third) and NewerFormat not in map(type, faults), "a pair of meta slots",
         error=NewerFormat if NewerFormat in map(type, faults) else Damaged)
    need({pair[-1] - pair[0] for pair in pairs if pair} <= {0, 2}, "numbers", error=Tampered)
    for at in lost_pairs(copies):  # the other pair holds numbers of the other parity
        most = pairs[1 - at] and pairs[1 - at][-1] + (1 if all(copies[1 - at::2]) else 2)
        need(not most or good[-1].fields.number <= most and pairs[1 - at][-1] % 2 == at, "numbers", error=Tampered)
    need(not all(pairs) or abs(pairs[0][-1] - pairs[1][-1]) == 1, "numbers", error=Tampered)
    return good[-1]

def parse_page(data, tree, level):
    tag, number, found, common, count, lowest = unpack_from("!BBBBHH", data)
    cells, end, directory = [], DATA - common, 8 + 2 * count
    need((tag, number, found) == (2 if level else 1, tree, level) and common <= 64, "head of a page")
    need(count >= 1 and directory <= end, "cells of a page", count)
    for begin in unpack_from(f"!{count}H", data, 8):
        need(directory <= begin <= end - 2, "cell of a page", begin)
        split = begin + 2 + int.from_bytes(data[begin:begin + 2], "big")
        prefix = data[DATA - common:] if cells or level == 0 else b""
        need(split <= end and split + len(prefix) <= begin + 302 and end - begin + len(prefix) <= 962, "cell of a page", begin)
        key, value, end = prefix + data[begin + 2:split], data[split:end], begin
        need(not cells or cells[-1][0] < key, "order of the keys of a page")
        need(level == 0 or (len(value) == 20 and (cells or not key)), "cell of a branch")
        cells.append((key, value))
    need(lowest == end and not any(data[directory:end]), "page", lowest)
    keys = [key for key, _ in cells[level > 0:]]
    need(common == (len(keys) > 1 and min(64, len(commonprefix(keys)))), "prefix of a page", common)
    return cells

def parse_attributes(data):
    """Returns the extended attributes of an inode, by their names."""
    found, at, last = {}, 0, b""
    need(data, "no extended attributes")
    while at < len(data):
        name_length, value_length = unpack_from("!BI", data[at:at + 5].ljust(5, b"\0"))
        name, end = data[at + 5:at + 5 + name_length], at + 5 + name_length + value_length
        need(last < name and 0 not in name and value_length <= 65536 and end <= len(data), "extended attribute", name)
        found[name], at, last = data[end - value_length:end], end, name
    return found

def short(data, most):
    need(len(data) <= most and data[:1] != b"\0", "short number", data.hex())
    return int.from_bytes(data, "big")

def short_time(data, after=(0, 0)):
    time = int.from_bytes(data, "big", signed=True)
    bits = (time if time >= 0 else ~time).bit_length()
    need(len(data) <= 12 and len(data) == (bits // 8 + 1 if time else 0), "time", data.hex())
    seconds, nanoseconds = divmod(time + after[0] * 10**9 + after[1], 10**9)
    need(-1 << 63 <= seconds < 1 << 63, "time", seconds)
    return seconds, nanoseconds

def parse_inode(number, data):
    fields, at, last = {}, 0, 0
    while at < len(data):
        (tag, length), end = divmod(int.from_bytes(data[at:at + 2], "big"), 1024), at + 2
        need(last < tag and end <= len(data) and end + length <= len(data), "field of an inode", tag)
        fields[tag], at, last = data[end:end + length], end + length, tag
    need(1 in fields and all(len(fields.get(tag, bytes(length))) == length for tag, length in FIXED.items()), "fields of inode", number)
    need(not any(fields.get(tag) == b"" for tag in range(2, 8)) and (12 in fields) == (16 in fields), "fields of inode", number)
    numbers = {tag: short(fields[tag], most) for tag, most in NUMBERS.items() if tag in fields}
    target, stream, parent, inline, extended, first = (of.get(tag) for of, tag in (
        (fields, 8), (fields, 9), (numbers, 10), (fields, 13), (fields, 14), (numbers, 15)))
    device, modified = unpack_from("!II", fields[11]) if 11 in fields else None, short_time(fields.get(5, b""))
    origin = (*short_time(fields[12], modified), numbers[16]) if 12 in fields else None
    kind, links, (mode, owner, group, size) = fields[1][0], numbers.get(7, 0) + 1, (numbers.get(tag, 0) for tag in (2, 3, 4, 6))
    need(kind in TYPES and mode <= 0o7777 and links < 1 << 32, "inode")
    has = "".join(letter for letter, of in zip("target stream slice".split(), (target, stream, first)) if of is not None)
    need(has in {1: ("", "stream", "slice"), 3: ("target", "stream")}.get(kind, ("",)), "content of an inode")
    need(first is None or size and first + size <= 1 << 63, "slice of inode", number)
    need(len(target or b"") <= 512 and len(inline or b"") <= 256, "inode")
    need((parent is not None) == (kind == 2 and number != ROOT) and parent != number, "parent of directory", number)
    need((device is not None) == (kind in (6, 7)), "numbers of device", number)
    need(inline is None or extended is None and parse_attributes(inline), "extended attributes of inode", number)
    need(extended is None or extended != stream, "extended attributes of inode", number)
    return Inode(kind, mode, owner, group, modified, size, links, target, stream, parent, device, origin, inline, extended, first)

class Archive:  # at its current commit
    def __init__(self, file, kind, secret):
        headers, self.faults = read_headers(file)
        self.header, master = headers[0].fields, headers[0].unlock(kind, secret)
        for header in headers:
            need(header.fields.archive == self.header.archive, "headers of two archives", error=Tampered)
            header.authenticate(master)
        self.sealed = Sealed(file, self.header.archive, master)
        self.headers, self.slots = headers, [attempt(self.faults, Slot, self.sealed, at) for at in (1, 2, 3, 4)]
        third = THIRD_SLOTS if lost_pairs(self.slots) and file.seek(0, 2) >= THIRD_END * BLOCK else ()
        self.slot = choose(self.slots, [attempt([], Slot, self.sealed, at) for at in third], self.faults)
        found, named = self.header.revision, self.slot.fields.header_revision
        self.faults += [Damaged("an older header") for other in headers if other.raw != headers[0].raw and found == named]
        same = found == named and hashlib.sha256(headers[0].raw).digest() == self.slot.fields.header_digest
        need(found > named or same, "revision of the header", error=Tampered)
        need(file.seek(0, 2) >= self.slot.blocks * BLOCK, "file", error=Truncated)
        need(not any(block for block, _, _ in self.slot.roots[len(TREES):]), "root of no tree", error=NewerFormat)
        self.pages, self.near = {tree: set() for tree in TREES}, 0  # pages whose copies lie close to each other
        self.read_redo()

    def check_run(self, start, count):
        within = 1 <= count <= self.slot.blocks - start
        need(within and not is_reserved(start, count), "run of blocks", start, count)

    def read_redo(self):
        """Reads the redo list, newest first: shadow block and generation of each place, and the list's blocks."""
        self.redo, self.redo_blocks, length, index = {}, [], 0, None
        copies = self.slot.redo_head
        while copies and (block := self.open_copies("meta", copies, own_stream(0x102))):
            tag, count = unpack_from("!4sH", block.data)
            need(tag == b"redo" and 1 <= count <= 199 and not any(block.data[28 + 20 * count:] + block.data[6:8]), "redo block")
            self.redo_blocks += [copy.position for copy in copies]
            for at in range(28, 28 + 20 * count, 20):
                (place,), spare = unpack_from("!i", block.data, at), self.slot.reference(block.data[at + 4:at + 20])
                self.check_run(place, 1)
                need(not spare or spare.position != place, "place", place)
                self.redo.setdefault(place, spare)
            copies, length = self.slot.doubled(block.data[8:28]), length + count
            ends = (block.index == 0) == (copies is None) and (block.previous, block.next) == (-1, -1)
            need(ends and index in (None, block.index + 1), "head of a redo block", error=Tampered)
            index = block.index
        need(copies or length == self.slot.fields.redo_length, "length of the redo list")
        self.redo = {place: spare for place, spare in self.redo.items() if spare}
        self.redo_blocks += [spare.position for spare in self.redo.values()]
        taken = set(self.redo_blocks)
        need(len(taken) == len(self.redo_blocks) and not taken & self.redo.keys(), "a block twice in the redo list")

    def open_copies(self, kind, copies, *expected):
        """Opens both copies of a block. If neither opens, what only it leads to is lost."""
        blocks = [attempt(self.faults, self.sealed.open_as, kind, copy, *expected) for copy in copies]
        attempt(self.faults, need, None in blocks or blocks[0] == blocks[1], "copies of block", copies[0].position)
        return blocks[0] or blocks[1]

    def walk(self, tree):
        """Yields keys and values of a tree, in order. Adds the positions of its pages to `self.pages`."""
        block, depth, entries = self.slot.roots[list(TREES).index(tree)]
        self.pages[tree] = set()
        if block is not None:
            found = list(self.walk_page(tree, block, depth - 1, b"", None))
            need(len(found) == entries, "number of entries of", tree)
            for lengths, of in zip(TREES[tree], zip(*found)):
                need(lengths is None or set(map(len, of)) == {lengths}, "length of key or value in", tree)
            yield from found

    def walk_page(self, tree, copies, level, low, high):
        number, reference = list(TREES).index(tree), copies[0]
        for position in (copy.position for copy in copies):
            need(position not in self.pages[tree], "page", position, "is named twice")
            self.pages[tree].add(position)
        self.near += abs(copies[0].position - copies[1].position) < 256
        block = self.open_copies("registry", copies, own_stream(number), level)
        need(block, "page", reference.position, "has no good copy")
        cells = parse_page(block.data, number, level)
        for at, (key, value) in enumerate(cells):
            within = (low < key if level else low <= key) and (high is None or key < high)
            need(within or level and not at, "key in page", reference.position)
            if level == 0:
                yield key, value
            else:
                child, after = self.slot.doubled(value), cells[at + 1][0] if at + 1 < len(cells) else high
                need(child is not None, "child of page", reference.position)
                yield from self.walk_page(tree, child, level - 1, key if at else low, after)

    def streams(self):
        streams = {stream.identity: stream for stream in self.slot.streams}
        for key, value in self.walk("streams"):
            need(key not in streams, "record of a reserved stream", key.hex())
            streams[key] = parse_stream(key + value, key)
        return streams

    def extents(self):
        extents = {}
        for key, value in self.walk("extents"):
            (first,), run = unpack_from("!I", key, 16), Run.at(value)
            self.check_run(*run)
            extents.setdefault(key[:16], []).append(Extent(first, *run, Generation.at(value, 8)))
        return extents

    def extents_of(self, stream, extents):
        """Returns the extents of a stream, given those in the registry."""
        found, covered, name = extents.get(stream.identity, []), 0, stream.identity.hex()
        if stream.flags == 1:
            need(not found, "extents of a stream of one run", name)
            found = [Extent(0, stream.begin, stream.count, Generation.at(stream.generation))] if stream.count else []
        for extent in found:
            self.check_run(extent.start, extent.count)
            need(extent.first == covered, "extents of stream", name)
            covered += extent.count
        need(covered == stream.count, "extents of stream", name)
        ends = (found[0].start, found[-1].start + found[-1].count - 1) if found else (-1, -1)
        need(ends == (stream.begin, stream.end), "ends of stream", name)
        return found

    def blocks(self, stream, extents):
        """Yields the blocks of a stream in order, each with its position. Their links must match the extents."""
        previous, found = -1, self.extents_of(stream, extents)
        for extent, after in zip(found, [extent.start for extent in found[1:]] + [-1]):
            last = extent.start + extent.count - 1
            for position in range(extent.start, last + 1):
                index = extent.first + position - extent.start
                reference = Reference(position, extent.generation)
                shadow = self.redo[position].position if position in self.redo else None
                block = self.sealed.open_as("data", reference, stream.identity, index, shadow)
                links = previous, after if position == last else position + 1
                need((block.previous, block.next) == links, "links of block", position, error=Tampered)
                previous = position
                yield position, block

    def read(self, identity, tables):
        need(identity in tables[0], "no such stream", identity.hex(), error=ArchiveError)
        stream = tables[0][identity]
        return b"".join(block.data for _, block in self.blocks(stream, tables[1]))[:stream.length]

    def tables(self):
        """Returns the streams, the extents and the packed content."""
        tables = self.streams(), self.extents()
        return *tables, Packed(self, partial(self.read, tables=tables))

    def names(self):
        names = {}
        for key, value in self.walk("names"):
            directory, name, kind = int.from_bytes(key[:8], "big"), key[8:], value[0] if value else 0
            number = short(value[1:], 8)
            sound = 0 < len(name) < 256 and not {b"/"[0], 0} & set(name) and name not in (b".", b"..")
            need(sound and kind in TYPES, "name", name)
            names[directory, name] = number, kind
        return names

    def inodes(self):
        return {(number := int.from_bytes(key, "big")): parse_inode(number, value) for key, value in self.walk("inodes")}
