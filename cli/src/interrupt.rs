//! Ctrl-C and the other signals that ask to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::{Code, Failure};

/// Whether the user has asked to end. A clone is the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to catch the signals. The first one is left to the command, which ends at the last checkpoint; a
    /// second one ends the process at once, which an archive survives like any crash.
    pub(crate) fn catch() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt::default();
        let asked = interrupt.clone();
        ctrlc::set_handler(move || {
            if asked.0.swap(true, Ordering::Relaxed) {
                std::process::exit(Code::Other.number().into());
            }
        })
        .map_err(Failure::Signals)?;
        Ok(interrupt)
    }

    /// Whether the user has asked.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
