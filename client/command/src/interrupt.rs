//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of an interrupted command, as shells have it: 128 and SIGINT's number.
pub(crate) const EXIT_CODE: u8 = 130;

/// Both signals, listened to from now on.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal of either kind.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs `work`; `None` when a signal came first. The work is dropped then.
    pub(crate) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // A result that is there counts, even when the signal came at the same moment.
            biased;
            result = work => Some(result),
            () = self.next() => None,
        }
    }

    /// From here on a further signal ends the process at once, whatever still waits.
    pub(crate) fn exit_on_next(mut self) {
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(i32::from(EXIT_CODE));
        });
    }
}
