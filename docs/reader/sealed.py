"""The header, the keys and the sealed block: the first four sections of FORMAT.md."""
import hashlib
import hmac
from collections import namedtuple
from struct import Struct

from argon2.low_level import Type, hash_secret_raw
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as aead_open
from nacl.exceptions import CryptoError

BLOCK, DATA, RESERVED, BLOCKS_MAX, MAGIC = 4096, 4008, 8, 2**31 - 1, b"\x89ar7 archive\r\n\x1a\n"
THIRD_HEADER, THIRD_SLOTS, THIRD_END = 256, (257, 258), 259

class ArchiveError(Exception):
    """An error; `code` is the exit code of the command."""
    code = 1

NotAnArchive, WrongKey, Damaged, Tampered, Truncated, NewerFormat = (
    type(name, (ArchiveError,), {"code": code}) for name, code in [
        ("NotAnArchive", 4), ("WrongKey", 3), ("Damaged", 4), ("Tampered", 4), ("Truncated", 4), ("NewerFormat", 6)])

def need(condition, *words, error=Damaged):
    if not condition:
        raise error(" ".join(map(str, words)))

def attempt(faults, action, *arguments):
    """Returns the result of the action; adds an error to `faults`."""
    try:
        return action(*arguments)
    except ArchiveError as error:
        faults.append(error)

def is_reserved(start, count=1):
    return start < RESERVED or start < THIRD_END and start + count > THIRD_HEADER

def layout(name, form, fields):
    """Returns a type for records of FORMAT.md; `at` reads one."""
    struct, record = Struct("!" + form), namedtuple(name, fields)
    record.at = classmethod(lambda cls, data, offset=0: cls._make(struct.unpack_from(data, offset)))
    return record

Generation = layout("Generation", "III", "session step salt")
Reference = layout("Reference", "i12s", "position generation")
Header = layout("Header", "16sII16xQ16sB3sqIQ2048s1896s32s32s", "magic version length required archive kind reserved "
                "seconds nanoseconds revision slots tail mac checksum")
KeySlot = layout("KeySlot", "BBHIII32s64s32s24s48s40s", "kind label_length reserved memory passes lanes salt label "
                 "commitment nonce wrapped unused")
Plain = layout("Plain", "iiI16s20s4008s", "previous next index stream digest data")
Block = namedtuple("Block", "generation previous next index stream data")

def reference_at(data):
    """Returns a block reference, or None. Does not compare its position with the number of blocks."""
    position, generation = Reference.at(data)
    need(-1 <= position < BLOCKS_MAX and (position >= 0 or not any(generation)), "reference", position)
    return Reference(position, Generation.at(generation)) if position >= 0 else None

def hkdf(key, salt, info):  # HKDF-SHA256 with 32 bytes of output, which is one round of expansion
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\x01", "sha256")

