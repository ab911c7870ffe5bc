//! Searches the memory of this process, and files, for keys and plaintext.

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::{Zeroize, zeroize_stack};

/// Bytes searched at once.
const WINDOW: usize = 1 << 20;

/// Length of the part of a needle that is in the index.
const HEAD: usize = 8;

/// The bytes to search for. They are masked, so that the search does not find its own needles. They
/// are plain in memory only during [`Known::with_plain`].
pub(crate) struct Needles {
    mask: [u8; HEAD],
    random: ChaCha20Rng,
    /// The masked head of each needle, with its remaining bytes and its name.
    heads: HashMap<[u8; HEAD], Vec<(Vec<u8>, String)>>,
    /// Whether any masked head starts with these two bytes.
    begins: Vec<bool>,
    window: Vec<u8>,
}

/// A needle that was found in memory.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) what: String,
    #[expect(dead_code, reason = "printed when a test fails")]
    pub(crate) address: usize,
    /// Whether its page is excluded from core dumps.
    pub(crate) is_protected: bool,
}

/// Known bytes, masked.
pub(crate) struct Known {
    masked: Vec<u8>,
    mask: [u8; HEAD],
}

impl Found {
    /// Returns whether it is a piece of the needle with this name.
    pub(crate) fn is(&self, what: &str) -> bool {
        self.what.starts_with(what)
    }
}

impl Known {
    pub(crate) fn len(&self) -> usize {
        self.masked.len()
    }

    /// Calls `work` with the plain bytes, then wipes them.
    pub(crate) fn with_plain<T>(&self, work: impl FnOnce(&[u8]) -> T) -> T {
        let mut plain = self.masked.clone();
        for (at, byte) in plain.iter_mut().enumerate() {
            *byte ^= self.mask[at % HEAD];
        }
        let outcome = work(&plain);
        plain[..].zeroize();
        outcome
    }

    /// Returns whether `bytes` equals the known bytes.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        let same = |(at, byte): (usize, &u8)| byte ^ self.mask[at % HEAD] == self.masked[at];
        bytes.len() == self.masked.len() && bytes.iter().enumerate().all(same)
    }
}

impl Needles {
    pub(crate) fn new(seed: u64) -> Needles {
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut mask = [0; HEAD];
        random.fill_bytes(&mut mask);
        Needles {
            mask,
            random,
            heads: HashMap::new(),
            begins: vec![false; 1 << 16],
            window: vec![0; WINDOW],
        }
    }

    /// Returns the mask for a key.
    pub(crate) fn key_mask(&self) -> [u8; 32] {
        std::array::from_fn(|at| self.mask[at % HEAD])
    }

    /// Adds every 8 bytes of a key that start at a multiple of 8.
    pub(crate) fn add_key(&mut self, what: &str, masked: &[u8]) {
        for (at, piece) in masked.chunks_exact(HEAD).enumerate() {
            self.add_piece(&format!("{what}, byte {}", at * HEAD), piece);
        }
    }

    /// Makes new random bytes. Adds the 16 bytes at each multiple of `stride` as needles.
    pub(crate) fn add_text(&mut self, what: &str, length: usize, stride: usize) -> Known {
        let mut masked = vec![0; length];
        self.random.fill_bytes(&mut masked);
        self.add_known(what, masked, stride)
    }

    /// Does the same for a name, which contains no slash and no zero byte.
    pub(crate) fn add_name(&mut self, what: &str, length: usize) -> Known {
        let mut masked = vec![0; length];
        self.random.fill_bytes(&mut masked);
        for (at, byte) in masked.iter_mut().enumerate() {
            // Set the highest bit of the plain byte.
            *byte = (*byte & 0x7f) | (!self.mask[at % HEAD] & 0x80);
        }
        self.add_known(what, masked, 16)
    }

    fn add_known(&mut self, what: &str, masked: Vec<u8>, stride: usize) -> Known {
        assert!(stride.is_multiple_of(HEAD), "the mask repeats every 8 bytes");
        for at in (0..masked.len().saturating_sub(15)).step_by(stride) {
            self.add_piece(&format!("{what}, byte {at}"), &masked[at..at + 16]);
        }
        Known { masked, mask: self.mask }
    }

