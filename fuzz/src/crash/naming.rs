//! Operations on names, applied to an archive and to the model of its content.

use ar7_registry::names::Names;
use ar7_registry::records::{EntryType, InodeNumber};
use ar7_registry::{Archive, Error, Result};
use uuid::Uuid;

use super::content::{Content, Node, attributes, chosen, nth, usize_of};

/// The directory with which every scenario starts.
const DIRECTORY: &[u8] = b"d";

/// Creates the directory with which every scenario starts.
pub(crate) fn make_directory(archive: &Archive, model: &mut Content) -> Result<()> {
    let root = archive.names().resolve(b"")?;
    assert_eq!(root.kind, EntryType::Directory, "the root is a directory");
    add(archive, model, [b"/", DIRECTORY].concat(), Node::new(EntryType::Directory))
}

/// Creates an empty file at an unused path.
pub(crate) fn add_empty_file(archive: &Archive, model: &mut Content, path: Vec<u8>) -> Result<()> {
    add(archive, model, path, Node::new(EntryType::File))
}

/// Creates a stream, and a file for it if the name is unused.
pub(super) fn create(
    archive: &Archive,
    model: &mut Content,
    bytes: &[u8],
    name: Option<u8>,
) -> Result<()> {
    let path = name.map(path).filter(|path| is_free(model, path));
    add_stream(archive, model, path, bytes)
}

/// Packs content for a file, or removes the file.
pub(super) fn pack(archive: &Archive, model: &mut Content, name: u8, bytes: &[u8]) -> Result<()> {
    pack_pieces(archive, model, name, &[bytes])
}

/// Packs content with a hole in the middle.
pub(super) fn pack_hole(
    archive: &Archive,
    model: &mut Content,
    name: u8,
    bytes: &[u8],
) -> Result<()> {
    pack_pieces(archive, model, name, &[bytes, &vec![0; 3 * bytes.len()], bytes])
}

/// Packs pieces of content for a file: every second one is a hole. Removes the file if they are empty.
fn pack_pieces(archive: &Archive, model: &mut Content, name: u8, pieces: &[&[u8]]) -> Result<()> {
    let (path, names, bytes) = (path(name), archive.names(), pieces.concat());
    let existing = model.names.get(&path).copied();
    if existing.is_none() && !is_free(model, &path) {
        return Ok(());
    }
    let (directory, name) = place(&names, &path)?;
    if existing.is_some() && bytes.is_empty() {
        names.remove(directory, name)?;
        forget_name(model, &path);
        return Ok(());
    }
    if existing.is_some_and(|number| model.nodes[&number].kind != EntryType::File) {
        return Ok(());
    }
    let mut packed = names.begin_packed(existing)?;
    for (number, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.is_empty()) {
        if number % 2 == 1 {
            names.append_hole(&mut packed, size_of(piece))?;
            continue;
        }
        for part in piece.chunks(100_000) {
            names.append_packed(&mut packed, part)?;
        }
    }
    let number = match existing {
        Some(number) => {
            names.replace_with_packed(packed, attributes())?;
            number
        }
        None => names.add_packed(directory, name, attributes(), packed)?,
    };
    let links = existing.map_or(1, |number| model.nodes[&number].links);
    if let Some(identity) = existing.and_then(|number| model.nodes[&number].stream) {
        forget_stream(model, identity);
    }
    let (file, size) = (Node::new(EntryType::File), size_of(&bytes));
    let content = (!bytes.is_empty()).then_some(bytes);
    model.nodes.insert(number, Node { links, size, packed: content, ..file });
    model.names.insert(path, number);
    Ok(())
}

