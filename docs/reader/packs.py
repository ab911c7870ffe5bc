"""Packed content: the frames that hold it, the packs that they are in, and the slices of a frame."""
from bisect import bisect_right
from functools import lru_cache
from struct import iter_unpack, unpack

import zstandard

from sealed import DATA, Damaged, layout, need

FRAME_MAX, SLICES_MAX, ADDRESS_MAX, OWNER = 262_144, 8192, 1 << 63, 2**64 - 1  # OWNER is the inode of packs
HEAD, SLICE = 24, 16
Frame = layout("Frame", "16sIIQQQB", "pack offset stored length written live method")
Head = layout("Head", "4sQIIHBB", "tag first length stored slices method reserved")
Pack = layout("Pack", "II", "used live")

def parse_frame(first, data):
    frame = Frame.at(data)
    bound, stored = (FRAME_MAX, FRAME_MAX + SLICES_MAX * SLICE) if frame.method else (ADDRESS_MAX, 0)
    sound = frame.method <= 2 and 1 <= frame.live <= frame.written <= frame.length <= bound
    sound &= any(frame.pack) and 1 <= frame.stored <= stored if frame.method else not any(data[:24])
    need(sound and first + frame.length <= ADDRESS_MAX, "record of frame", first)
    return frame

def live_bytes(frame):
    used = frame.stored + HEAD
    return min(-(-used * frame.live // frame.written), used - (frame.live < frame.written))

def decompress(stored, length):
    """Decodes exactly one frame of Zstandard, which states its length and needs no dictionary."""
    try:
        stated = zstandard.get_frame_parameters(stored)
        need((stated.content_size, stated.dict_id) == (length, 0), "length or dictionary of compressed frame", stated.content_size)
        return zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"compressed frame: {error}") from None

def decode(pack, at):
    """Returns head, content and slices (inode, start, length) of the frame at an offset of a pack."""
    need(at + HEAD <= len(pack), "end of the head of frame at", at)
    head, end = Head.at(pack, at), 0
    length, stored = head.length + SLICE * head.slices, pack[at + HEAD:at + HEAD + head.stored]
    need(head.tag == b"fram" and head.method in (1, 2) and head.reserved == 0, "head of frame at", at)
    need(1 <= head.length <= FRAME_MAX and 1 <= head.slices <= SLICES_MAX, "lengths of frame at", at)
    need(head.stored == length if head.method == 1 else 1 <= head.stored < length, "stored length of frame at", at)
    need(len(stored) == head.stored, "end of frame at", at)
    plain = stored if head.method == 1 else decompress(stored, length)
    need(len(plain) == length, "decoded length of frame at", at)
    slices = list(iter_unpack("!QII", plain[head.length:]))
    for _, start, size in slices:
        need(end <= start and 1 <= size <= head.length - start, "slices of frame at", at)
        end = start + size
    return head, plain[:head.length], slices

class Packed:
    """The packed content of an archive. `read` returns the bytes of a stream."""
    def __init__(self, archive, read):
        frames, packs, dead = (list(archive.walk(tree)) for tree in ("frames", "packs", "dead_slices"))
        self.frames = {first: parse_frame(first, value) for key, value in frames for first in unpack("!Q", key)}
        self.packs = {key: Pack.at(value) for key, value in packs}
        self.dead = [unpack("!QQ", key + value) for key, value in dead]
        self.firsts, ends = list(self.frames), [first + frame.length for first, frame in self.frames.items()]
        need(all(end <= after for end, after in zip(ends, self.firsts[1:])), "frames that overlap")
        need(not ends or ends[-1] <= archive.slot.counters[2], "next address")
        need(all(1 <= pack.live <= pack.used for pack in self.packs.values()), "live bytes of a pack")
        need(all(length and first + length <= ADDRESS_MAX for first, length in self.dead), "dead slice")
        self.pack, self.content = lru_cache(4)(read), lru_cache(16)(self.decode_frame)

    def decode_frame(self, first):
        """Returns the content of the frame with this first address."""
        frame = self.frames[first]
        head, content, _ = decode(self.pack(frame.pack), frame.offset)
        same = (head.first, head.length, head.stored, head.method) == (first, frame.length, frame.stored, frame.method)
        need(same, "frame", first, "is another")
        return content

    def read(self, at, length):
        end, parts = at + length, []
        while at < end:
            first = self.firsts[bisect_right(self.firsts, at) - 1] if self.firsts else ADDRESS_MAX
            need(first <= at < first + self.frames[first].length, "no frame for address", at)
            after = min(end, first + self.frames[first].length)
            is_hole = self.frames[first].method == 0
            parts.append(bytes(after - at) if is_hole else self.content(first)[at - first:after - first])
            at = after
        return b"".join(parts)

    def frames_of(self, identity):
        """Yields first address (None if not in use), length and slices of every frame of a pack."""
        data, at = self.pack(identity), 0
        indexed = {frame.offset: first for first, frame in self.frames.items() if frame.pack == identity}
        while at < len(data):
            if any(data[at:at + 4]):
                head, _, slices = decode(data, at)
                yield (first := indexed.pop(at, None)), HEAD + head.stored, slices
                need(first is None or self.decode_frame(first), "frame at", at)
                at += HEAD + head.stored
            else:  # the next frame begins in the next block
                at, gap = (at // DATA + 1) * DATA, data[at:(at // DATA + 1) * DATA]
                need(not any(gap), "gap before", at)
        need(not indexed, "frames that are not in pack", identity.hex())
