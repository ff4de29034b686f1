//! Follows a name: each of its addresses is a worker, those that are gone get nothing new.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::target::Name;
use super::{Stage, Stages};

/// A resolver that says nothing for so long is taken for one that failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to a look-up: all addresses of the name.
pub(crate) type Resolved<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Where names lead to.
pub(crate) trait Resolver: Send + Sync {
    /// All A and AAAA records of `host`, with `port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a>;
}

/// The system's own resolver, with its files, search domains and caches.
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolved<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Asks for `name` every `interval` and tells `stages`. Runs until it is dropped.
///
/// A look-up that fails changes nothing: a worker that is really gone shows it by not answering, and one that is there is
/// not lost to a resolver's bad moment.
pub(super) async fn follow(
    stages: Arc<Stages>,
    resolver: Arc<dyn Resolver>,
    stage: Stage,
    name: Name,
    interval: Duration,
) {
    let mut known = BTreeSet::new();
    let mut failed = false;
    loop {
        let answer = timeout(PATIENCE, resolver.resolve(&name.host, name.port)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(found) => {
                failed = false;
                let found: BTreeSet<SocketAddr> = found.into_iter().collect();
                if found != known {
                    tracing::info!(stage = stage.name(), name = name.host, "now has {} addresses", found.len());
                    stages.renamed(
                        stage,
                        &name,
                        &found.difference(&known).collect::<Vec<_>>(),
                        &known.difference(&found).collect::<Vec<_>>(),
                    );
                    known = found;
                }
            }
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(stage = stage.name(), name = name.host, "cannot be resolved, its workers stay: {error}");
            }
            Err(_) => {}
        }
        sleep(interval).await;
    }
}
