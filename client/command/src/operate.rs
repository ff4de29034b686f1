//! What those who run a fleet type: `darkroom status`, `top` and `loadtest`. All they need is the orchestrator's gRPC port.

mod loadtest;
mod server;
mod span;
mod status;
mod table;
mod top;
mod workers;

use clap::Subcommand;

use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether a fleet can serve, and what each of its workers is and does.
    ///
    /// Asks the orchestrator, which looks at every worker once a second. Behind one address with several orchestrators it is one of them
    /// that answers: each has a queue of its own.
    #[command(after_help = status::EXIT_CODES, after_long_help = status::long_help())]
    Status(status::Flags),

    /// Watch a fleet at work: rates, queue, the load of every worker, again and again.
    ///
    /// On a terminal the table is drawn again in place until Ctrl-C; elsewhere a block of lines is written each time. Rates are those of
    /// the last 60 seconds, at first those since the orchestrator started.
    #[command(after_help = top::EXAMPLES)]
    Top(top::Flags),

    /// Ask a fleet for pictures at a given rate, or by so many clients at once, and say how it did.
    ///
    /// With --rate the load is open: requests come when they are due, whether those before are done or not, as real people do. All times
    /// count from when a request was due, so a server that falls behind cannot hide it. With --concurrency the load is closed: each
    /// client asks again when it has its answer, or when a refusal's delay is over. Pictures are received and not kept.
    ///
    /// Ctrl-C ends the test and prints what there is; requests under way are cancelled.
    #[command(after_help = loadtest::EXIT_CODES, after_long_help = loadtest::long_help())]
    Loadtest(Box<loadtest::Flags>),
}

impl Command {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Status(flags) => status::run(flags).await,
            Self::Top(flags) => top::run(flags).await,
            Self::Loadtest(flags) => loadtest::run(*flags).await,
        }
    }
}
