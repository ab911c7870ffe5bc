//! Kills processes that serve a mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use xtask::ar7::Ar7;
use xtask::error::{Error, Result};

use super::history::History;
use super::killer::{Killer, Moment};
use super::state::State;
use super::{Options, fault};
use crate::Random;
use crate::campaigns::mounted::Mounted;

/// What the kills left.
#[derive(Debug, Default)]
pub(super) struct Kills {
    pub(super) count: u64,
    /// How many were at a write of the archive, and at a sync.
    pub(super) writes: u64,
    pub(super) syncs: u64,
    /// The number of operations that led to a state.
    pub(super) states: u64,
    /// How often it was that of the last operation.
    pub(super) whole: u64,
    /// The number of operations that were lost.
    pub(super) lost: u64,
}

/// Kills processes, and checks the archive after each.
pub(super) fn run(ar7: &Ar7, folder: &Path, options: &Options) -> Result<Kills> {
    let target = Target { ar7, archive: folder.join("kill.ar7"), mount: folder.join("kill") };
    fs::create_dir(&target.mount).map_err(Error::io("create", &target.mount))?;
    ar7.expect(0, ["create".as_ref(), target.archive.as_os_str()])?;
    let mut random = Random::new(options.seed);
    let mut killer = Killer::new(folder);
    let (mut kills, mut state) = (Kills::default(), State::default());
    while kills.count < options.kills {
        let moment = killer.choose(&mut random);
        let mut history = History::new(&target.mount, state, random.next_word());
        target.live(&killer, &moment, &mut history, &mut random)?;
        let explained = |error| fault(format!("after a kill at {moment:?}: {error}"));
        let found = target.left().map_err(explained)?;
        let at = history.find(&found).map_err(explained)?;
        kills.count += 1;
        match killer.died_at().as_deref() {
            Some("sync") => kills.syncs += 1,
            Some(_) => kills.writes += 1,
            None => {}
        }
        kills.states += history.states.len() as u64;
        kills.lost += (history.states.len() - 1 - at) as u64;
        kills.whole += u64::from(at + 2 >= history.states.len());
        state = found;
    }
    Ok(kills)
}

/// The archive whose mounts are killed.
struct Target<'a> {
    ar7: &'a Ar7,
    archive: PathBuf,
    mount: PathBuf,
}

impl Target<'_> {
    /// Mounts the archive, and works there until the process is killed.
    fn live(
        &self,
        killer: &Killer,
        moment: &Moment,
        history: &mut History<'_>,
        random: &mut Random,
    ) -> Result<()> {
        let interval = random.below(3).to_string();
        let size = if random.one_in(2) { "64K" } else { "256M" };
        let options = ["--commit-interval", &interval, "--commit-size", size];
        let environment = killer.environment(moment);
        let (ar7, archive, mount) = (self.ar7, &self.archive, &self.mount);
        let mounted = Mounted::in_environment(ar7, archive, mount, &options, &environment);
        if mounted.is_err() && killer.died_at().is_some() {
            // It died while it opened the archive. Whether it had mounted the directory is unknown.
            let _ = ar7.command(["unmount", "--lazy"]).arg(mount).output();
            return Ok(());
        }
        let mounted = mounted?;
        let found = State::read(mount);
        if found.is_err() && killer.died_at().is_some() {
            return mounted.kill();
        }
        let (found, state) = (found?, history.state());
        if found != state {
            return Err(fault(format!("the mount shows {found:?} instead of {state:?}")));
        }
        thread::scope(|scope| {
            if let &Moment::After(life) = moment {
                let mounted = &mounted;
                scope.spawn(move || {
                    thread::sleep(life);
                    mounted.kill_process();
                });
            }
            history.work();
        });
        mounted.kill()
    }

    /// Returns the state that a kill has left, of an archive that verifies.
    fn left(&self) -> Result<State> {
        self.ar7.expect(0, ["verify".as_ref(), self.archive.as_os_str()])?;
        let mut again = Mounted::new(self.ar7, &self.archive, &self.mount, &["--read-only"])?;
        let found = State::read(&self.mount)?;
        again.unmount(&[])?;
        Ok(found)
    }
}