/// Writes to a packed file with holes, or gives any other one a stream of its own.
pub(super) fn change_packed(
    archive: &Archive,
    model: &mut Content,
    file: u32,
    offset: u32,
    new: &[u8],
) -> Result<()> {
    let packed = model.nodes.iter().filter(|(_, node)| node.packed.is_some());
    let packed: Vec<InodeNumber> = packed.map(|(number, _)| *number).collect();
    let Some(&number) = nth(&packed, file) else { return Ok(()) };
    let is_written = archive.names().write_packed(number, Some(offset.into()), new)?;
    let stream = if is_written { None } else { archive.names().unpack(number)? };
    let node = model.nodes.get_mut(&number).expect("a packed file");
    if let Some(identity) = stream {
        let bytes = node.packed.take().expect("packed content");
        node.stream = Some(identity);
        model.streams.insert(identity, bytes);
    } else if !new.is_empty() {
        let bytes = node.packed.as_mut().expect("packed content");
        let (begin, end) = (usize_of(offset), usize_of(offset) + new.len());
        bytes.resize(bytes.len().max(end), 0);
        bytes[begin..end].copy_from_slice(new);
        node.size = size_of(bytes);
    }
    Ok(())
}

pub(super) fn add_directory(
    archive: &Archive,
    model: &mut Content,
    inside: u32,
    name: u8,
) -> Result<()> {
    let Some(path) = free_path(model, inside, name) else { return Ok(()) };
    add(archive, model, path, Node::new(EntryType::Directory))
}

pub(super) fn put_file(
    archive: &Archive,
    model: &mut Content,
    inside: u32,
    name: u8,
    bytes: &[u8],
) -> Result<()> {
    let Some(path) = free_path(model, inside, name) else { return Ok(()) };
    if bytes.is_empty() {
        return add_empty_file(archive, model, path);
    }
    add_stream(archive, model, Some(path), bytes)
}

pub(super) fn link(
    archive: &Archive,
    model: &mut Content,
    from: u32,
    inside: u32,
    name: u8,
) -> Result<()> {
    let kind = |number: &InodeNumber| model.nodes[number].kind;
    let linkable = model.names.iter().filter(|(_, number)| kind(number) != EntryType::Directory);
    let linkable: Vec<&Vec<u8>> = linkable.map(|(path, _)| path).collect();
    let Some(from) = nth(&linkable, from).copied() else { return Ok(()) };
    let Some(path) = free_path(model, inside, name) else { return Ok(()) };
    let names = archive.names();
    let number = names.resolve(from)?.inode;
    let (directory, name) = place(&names, &path)?;
    names.add_link(directory, name, number)?;
    let number = model.names[from];
    model.nodes.get_mut(&number).expect("a name has an inode").links += 1;
    model.names.insert(path, number);
    Ok(())
}

pub(super) fn symlink(
    archive: &Archive,
    model: &mut Content,
    inside: u32,
    name: u8,
    target: &[u8],
) -> Result<()> {
    let Some(path) = free_path(model, inside, name) else { return Ok(()) };
    let target = Some(target.to_vec());
    add(archive, model, path, Node { target, ..Node::new(EntryType::Symlink) })
}

/// Removes a name. Removing a directory that is not empty must fail.
pub(super) fn remove(archive: &Archive, model: &mut Content, name: u32) -> Result<()> {
    let Some(path) = any_name(model, name) else { return Ok(()) };
    let names = archive.names();
    let (directory, name) = place(&names, &path)?;
    let is_empty = below(model, &path).len() == 1;
    match names.remove(directory, name) {
        Err(Error::NotEmpty { .. }) if !is_empty => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            assert!(is_empty, "a directory that is not empty was removed");
            forget_name(model, &path);
            Ok(())
        }
    }
}

pub(super) fn remove_tree(archive: &Archive, model: &mut Content, name: u32) -> Result<()> {
    let Some(path) = any_name(model, name) else { return Ok(()) };
    let names = archive.names();
    let (directory, name) = place(&names, &path)?;
    let gone = names.remove_tree(directory, name, None, &mut |_| true)?;
    let expected = below(model, &path);
    assert_eq!(usize::try_from(gone), Ok(expected.len()), "the number of removed names");
    for path in expected {
        forget_name(model, &path);
    }
    Ok(())
}