    fn add_piece(&mut self, what: &str, masked: &[u8]) {
        let (head, rest) = masked.split_first_chunk::<HEAD>().expect("a piece has 8 bytes");
        self.begins[begin_of(head[0], head[1])] = true;
        self.heads.entry(*head).or_default().push((rest.to_vec(), what.to_owned()));
    }

    /// Returns all needles in this process's writable memory. The search runs in its own thread, so
    /// that it does not overwrite data on the stacks of other threads.
    pub(crate) fn in_memory(&mut self) -> Vec<Found> {
        std::thread::scope(|scope| scope.spawn(|| self.search()).join()).expect("the search")
    }

    fn search(&mut self) -> Vec<Found> {
        let memory = File::open("/proc/self/mem").expect("the memory of this process");
        let mut window = std::mem::take(&mut self.window);
        let own = window.as_ptr().addr();
        let own = own..own + window.len();
        let mut found = Vec::new();
        for mapping in mappings() {
            let Range { start, end } = mapping.addresses;
            // Exclude the window itself, which contains copies of needles.
            for (start, end) in [(start, end.min(own.start)), (start.max(own.end), end)] {
                let mut at = start;
                while at < end {
                    let wanted = (end - at).min(window.len());
                    let read = memory.read_at(&mut window[..wanted], at.try_into().expect("u64"));
                    let length = read.unwrap_or(0);
                    for (place, what) in self.in_bytes(&window[..length]) {
                        let address = at + place;
                        found.push(Found { what, address, is_protected: mapping.is_protected });
                    }
                    if length < wanted || at + length >= end {
                        break;
                    }
                    // A needle may cross the end of the window.
                    at += length - 15;
                }
            }
        }
        window[..].zeroize();
        zeroize_stack::<16384>();
        self.window = window;
        found
    }

    /// Returns all needles in the files of a directory.
    pub(crate) fn in_files(&self, directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).expect("the directory") {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("a file");
            let here = self.in_bytes(&bytes).into_iter();
            found.extend(here.map(|(at, what)| format!("{what} at {at} of {}", path.display())));
        }
        found
    }

    #[inline(never)]
    fn in_bytes(&self, bytes: &[u8]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let (first, second) = (self.mask[0], self.mask[1]);
        for (at, head) in bytes.windows(HEAD).enumerate() {
            if !self.begins[begin_of(head[0] ^ first, head[1] ^ second)] {
                continue;
            }
            let masked: [u8; HEAD] = std::array::from_fn(|at| head[at] ^ self.mask[at]);
            let Some(needles) = self.heads.get(&masked) else { continue };
            for (rest, what) in needles {
                let after = bytes.get(at + HEAD..at + HEAD + rest.len());
                let is_same = |after: &[u8]| {
                    after.iter().zip(rest).enumerate().all(|(at, (a, b))| a ^ self.mask[at] == *b)
                };
                if after.is_some_and(is_same) {
                    found.push((at, what.clone()));
                }
            }
        }
        found
    }
}

fn begin_of(first: u8, second: u8) -> usize {
    usize::from(u16::from_be_bytes([first, second]))
}

/// A writable mapping of this process.
struct Mapping {
    addresses: Range<usize>,
    /// Whether it is excluded from core dumps, like pages with keys.
    is_protected: bool,
}

fn mappings() -> Vec<Mapping> {
    let text = fs::read_to_string("/proc/self/smaps").expect("the map of this process");
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut is_writable = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(addresses) = addresses_of(first) {
            is_writable = words.next().is_some_and(|permissions| permissions.starts_with("rw"));
            if is_writable {
                mappings.push(Mapping { addresses, is_protected: false });
            }
        } else if is_writable && first == "VmFlags:" {
            let mapping = mappings.last_mut().expect("flags follow the addresses");
            mapping.is_protected = words.any(|flag| flag == "dd");
        }
    }
    mappings
}

fn addresses_of(word: &str) -> Option<Range<usize>> {
    let (start, end) = word.split_once('-')?;
    let parse = |text: &str| usize::from_str_radix(text, 16).ok();
    Some(parse(start)?..parse(end)?)
}
