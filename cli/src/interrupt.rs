//! Ctrl-C and the other signals that ask the program to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ar7::ErrorClass;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Failure;

/// Whether a signal asked the program to stop. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the signal handlers. The first signal sets a flag, and the command stops at its last checkpoint. A
    /// second signal ends the process immediately; the archive survives that like any crash. The handlers need no thread, so
    /// they work even if none can be started.
    pub(crate) fn catch() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt::default();
        let status = i32::from(ErrorClass::Other.exit_code());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // Handlers run in the order of registration: on the first signal, the first one finds the flag unset, and the
            // second one sets it.
            flag::register_conditional_shutdown(signal, status, Arc::clone(&interrupt.0))
                .and_then(|_| flag::register(signal, Arc::clone(&interrupt.0)))
                .map_err(|source| Failure::System { what: "signals", source })?;
        }
        Ok(interrupt)
    }

    /// Returns whether a signal has arrived.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
