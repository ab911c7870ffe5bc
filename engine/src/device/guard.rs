//! Maps that outlive their file: a page that cannot be had is no reason to end the process.
//!
//! Reading a page of a map that lies beyond the end of the file, because somebody has shortened it, or that the medium
//! does not give back, raises SIGBUS. Here a handler looks whether the page is of one of our maps. If so, it puts a page of
//! zeros in its place, notes that on the map, and lets the read go on; the reader then looks at the note and reads again
//! by `pread`, which returns an error that says what is wrong. Any other SIGBUS goes to whoever handled it before.
//!
//! What the handler does is safe at any moment: it walks a list of nodes that are never freed, changes atomics, and makes
//! one system call.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use memmap2::MmapRaw;

/// A map, and whether a page of it was ever replaced.
pub(super) struct GuardedMap {
    // In this order: a map leaves the list before its addresses may be given to another.
    node: ListedMap,
    map: MmapRaw,
}

/// The place in the list; dropping it leaves the node to the next map.
struct ListedMap(&'static Node);

/// Where a map lies. Nodes are linked once and never freed, as the handler may be on its way through them.
struct Node {
    /// First address; 0 while the node is free.
    start: AtomicUsize,
    /// First address behind it.
    end: AtomicUsize,
    has_lost_pages: AtomicBool,
    next: AtomicPtr<Node>,
}

/// The first node.
static LIST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// Held while a node is taken.
static TAKING: Mutex<()> = Mutex::new(());

/// What handled the signal before; none if the handler could not be installed.
static BEFORE: OnceLock<Option<Before>> = OnceLock::new();

/// The handler of before, and the size of a page.
struct Before {
    action: libc::sigaction,
    page_bytes: usize,
}

impl GuardedMap {
    /// Guards a map; `None` if the system lets nobody handle the signal: then the map should not be used.
    pub(super) fn new(map: MmapRaw) -> Option<GuardedMap> {
        BEFORE.get_or_init(install).as_ref()?;
        let start = map.as_ptr().addr();
        Some(GuardedMap { node: ListedMap::new(start, start + map.len()), map })
    }

    /// Copies the bytes from `within` on. False if a page of the map was lost, now or earlier: then the bytes may be
    /// zeros that are not in the file.
    ///
    /// # Panics
    /// If the bytes do not lie within the map.
    pub(super) fn copy_to(&self, within: usize, bytes: &mut [u8]) -> bool {
        let length = self.map.len();
        assert!(within <= length && bytes.len() <= length - within, "read past the segment");
        // SAFETY: `within + bytes.len()` is at most the length of the map, by the assertion above,
        // and the map lives as long as it is borrowed. The destination is borrowed exclusively,
        // and no reference into the map exists anywhere, so the two do not overlap. The kernel may
        // change the source during the copy: any byte is a valid `u8`, and the caller takes
        // mixtures for possible. Pages that cannot be had raise a signal, whose handler puts a
        // page of zeros there.
        unsafe {
            let source = self.map.as_ptr().add(within);
            ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len());
        }
        // The note is made before the page is replaced, so whoever read zeros from it finds the note here.
        fence(Ordering::SeqCst);
        !self.node.0.has_lost_pages.load(Ordering::Relaxed)
    }
}

impl ListedMap {
    fn new(start: usize, end: usize) -> ListedMap {
        let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let node = free_node().unwrap_or_else(|| {
            let next = AtomicPtr::new(LIST.load(Ordering::Acquire));
            let node: &'static mut Node = Box::leak(Box::new(Node {
                start: AtomicUsize::new(0),
                end: AtomicUsize::new(0),
                has_lost_pages: AtomicBool::new(false),
                next,
            }));
            LIST.store(node, Ordering::Release);
            node
        });
        node.has_lost_pages.store(false, Ordering::Relaxed);
        node.end.store(end, Ordering::Release);
        node.start.store(start, Ordering::Release);
        ListedMap(node)
    }
}

impl Drop for ListedMap {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
    }
}

fn free_node() -> Option<&'static Node> {
    nodes().find(|node| node.start.load(Ordering::Acquire) == 0)
}

fn nodes() -> impl Iterator<Item = &'static Node> {
    let mut next = LIST.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: the pointer is null or was made from a leaked box, which lives for ever, and of
        // which only shared references are given out since it was put into the list.
        let node: &'static Node = unsafe { next.as_ref() }?;
        next = node.next.load(Ordering::Acquire);
        Some(node)
    })
}

fn install() -> Option<Before> {
    // SAFETY: `sysconf` only reads its argument. The structures given to `sigaction` are valid for
    // the calls and zeroed, which is a valid value of each field; the handler has the signature that
    // `SA_SIGINFO` asks for and does only what a signal handler may.
    unsafe {
        let page_bytes = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).ok()?;
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
        action.sa_sigaction = handler as libc::sighandler_t;
        // On the stack that a thread may have for signals: what handled the signal before may need it.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut before: libc::sigaction = std::mem::zeroed();
        let installed = libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before);
        (installed == 0).then_some(Before { action: before, page_bytes })
    }
}

/// Handles SIGBUS.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(Some(before)) = BEFORE.get() else {
        // Before installing was through, no map of ours can have been read.
        give_up(signal);
        return;
    };
    // SAFETY: the kernel hands over a valid structure, as `SA_SIGINFO` was asked for. A fault of the
    // hardware, which a positive code tells from a signal that was sent, has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code > 0 && replace_page(address, before.page_bytes) {
        return;
    }
    hand_on(&before.action, signal, info, context);
}

/// Puts a page of zeros at the address, if it is in one of our maps.
fn replace_page(address: usize, page_bytes: usize) -> bool {
    let holds = |node: &&Node| {
        let start = node.start.load(Ordering::Acquire);
        let end = node.end.load(Ordering::Acquire);
        // The node may have been given to another map in between; the one that is being read keeps its own.
        let is_one_map = node.start.load(Ordering::Acquire) == start;
        start != 0 && is_one_map && (start..end).contains(&address)
    };
    let Some(node) = nodes().find(holds) else { return false };
    node.has_lost_pages.store(true, Ordering::SeqCst);
    let page = ptr::without_provenance_mut(address & !(page_bytes - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page is within a map of ours that is being read right now, so it is not unmapped
    // meanwhile. No reference into it exists, only copies are made of it. `mmap` is one
    // system call; the value of `errno` that it may set is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let mapped = libc::mmap(page, page_bytes, libc::PROT_READ, flags, -1, 0);
        *errno = before;
        mapped != libc::MAP_FAILED
    }
}

/// Calls what handled the signal before.
fn hand_on(
    before: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => give_up(signal),
        // SAFETY: whoever installed this address did so as a handler of the kind that the flag says.
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => unsafe {
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(handler);
            handler(signal, info, context);
        },
        // SAFETY: as above, without the flag.
        handler => unsafe {
            let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
            handler(signal);
        },
    }
}

/// Restores what the system does by itself: the read faults again, and ends the process as it should.
fn give_up(signal: libc::c_int) {
    // SAFETY: a zeroed structure asks for the default, and is valid for the call.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}
