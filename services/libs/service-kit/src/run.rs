//! The life of a service's process: configuration, logs, start, serve until told to stop, drain.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::{ServiceConfig, ServiceHandle, VERSION, config, open_files, telemetry};

/// The body of every main. Exit codes: 0 after a drain, 1 when the service failed, 2 for a wrong configuration.
pub fn run<C, F, S>(name: &'static str, about: &'static str, start: S) -> ExitCode
where
    C: ServiceConfig,
    F: Future<Output = anyhow::Result<ServiceHandle>>,
    S: FnOnce(C) -> F,
{
    let config = match config::load::<C>(name, about) {
        Ok(Some(config)) => config,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(2);
        }
    };
    match serve(name, config, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve<C, F, S>(name: &'static str, config: C, start: S) -> anyhow::Result<()>
where
    C: ServiceConfig,
    F: Future<Output = anyhow::Result<ServiceHandle>>,
    S: FnOnce(C) -> F,
{
    let telemetry = telemetry::start(name, config.server())?;
    open_files::allow_for(config.server());
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;

    let handle = start(config).await?;
    tracing::info!(grpc = %handle.grpc_addr, http = %handle.http_addr, version = VERSION, "{name} listens");
    let mut reported = false;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            ready = handle.ready(), if !reported => {
                ready?;
                reported = true;
                tracing::info!("ready");
            }
        }
    }
    tracing::info!("draining, a second signal stops at once");
    let drained = async {
        let drained = handle.drain().await;
        telemetry.end().await;
        drained
    };
    tokio::select! {
        drained = drained => drained,
        _ = interrupt.recv() => anyhow::bail!("stopped by a second signal"),
        _ = terminate.recv() => anyhow::bail!("stopped by a second signal"),
    }
}