/// Deletes a stream with all of its names.
pub(super) fn delete(archive: &Archive, model: &mut Content, stream: u32) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let is_its = |number: &InodeNumber| model.nodes[number].stream == Some(identity);
    let named = model.names.iter().filter(|(_, number)| is_its(number));
    let named: Vec<Vec<u8>> = named.map(|(path, _)| path.clone()).collect();
    let names = archive.names();
    for path in &named {
        let (directory, name) = place(&names, path)?;
        names.remove(directory, name)?;
    }
    if named.is_empty() {
        let deleted = archive.delete_stream(identity)?;
        assert!(deleted, "the stream exists");
        forget_stream(model, identity);
    }
    for path in &named {
        forget_name(model, path);
    }
    Ok(())
}

/// Renames a file, replacing an entry with the new name unless it is a directory.
pub(super) fn rename(archive: &Archive, model: &mut Content, from: u32, to: u8) -> Result<()> {
    let has_stream = |number: &InodeNumber| model.nodes[number].stream.is_some();
    let files = model.names.iter().filter(|(_, number)| has_stream(number));
    let files: Vec<&Vec<u8>> = files.map(|(path, _)| path).collect();
    let Some(from) = nth(&files, from).map(|path| (*path).clone()) else { return Ok(()) };
    let to = path(to);
    let is_possible = is_directory(model, split(&to).0) && !is_directory(model, &to);
    if from == to || !is_possible {
        return Ok(());
    }
    let names = archive.names();
    names.rename(place(&names, &from)?, place(&names, &to)?, true)?;
    if model.names.get(&to) == model.names.get(&from) {
        // Two names of one file: both stay.
        return Ok(());
    }
    if model.names.contains_key(&to) {
        forget_name(model, &to);
    }
    let number = model.names.remove(&from).expect("it was chosen");
    model.names.insert(to, number);
    Ok(())
}

/// Moves a name with everything below it. Moving a directory into itself must fail.
pub(super) fn move_name(
    archive: &Archive,
    model: &mut Content,
    from: u32,
    inside: u32,
    name: u8,
) -> Result<()> {
    let Some(from) = any_name(model, from) else { return Ok(()) };
    let Some(to) = free_path(model, inside, name) else { return Ok(()) };
    let names = archive.names();
    let moving = below(model, &from);
    let is_inside = moving.iter().any(|path| path == split(&to).0);
    match names.rename(place(&names, &from)?, place(&names, &to)?, false) {
        Err(Error::IntoItself { .. }) if is_inside => return Ok(()),
        outcome => outcome?,
    }
    assert!(!is_inside, "a directory was moved into itself");
    for path in moving {
        let number = model.names.remove(&path).expect("it was listed");
        model.names.insert([&to[..], &path[from.len()..]].concat(), number);
    }
    Ok(())
}

/// Removes a stream from the model.
fn forget_stream(model: &mut Content, identity: Uuid) {
    model.streams.remove(&identity);
    model.beyond.remove(&identity);
}

/// Removes a name from the model, and with the last name its inode.
fn forget_name(model: &mut Content, path: &[u8]) {
    let number = model.names.remove(path).expect("an existing name");
    let node = model.nodes.get_mut(&number).expect("a name has an inode");
    node.links -= 1;
    if node.links == 0 {
        let stream = node.stream;
        model.nodes.remove(&number);
        if let Some(identity) = stream {
            forget_stream(model, identity);
        }
    }
}

/// Creates a stream, and a file for it if there is a path.
fn add_stream(
    archive: &Archive,
    model: &mut Content,
    path: Option<Vec<u8>>,
    bytes: &[u8],
) -> Result<()> {
    let mut stream = archive.new_stream()?;
    stream.append(bytes)?;
    let identity = stream.identity();
    stream.close()?;
    if let Some(path) = path {
        let file = Node::new(EntryType::File);
        let file = Node { size: size_of(bytes), stream: Some(identity), ..file };
        add(archive, model, path, file)?;
    }
    model.streams.insert(identity, bytes.to_vec());
    Ok(())
}

