//! Memory maps that survive SIGBUS: an unreadable page fails one read and does not kill the process.
//!
//! A read of a mapped page raises SIGBUS if another program has shortened the file, or if the medium cannot read the
//! page. The handler checks whether the address lies in one of our maps. If it does, the handler replaces the page
//! with zeros and sets the map's flag. The reader sees the flag and reads again with `pread`, which returns the
//! precise error. Any other SIGBUS, also one that a process sent, has the effect of the previous action: its handler is
//! called, or the process ends, or it continues if it ignored the signal.
//!
//! The handler is async-signal-safe: it walks a list of nodes that are never freed, stores atomics, and makes one
//! system call.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use memmap2::MmapRaw;

/// A map whose lost pages are replaced with zeros.
pub(super) struct GuardedMap {
    // Dropped in this order: the map must leave the list before the kernel can reuse its addresses.
    node: ListedMap,
    map: MmapRaw,
}

/// A map's node in the list. Dropping it frees the node for another map.
struct ListedMap(&'static Node);

/// The address range of a map. Nodes are linked once and never freed, since the handler may be walking the list.
struct Node {
    /// First address; 0 while the node is free.
    start: AtomicUsize,
    /// First address after the map.
    end: AtomicUsize,
    has_lost_pages: AtomicBool,
    next: AtomicPtr<Node>,
}

/// The first node.
static LIST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// Held while a node is taken from the list or added to it.
static TAKING: Mutex<()> = Mutex::new(());

/// The previous handler; `None` if ours could not be installed.
static BEFORE: OnceLock<Option<Before>> = OnceLock::new();

/// The previous handler, and the page size.
struct Before {
    action: libc::sigaction,
    page_bytes: usize,
}

impl GuardedMap {
    /// Guards a map. `None` if the handler cannot be installed; the caller must then not use the map.
    pub(super) fn new(map: MmapRaw) -> Option<GuardedMap> {
        BEFORE.get_or_init(install).as_ref()?;
        let start = map.as_ptr().addr();
        Some(GuardedMap { node: ListedMap::new(start, start + map.len()), map })
    }

    /// Copies bytes from the offset `within`. Returns false if the map has ever lost a page: the bytes may then be
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
        // change the source during the copy: any byte is a valid `u8`, and the caller expects
        // mixtures. An unreadable page raises SIGBUS, and the handler replaces it with zeros.
        unsafe {
            let source = self.map.as_ptr().add(within);
            ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len());
        }
        // The handler sets the flag before it replaces the page, so a copy of its zeros always finds the flag set.
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
        // SAFETY: the pointer is null or comes from a leaked box, which is never freed; only shared
        // references to it exist once it is in the list.
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
        // On the alternate signal stack: the previous handler may need it.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut before: libc::sigaction = std::mem::zeroed();
        let installed = libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before);
        (installed == 0).then_some(Before { action: before, page_bytes })
    }
}

/// Handles SIGBUS.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure, because the handler has `SA_SIGINFO`. A signal that a process sent
    // has other bytes in place of the address, and any bytes are an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let cause = Cause::of(code);
    let Some(Some(before)) = BEFORE.get() else {
        // No map is read before the handler is installed.
        take_default(signal, cause);
        return;
    };
    if cause != Cause::Sent && replace_page(address, before.page_bytes) {
        return;
    }
    hand_on(&before.action, (signal, info, context), cause);
}

/// What raised the signal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// An access to memory, which is repeated when the handler returns.
    Access,
    /// The kernel found bad memory that nobody has read yet.
    Scrub,
    /// A process sent the signal.
    Sent,
}

impl Cause {
    fn of(code: libc::c_int) -> Cause {
        match code {
            #[cfg(target_os = "linux")]
            libc::BUS_MCEERR_AO => Cause::Scrub,
            // The codes of senders are at most 0 on Linux, and from 0x10001 on in other systems.
            1..=0xffff => Cause::Access,
            _ => Cause::Sent,
        }
    }
}

/// Replaces the page at `address` with zeros, if it lies in one of our maps.
fn replace_page(address: usize, page_bytes: usize) -> bool {
    let holds = |node: &&Node| {
        let start = node.start.load(Ordering::Acquire);
        let end = node.end.load(Ordering::Acquire);
        // Another map may have taken the node meanwhile. The map being read keeps its own node.
        let is_one_map = node.start.load(Ordering::Acquire) == start;
        start != 0 && is_one_map && (start..end).contains(&address)
    };
    let Some(node) = nodes().find(holds) else { return false };
    node.has_lost_pages.store(true, Ordering::SeqCst);
    let page = ptr::without_provenance_mut(address & !(page_bytes - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page lies in a map of ours that is being read now, so it is not unmapped
    // meanwhile. No reference into it exists; its bytes are only copied. `mmap` is one
    // system call, and `errno` is restored after it.
    unsafe {
        #[cfg(target_vendor = "apple")]
        let errno = libc::__error();
        #[cfg(not(target_vendor = "apple"))]
        let errno = libc::__errno_location();
        let before = *errno;
        let mapped = libc::mmap(page, page_bytes, libc::PROT_READ, flags, -1, 0);
        *errno = before;
        mapped != libc::MAP_FAILED
    }
}

/// Does what the previous action asks for.
fn hand_on(
    before: &libc::sigaction,
    (signal, info, context): (libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
    cause: Cause,
) {
    match before.sa_sigaction {
        libc::SIG_IGN if cause != Cause::Access => return,
        // The kernel ends a process that ignores a fault.
        libc::SIG_DFL | libc::SIG_IGN => return take_default(signal, cause),
        // SAFETY: the address was installed as a handler of the signature that the flag states.
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
    // A handler for faults, such as that of Rust's standard library, restores the default and expects a second fault.
    if cause != Cause::Access && is_default(signal) {
        take_default(signal, cause);
    }
}

/// Takes the default action, which ends the process when the handler returns: the access faults again, or the signal
/// is raised again in this thread.
fn take_default(signal: libc::c_int, cause: Cause) {
    // SAFETY: a zeroed structure asks for the default, and is valid for the call. A signal handler may make both calls.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        if cause != Cause::Access {
            libc::raise(signal);
        }
    }
}

/// Returns whether the signal has its default action now.
fn is_default(signal: libc::c_int) -> bool {
    // SAFETY: the structure is valid for the call, which only writes to it. A signal handler may make the call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_DFL
    }
}