class ReadHeader:  # one copy of the header: its fields, and the bytes that they were read from
    def __init__(self, raw):
        self.raw, self.fields = raw, (fields := Header.at(raw))
        need(fields.magic == MAGIC, "no magic", error=NotAnArchive)
        need(fields.version <= 1 and fields.required == 0, "version or features", error=NewerFormat)
        need(hashlib.sha256(raw[:4064]).digest() == fields.checksum, "checksum of the header")
        need(fields.kind <= 3, "kind of archive", fields.kind, error=NewerFormat)
        need(fields.version == 1 and fields.kind != 0 and fields.nanoseconds < 10**9, "header")
        need(2136 <= fields.length <= 4032 and not any(fields.reserved + raw[fields.length:4032]), "header")
        self.slots = [KeySlot.at(fields.slots, at) for at in range(0, 2048, 256)]
        for slot in self.slots:
            need(slot.kind <= 2, "kind of key slot", slot.kind, error=NewerFormat)
            need(slot.kind or not any(slot[:6]) and not any(b"".join(slot[6:])), "empty key slot")
            need(slot.label_length <= 64 and not any(slot.label[slot.label_length:]), "label of a key slot")
            need(not slot.reserved and not any(slot.unused) and (slot.kind == 2 or not any(slot[3:6])), "key slot")

    def unlock(self, kind, secret):
        """Returns the master key. Checks the bounds of the costs before it allocates memory."""
        costs = [slot[3:6] for slot in self.slots if slot.kind == 2]
        need(all(1 <= lanes <= 16 and passes >= 1 and memory >= 8 * lanes for memory, passes, lanes in costs), "costs")
        sums = (sum(cost) for cost in zip(*((memory, passes, memory * passes) for memory, passes, _ in costs)))
        need(all(found <= most for found, most in zip(sums, (2**20, 64, 2**24))), "costs of all slots")
        for number, slot in enumerate(self.slots):
            if slot.kind == kind and (master := self.open_slot(number, slot, secret)):
                return master
        raise WrongKey("no key slot opens with it")

    def open_slot(self, number, slot, secret):
        """Returns the master key, or None if the secret does not belong to this slot."""
        if slot.kind == 2:
            secret = hash_secret_raw(secret, slot.salt, time_cost=slot.passes, memory_cost=slot.memory,
                                     parallelism=slot.lanes, hash_len=32, type=Type.ID, version=0x13)
        if not hmac.compare_digest(hkdf(secret, slot.salt, b"ar7 v1 commitment"), slot.commitment):
            return None
        bound = b"ar7 slot v1" + self.fields.archive + bytes([number]) + self.raw[88 + 256 * number:256 + 256 * number]
        try:
            return aead_open(slot.wrapped, bound, slot.nonce, hkdf(secret, slot.salt, b"ar7 v1 wrapping"))
        except CryptoError:
            raise Tampered(f"key slot {number}") from None

    def authenticate(self, master):
        code = hmac.digest(hkdf(master, self.fields.archive, b"ar7 v1 header"), self.raw[:4032], "sha256")
        need(hmac.compare_digest(code, self.fields.mac), "code of the header", error=Tampered)

def read_headers(file):
    """Returns the copies that parse, the current one first, and the errors of the others."""
    length, _, begin, bad, copies = file.seek(0, 2), file.seek(0), file.read(16), [], []
    if length < RESERVED * BLOCK:
        raise Truncated(f"{length} bytes") if begin and MAGIC.startswith(begin) else NotAnArchive("no magic")
    for at in (0, 7, THIRD_HEADER):
        if at < RESERVED or not any(copies) and length >= THIRD_END * BLOCK and NewerFormat not in map(type, bad):
            file.seek(at * BLOCK)
            copies.append(attempt(bad, ReadHeader, file.read(BLOCK)))
    if not any(copies):
        raise next((error for error in bad if not isinstance(error, NotAnArchive)), bad[0])
    return sorted(filter(None, copies), key=lambda header: -header.fields.revision), bad

class Sealed:  # the blocks of a file, opened with the keys of one archive
    def __init__(self, file, archive, master):
        self.file, self.archive = file, archive
        self.keys = {kind: hkdf(master, archive, b"ar7 v1 " + kind.encode()) for kind in ("data", "registry", "meta")}

    def open(self, kind, position, read_at=None):
        """Returns the block sealed for `position`, read from there or from a shadow block."""
        self.file.seek((position if read_at is None else read_at) * BLOCK)
        raw = self.file.read(BLOCK)
        bound = b"ar7 block v1" + self.archive + position.to_bytes(4, "big")
        try:
            plain = Plain.at(aead_open(raw[24:], bound, raw[:24], self.keys[kind]))
        except (CryptoError, ValueError):
            raise Damaged(f"block {position} does not open") from None
        need(hashlib.sha1(plain.data).digest() == plain.digest, "digest of block", position)
        need(all(-1 <= link < BLOCKS_MAX and link != position for link in plain[:2]), "links of block", position)
        return Block(Generation.at(raw), *plain[:4], plain.data)

    def open_as(self, kind, reference, stream, index=None, read_at=None):
        """Returns the block if its version, stream and index, if given, are those of the reference."""
        block = self.open(kind, reference.position, read_at)
        same = (block.generation, block.stream) == (reference.generation, stream) and index in (None, block.index)
        need(same, "block", reference.position, "is another", error=Tampered)
        return block
