//! The operations on one mount, and the state after each.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use xtask::error::Result;

use super::fault;
use super::mapping::Mapping;
use super::state::{Node, State, content, is_below};
use crate::Random;

/// Operations of a process that is not killed before.
const OPERATIONS: u64 = 3_000;

/// Longest file in words of eight bytes.
const WORDS_MAX: u64 = 8_000;

/// The operations on one mount, and the state after each.
pub(super) struct History<'a> {
    mount: &'a Path,
    /// The last state may not have come about, because its operation was interrupted.
    pub(super) states: Vec<State>,
    texts: Vec<String>,
    /// The number of the last state that is durable.
    durable: usize,
    /// Files without a name that are still open.
    open: Vec<File>,
    random: Random,
}

impl History<'_> {
    pub(super) fn new(mount: &Path, state: State, seed: u64) -> History<'_> {
        let random = Random::new(seed);
        let texts = vec!["mount".to_owned()];
        History { mount, states: vec![state], texts, durable: 0, open: Vec::new(), random }
    }

    /// Works until the process is dead.
    pub(super) fn work(&mut self) {
        for _ in 0..OPERATIONS {
            if self.operation().is_err() {
                return;
            }
        }
    }

    /// Returns the number of the state that was found.
    pub(super) fn find(&self, found: &State) -> Result<usize> {
        let at = self.states.iter().rposition(|state| state == found);
        match at {
            Some(at) if at >= self.durable => Ok(at),
            at => Err(fault(format!(
                "state {at:?} of {} was found, {} is durable; the last operations were\n  {}\nfound: {found:?}\nlast: {:?}",
                self.states.len(),
                self.durable,
                self.texts[self.texts.len().saturating_sub(20)..].join("\n  "),
                self.states.last()
            ))),
        }
    }

    pub(super) fn state(&self) -> State {
        self.states.last().cloned().unwrap_or_default()
    }

    /// Notes the state that an operation leads to, and does it.
    fn step(
        &mut self,
        text: String,
        state: State,
        work: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        self.states.push(state);
        self.texts.push(text);
        work(self)
    }

    fn operation(&mut self) -> io::Result<()> {
        let state = self.state();
        let kind = self.random.below(13);
        let files: Vec<String> = state.names(false).into_iter().cloned().collect();
        let chosen = self.random.choose(&files).cloned();
        match (kind, chosen) {
            (0..3, _) | (_, None) => self.create(state),
            (3 | 4, Some(name)) => self.rewrite(state, &name),
            (5, Some(name)) => self.shorten(state, &name),
            (6, Some(name)) => self.unlink(state, &name),
            (7 | 8, Some(name)) => self.rename(state, &name, &files),
            (9, _) => self.make_directory(state),
            (10, _) => self.remove_directory(state),
            (11, Some(name)) => self.write_memory(state, &name),
            (_, Some(name)) => self.sync(&name),
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }

    /// A free name in any directory.
    fn new_name(&mut self, state: &State) -> Option<String> {
        let directories = state.names(true);
        let within = if self.random.one_in(2) { self.random.choose(&directories) } else { None };
        let name = format!("e{}", self.random.below(30));
        let path = within.map_or(name.clone(), |within| format!("{within}/{name}"));
        (!state.0.contains_key(&path) && path.len() < 60).then_some(path)
    }

    fn create(&mut self, mut state: State) -> io::Result<()> {
        let Some(name) = self.new_name(&state) else { return Ok(()) };
        state.0.insert(name.clone(), Node::File { word: 0, words: 0 });
        let path = self.place(&name);
        let created = path.clone();
        self.step(format!("create {name}"), state.clone(), |_| {
            File::create_new(created).map(drop)
        })?;
        self.write(state, &name)
    }

    fn write(&mut self, mut state: State, name: &str) -> io::Result<()> {
        let (word, words) = (self.random.next_word(), self.random.below(WORDS_MAX) + 1);
        let words = match state.0.get(name) {
            Some(Node::File { words, .. }) if *words > 0 => *words,
            _ => words,
        };
        state.0.insert(name.to_owned(), Node::File { word, words });
        let path = self.place(name);
        self.step(format!("write {name} {word:x} {words}"), state, |_| {
            let file = File::options().write(true).open(path)?;
            file.write_all_at(&content(word, words), 0)
            // Closing it passes the content on.
        })
    }

    fn rewrite(&mut self, state: State, name: &str) -> io::Result<()> {
        self.write(state, name)
    }

    /// Writes all of a file through memory, and makes it durable.
    fn write_memory(&mut self, mut state: State, name: &str) -> io::Result<()> {
        let Some(&Node::File { words: words @ 1.., .. }) = state.0.get(name) else { return Ok(()) };
        let word = self.random.next_word();
        state.0.insert(name.to_owned(), Node::File { word, words });
        let path = self.place(name);
        self.step(format!("memory {name} {word:x} {words}"), state, |_| {
            let file = File::options().read(true).write(true).open(path)?;
            let bytes = content(word, words);
            let mut memory = Mapping::new(&file, bytes.len())?;
            if memory.write(0, &bytes)? != bytes.len().to_string().into_bytes() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            memory.sync()?;
            Ok(())
        })?;
        self.durable = self.states.len() - 1;
        Ok(())
    }

    fn shorten(&mut self, mut state: State, name: &str) -> io::Result<()> {
        let Some(Node::File { word, words }) = state.0.get_mut(name) else { return Ok(()) };
        *words = self.random.below(*words);
        if *words == 0 {
            *word = 0;
        }
        let length = *words * 8;
        let path = self.place(name);
        self.step(format!("shorten {name} {length}"), state, |_| {
            File::options().write(true).open(path)?.set_len(length)
        })
    }

    fn unlink(&mut self, mut state: State, name: &str) -> io::Result<()> {
        state.0.remove(name);
        let path = self.place(name);
        let keeps = self.random.one_in(2);
        self.step(format!("unlink {name}"), state, |history| {
            if keeps {
                history.open.truncate(5);
                history.open.insert(0, File::options().read(true).write(true).open(&path)?);
            }
            fs::remove_file(&path)?;
            if let Some(file) = history.open.first().filter(|_| keeps) {
                file.write_all_at(&[9; 5000], 100)?;
            }
            Ok(())
        })
    }

    fn rename(&mut self, mut state: State, name: &str, files: &[String]) -> io::Result<()> {
        let directories: Vec<String> = state.names(true).into_iter().cloned().collect();
        let other = self.random.choose(files).cloned();
        let moves_directory = self.random.one_in(3);
        let directory = self.random.choose(&directories).filter(|_| moves_directory).cloned();
        let exchanges = self.random.one_in(3);
        let from = directory.unwrap_or_else(|| name.to_owned());
        let to = match (other, self.random.one_in(2)) {
            (Some(other), true) if !moves_directory || exchanges => other,
            _ => match self.new_name(&state) {
                Some(new) => new,
                None => return Ok(()),
            },
        };
        if from == to || is_below(&to, &from) || is_below(&from, &to) {
            return Ok(());
        }
        let is_there = state.0.contains_key(&to);
        let flags = match (is_there, exchanges) {
            (true, true) => RenameFlags::EXCHANGE,
            _ => RenameFlags::empty(),
        };
        if is_there && flags.is_empty() && state.0.get(&from) == Some(&Node::Directory) {
            return Ok(());
        }
        if flags == RenameFlags::EXCHANGE {
            state.rename(&from, "?");
            state.rename(&to, &from);
            state.rename("?", &to);
        } else {
            state.0.remove(&to);
            state.rename(&from, &to);
        }
        let (before, after) = (self.place(&from), self.place(&to));
        self.step(format!("rename {from} {to} {flags:?}"), state, |_| {
            Ok(rustix::fs::renameat_with(CWD, before, CWD, after, flags)?)
        })
    }

    fn make_directory(&mut self, mut state: State) -> io::Result<()> {
        let Some(name) = self.new_name(&state) else { return Ok(()) };
        state.0.insert(name.clone(), Node::Directory);
        let path = self.place(&name);
        self.step(format!("mkdir {name}"), state, |_| fs::create_dir(path))
    }

    fn remove_directory(&mut self, mut state: State) -> io::Result<()> {
        let empty: Vec<String> =
            state.names(true).into_iter().filter(|name| !state.has_below(name)).cloned().collect();
        let Some(name) = self.random.choose(&empty).cloned() else { return Ok(()) };
        state.0.remove(&name);
        let path = self.place(&name);
        self.step(format!("rmdir {name}"), state, |_| fs::remove_dir(path))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let covered = self.states.len() - 1;
        let of_directory = self.random.one_in(3);
        let path = if of_directory { self.mount.to_owned() } else { self.place(name) };
        File::open(path)?.sync_all()?;
        self.durable = covered;
        Ok(())
    }
}