fn size_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory")
}

/// Adds an inode at an unused path.
fn add(archive: &Archive, model: &mut Content, path: Vec<u8>, node: Node) -> Result<()> {
    let names = archive.names();
    let (directory, name) = place(&names, &path)?;
    let number = match node.kind {
        EntryType::Directory => names.make_directory(directory, name, attributes())?,
        EntryType::File => names.add_file(directory, name, attributes(), node.stream)?,
        EntryType::Symlink => {
            let target = node.target.as_deref().unwrap_or_default();
            names.add_symlink(directory, name, attributes(), target)?
        }
        kind => names.add_special(directory, name, attributes(), kind, None)?,
    };
    let node = if node.kind == EntryType::Symlink {
        let inode = names.inode(number)?.expect("the inode just created");
        placed_target(model, node, inode.stream)
    } else {
        node
    };
    assert!(model.nodes.insert(number, node).is_none(), "an inode number occurs twice");
    model.names.insert(path, number);
    Ok(())
}

/// Returns a link whose target, if it is long, is in a stream that the archive has created.
fn placed_target(model: &mut Content, node: Node, stream: Option<Uuid>) -> Node {
    let target = node.target.unwrap_or_default();
    let size = size_of(&target);
    let target = match stream {
        Some(identity) => {
            model.streams.insert(identity, target);
            None
        }
        None => Some(target),
    };
    Node { size, stream, target, ..node }
}

/// Returns the path of a name's number: every other one is in the directory.
fn path(name: u8) -> Vec<u8> {
    let directory = if name.is_multiple_of(2) { [b"/", DIRECTORY].concat() } else { Vec::new() };
    named_in(&directory, name)
}

fn named_in(directory: &[u8], name: u8) -> Vec<u8> {
    [directory, b"/", format!("name {name}").as_bytes()].concat()
}

/// Returns the path of a name in the directory with this number, which may be the root; `None` if the path exists.
fn free_path(model: &Content, inside: u32, name: u8) -> Option<Vec<u8>> {
    let directories = model.names.keys().filter(|path| is_directory(model, path));
    let all: Vec<&[u8]> = [&b""[..]].into_iter().chain(directories.map(Vec::as_slice)).collect();
    let path = named_in(nth(&all, inside)?, name);
    is_free(model, &path).then_some(path)
}

fn any_name(model: &Content, number: u32) -> Option<Vec<u8>> {
    let all: Vec<&Vec<u8>> = model.names.keys().collect();
    nth(&all, number).map(|path| (*path).clone())
}

/// Returns whether a path can be created: its directory exists, and the name does not.
fn is_free(model: &Content, path: &[u8]) -> bool {
    is_directory(model, split(path).0) && !model.names.contains_key(path)
}

fn is_directory(model: &Content, path: &[u8]) -> bool {
    let kind = |number: &InodeNumber| model.nodes[number].kind;
    path.is_empty() || model.names.get(path).map(kind) == Some(EntryType::Directory)
}

/// Returns a path and all paths below it.
fn below(model: &Content, path: &[u8]) -> Vec<Vec<u8>> {
    let is_below = |known: &&Vec<u8>| {
        known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    model.names.keys().filter(is_below).cloned().collect()
}

/// Returns the directory of a path in the archive, and the name in it.
fn place<'a>(names: &Names<'_>, path: &'a [u8]) -> Result<(InodeNumber, &'a [u8])> {
    let (directory, name) = split(path);
    Ok((names.resolve(directory)?.inode, name))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&byte| byte == b'/').expect("paths begin with a slash");
    (&path[..at], &path[at + 1..])
}
