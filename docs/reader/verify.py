"""Verification: every block by its extents, with its links; every run, name and inode; every block has one use."""
from bisect import bisect_right
from functools import partial

from archive import ROOT, TREES, Run, Slot, own_stream, parse_attributes, parse_stream
from packs import OWNER, Packed, live_bytes
from sealed import BLOCK, RESERVED, THIRD_END, THIRD_HEADER, THIRD_SLOTS, attempt, is_reserved, need

class Verifier:
    def __init__(self, archive):
        self.archive, self.findings = archive, archive.faults
        self.check = partial(attempt, self.findings)
        self.marks = bytearray(ord("r") * is_reserved(at) for at in range(archive.slot.blocks))

    def run(self):
        archive = self.archive
        self.check(self.blanks)
        self.check(self.third_copies)
        self.streams, self.extents, self.names, self.inodes = (
            self.check(table) or {} for table in (archive.streams, archive.extents, archive.names, archive.inodes))
        self.packed = self.check(Packed, archive, lambda identity: archive.read(identity, (self.streams, self.extents)))
        deletions, runs = self.check(self.read_deletions) or {}, self.check(self.read_free) or []
        self.check(list, archive.walk("sessions"))
        self.check(need, archive.near == archive.slot.counters[1] or archive.faults, "number of pages with near copies")
        for tree in TREES:
            for page in archive.pages[tree]:
                self.check(self.take, page, 1, b"p", "page of", tree)
        for block in archive.redo_blocks:
            self.check(self.take, block, 1, b"l", "redo list")
        for stream in self.streams.values():
            self.check(self.by_extents, stream)
        for stream in deletions.values():
            self.check(self.deleted_extents, stream)
        self.check(need, self.extents.keys() <= self.streams.keys() | deletions.keys(), "extents of no stream")
        for run in runs:
            self.check(self.take, *run, b"f", "free run")
        for position in range(RESERVED, archive.slot.blocks):
            self.check(need, self.marks[position], "block", position, "is neither used nor free")
        self.check(self.check_names)
        self.check(self.check_packed)
        return self

    def take(self, start, count, mark, *words):
        self.archive.check_run(start, count)
        need(not any(self.marks[start:start + count]), *words, start, count, "is taken already")
        self.marks[start:start + count] = mark * count

    def blanks(self):
        for block in (self.archive.sealed.open("data", position) for position in (5, 6)):
            need(block[1:] == (-1, -1, 0, bytes(16), bytes(len(block.data))), "reserved block")

    def third_copies(self):
        archive, last, file = self.archive, self.archive.slot.fields.number, self.archive.sealed.file
        if archive.slot.blocks >= THIRD_END:
            slots = [(found.fields.number, found.blocks >= THIRD_END) for found in archive.slots if found]
            had_third = (last - 1, True) in slots  # a crash may tear what the current commit wrote
            file.seek(THIRD_HEADER * BLOCK)
            is_newer = archive.header.revision > archive.slot.fields.header_revision  # an unfinished change
            is_sound = file.read(BLOCK) in [header.raw for header in archive.headers] or not had_third
            self.check(need, is_newer or is_sound, "third copy of the header")
            faults = {last: [], last - 1: self.findings if had_third else []}
            third = [attempt(faults[at], Slot, archive.sealed, THIRD_SLOTS[at % 2]) for at in faults]
            newest = max([found.fields.number for found in third if found], default=last)
            need((last - 1 if had_third else 0) <= newest <= last, "third copies of meta slots", newest)

    def read_deletions(self):
        deletions = {key: parse_stream(key + value, key) for key, value in self.archive.walk("deletions")}
        need(not deletions.keys() & self.streams.keys(), "a stream that is deleted and is not")
        return deletions

    def read_free(self):
        runs = [Run.at(key + value) for key, value in self.archive.walk("free")]
        need(all(sum(run) < after.start for run, after in zip(runs, runs[1:])), "free runs that touch")
        need(sum(run.count for run in runs) == self.archive.slot.counters[7], "number of free blocks")
        return runs + self.archive.slot.inline_free

    def deleted_extents(self, stream):  # only the last extents may be left, or none
        need(stream.flags == 0 and stream.inode == 0, "a deleted stream of one run, or of an inode")
        extents = self.extents.get(stream.identity, [])
        for extent, after in zip(extents, [extent.first for extent in extents[1:]] + [stream.count]):
            need(extent.first + extent.count == after, "extents of a deleted stream", stream.identity.hex())
            self.take(extent.start, extent.count, b"d", "deleted stream", stream.identity.hex())

    def by_extents(self, stream):
        for position, _ in self.archive.blocks(stream, self.extents):
            self.take(position, 1, b"s", "stream", stream.identity.hex())

    def check_names(self):
        links, inside = {ROOT: 1}, {ROOT: []}
        need(OWNER not in self.inodes, "an inode with the number of packs")
        for (directory, name), (number, kind) in self.names.items():
            need(number != ROOT and number in self.inodes and self.inodes[number].kind == kind, "name", name)
            need(directory == ROOT or directory in self.inodes and self.inodes[directory].kind == 2, "name", name)
            need(kind != 2 or number not in links, "second name of a directory", name)
            need(kind != 2 or self.inodes[number].parent == directory, "parent of directory", name)
            links[number] = links.get(number, 0) + 1
            inside.setdefault(directory, []).extend([number] * (kind == 2))
        for number, inode in self.inodes.items():
            need(inode.links == links.get(number, 0), "number of names of inode", number)
            length = len(inode.target or b"")
            if inode.stream is not None:
                need(getattr(self.streams.get(inode.stream), "inode", None) == number, "stream of inode", number)
                length = self.streams[inode.stream].length
            length = inode.size if inode.slice is not None else length  # which `check_packed` compares
            need(inode.size == length, "length of inode", number)
            if inode.extended is not None:
                stream = self.streams.get(inode.extended)
                need(stream and stream.inode == number and stream.length <= 1 << 20, "attributes of inode", number)
                parse_attributes(self.archive.read(inode.extended, (self.streams, self.extents)))
        for stream in self.streams.values():
            inode = self.inodes.get(stream.inode)
            owned = inode and stream.identity in (inode.stream, inode.extended)
            is_pack = stream.inode == OWNER and self.packed and stream.identity in self.packed.packs
            need(stream.inode == 0 or owned or is_pack, "inode of stream", stream.identity.hex())
        way = [ROOT]
        for directory in way:  # a directory has one name, so each occurs once
            way += inside.get(directory, [])
        need(inside.keys() <= set(way), "a directory that nothing leads to from the root")

    def check_packed(self):
        """Checks that frames, packs and slices agree on what is in use."""
        need(self.packed, "no frames")
        frames, packs, counters = self.packed.frames.values(), self.packed.packs, self.archive.slot.counters
        slices = [(inode.slice, inode.size, number) for number, inode in self.inodes.items() if inode.slice is not None]
        self.slices = sorted(slices + [(*dead, -1) for dead in self.packed.dead])
        self.ends = [first + length for first, length, _ in self.slices]
        overlap = any(end > after[0] for end, after in zip(self.ends, self.slices[1:]))
        self.check(need, not overlap, "slices that overlap")
        live = sum(length for _, length, _ in self.slices)
        self.check(need, sum(frame.live for frame in frames) == live, "live addresses of all frames", live)
        self.check(need, sum(pack.used for pack in packs.values()) == counters[3], "counter of used bytes", counters[3])
        self.check(need, sum(pack.live for pack in packs.values()) == counters[4], "counter of live bytes", counters[4])
        self.check(need, {frame.pack for frame in frames if frame.method} <= packs.keys(), "frame in no pack")
        for identity, pack in packs.items():
            self.check(self.check_pack, identity, pack)

    def check_pack(self, identity, pack):
        frames, name, used, live = self.packed.frames, identity.hex(), 0, 0
        need(getattr(self.streams.get(identity), "inode", None) == OWNER, "stream of pack", name)
        for first, size, slices in self.packed.frames_of(identity):
            used += size
            if first is not None:
                live += live_bytes(frames[first])
                counted = [(length, length * self.is_live(inode, first + at, length)) for inode, at, length in slices]
                same = tuple(map(sum, zip(*counted))) == (frames[first].written, frames[first].live)
                self.check(need, same, "written and live addresses of frame", first)
        self.check(need, used == pack.used, "used bytes of pack", name, used)
        self.check(need, live == pack.live, "live bytes of pack", name, live)

    def is_live(self, inode, begin, length):
        """Returns whether the addresses belong to the inode, or to a deleted file."""
        at = bisect_right(self.ends, begin)
        first, _, owner = self.slices[at] if at < len(self.slices) else (begin + 1, 0, None)
        return first <= begin and begin + length <= self.ends[at] and owner in (inode, -1)
