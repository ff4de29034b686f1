//! As many open files as the system gives: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ServerConfig;

/// Two ports with their connections, and a share of them on their way out.
const PER_PLACE: u64 = 2;
/// Files that are no connections of clients: weights, logs, connections to other services.
const OTHERS: u64 = 256;

/// Raises this process's soft limit to the hard one, and warns when that is not enough for `config`.
pub(crate) fn allow_for(config: &ServerConfig) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    // `None` is no limit.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = needed(config.max_connections);
    if allowed < needed {
        tracing::warn!(
            "{allowed} open files are allowed, max_connections = {} may need {needed}: beyond that, idle connections are closed early",
            config.max_connections
        );
    }
}

fn needed(connections: usize) -> u64 {
    let connections = connections as u64;
    connections.saturating_add(connections / 8).saturating_mul(PER_PLACE).saturating_add(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ports_count_and_no_number_is_too_large() {
        assert_eq!(needed(4096), 2 * (4096 + 512) + 256);
        assert_eq!(needed(usize::MAX), u64::MAX);
    }
}
