"""A reader of ar7 archives, written from FORMAT.md alone.

usage: reader.py info|ls|streams|verify ARCHIVE...
       reader.py cat PATH|UUID ARCHIVE

AR7_KEY_FILE names a file with a key of 32 bytes, or else AR7_PASSPHRASE is a passphrase. Output is JSON in lines.
"""
import hashlib
import json
import os
import sys
import uuid

from archive import ROOT, TREES, TYPES, Archive, parse_attributes
from packs import OWNER
from sealed import ArchiveError, need
from verify import Verifier

def text(name, data):
    fields = {name: data.decode(errors="replace")}  # and in hexadecimal if they are not UTF-8
    return fields if fields[name].encode() == data else {**fields, name + "_bytes": data.hex()}

def info(archive, _):
    header, slot = archive.header, archive.slot
    yield {"kind": ["single", "fixed", "dynamic"][header.kind - 1], "id": str(uuid.UUID(bytes=header.archive)),
           "blocks": slot.blocks, "generation": slot.generation, "redo_places": sorted(archive.redo),
           **{tree: entries for tree, (_, _, entries) in zip(TREES, slot.roots)}}

def streams(archive, _):
    tables = archive.tables()
    for identity, stream in tables[0].items():
        if stream.inode == OWNER:
            continue
        yield {"stream": str(uuid.UUID(bytes=identity)), "blocks": stream.count, "size": stream.length,
               **({"inode": stream.inode} if stream.inode else {}), "sha256": hashlib.sha256(archive.read(identity, tables)).hexdigest()}

def content(archive, inode, tables):
    if inode.slice is not None:
        return tables[2].read(inode.slice, inode.size)
    return archive.read(inode.stream, tables) if inode.stream else inode.target or b""

def attributes(archive, inode, tables):
    data = archive.read(inode.extended, tables) if inode.extended else inode.inline
    return parse_attributes(data) if data is not None else {}

def entries(archive):
    """Yields path, number and inode of every entry, each directory before its entries."""
    inodes, below = archive.inodes(), {}
    for (directory, name), (number, kind) in archive.names().items():
        need(number in inodes and inodes[number].kind == kind, "name", name)
        need(kind != 2 or inodes[number].parent == directory, "parent of directory", name)
        below.setdefault(directory, []).append((name, number))
    waiting = below.pop(ROOT, [])[::-1]
    while waiting:
        path, number = waiting.pop()
        yield path, number, inodes[number]
        if inodes[number].kind == 2:  # entered once, even if it has several names
            waiting += [(path + b"/" + name, inner) for name, inner in reversed(below.pop(number, []))]

def ls(archive, _):
    tables = archive.tables()
    for path, number, inode in entries(archive):
        data = content(archive, inode, tables)
        extended = [[name.hex(), len(value), hashlib.sha256(value).hexdigest()]
                    for name, value in attributes(archive, inode, tables).items()]
        yield {**text("name", path), "type": TYPES[inode.kind], "inode": number, "mode": f"{inode.mode:04o}",
               "links": inode.links, "uid": inode.owner, "gid": inode.group, "size": inode.size,
               **({"stream": str(uuid.UUID(bytes=inode.stream))} if inode.stream else {}),
               **(text("target", data) if inode.kind == 3 else {}), "sha256": hashlib.sha256(data).hexdigest(),
               "device": inode.device, "origin": inode.origin, "attributes": extended}

def cat(archive, wanted):
    tables = archive.tables()
    found = [inode for path, _, inode in entries(archive) if path == os.fsencode(wanted)]
    named = [identity for identity in tables[0] if str(uuid.UUID(bytes=identity)) == wanted]
    need(found or named, "no such entry", wanted, error=ArchiveError)
    sys.stdout.buffer.write(content(archive, found[0], tables) if found else archive.read(named[0], tables))
    return ()

def verify(archive, _):
    found = Verifier(archive).run()
    yield {"blocks": archive.slot.blocks, **{name: found.marks.count(mark) for name, mark in MARKS.items()},
           "pages": found.marks.count(b"p") // 2, "names": len(found.names), "findings": [f"{type(error).__name__}: {error}" for error in found.findings]}

MARKS = {"data_blocks": b"s", "free_blocks": b"f", "redo_blocks": b"l"}
COMMANDS = {"info": info, "ls": ls, "streams": streams, "verify": verify, "cat": cat}

def run(command, wanted, path, *secret):
    try:
        with open(path, "rb") as file:
            row = {}
            for row in COMMANDS[command](Archive(file, *secret), wanted):
                print(json.dumps(row))
            return 4 if row.get("findings") else 0
    except ArchiveError as error:
        print(json.dumps({"error": type(error).__name__, "what": str(error)}))
        return error.code

def main(command="", *paths):
    wanted, *paths = paths if command == "cat" and len(paths) == 2 else [None, *paths]
    kind, secret = 2, os.environb.get(b"AR7_PASSPHRASE")
    if os.environ.get("AR7_KEY_FILE"):
        with open(os.environ["AR7_KEY_FILE"], "rb") as file:
            kind, secret = 1, file.read()
    is_usage = command in COMMANDS and paths and (command == "cat") == bool(wanted)
    if not is_usage or not secret or kind == 1 and len(secret) != 32:
        sys.exit(__doc__)
    sys.exit(max([run(command, wanted, path, kind, secret) for path in paths]))

if __name__ == "__main__":
    main(*sys.argv[1:])
