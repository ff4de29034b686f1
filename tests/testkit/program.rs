//! Darkroom's programs as real processes: found beside the tests, watched line by line, told to stop, never left behind.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::wait;

/// The path of a program of this workspace, such as `darkroom` or `darkroom-vae`.
///
/// # Errors
/// When it has not been built; the message says how to.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    // Tests run as target/release/deps/integration-… or from examples/; programs lie one folder up.
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program lies in no folder")?;
    let within = ["deps", "examples"].iter().any(|name| folder.ends_with(name));
    let folder = if within { folder.parent().unwrap_or(folder) } else { folder };
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    anyhow::ensure!(
        program.is_file(),
        "{name} is not built: `cargo test --release` for the whole workspace builds it, `cargo test -p darkroom-tests` alone \
         does not; run `cargo build --release` first"
    );
    Ok(program)
}

/// A program to run, without the environment's `DARKROOM_` settings.
///
/// # Errors
/// As [`path`].
pub fn command(name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(path(name)?);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("DARKROOM_") {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, or does not end.
pub async fn output(command: &mut Command) -> anyhow::Result<Output> {
    wait::within("the end of a program", async { Ok(command.output().await?) }).await
}

/// A running program. Dropping it kills it.
pub struct Program {
    child: Child,
    stdout: watch::Receiver<Vec<String>>,
    stderr: watch::Receiver<Vec<String>>,
}

/// Where a service's process listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub http: SocketAddr,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        Ok(Self { child, stdout: lines(stdout), stderr: lines(stderr) })
    }

    /// Starts a service's own program on any free ports.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn service(name: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::service_at(name, Addresses { grpc: any, http: any }, flags)
    }

    /// Starts a service's own program where another one was.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn service_at(name: &str, at: Addresses, flags: &[&str]) -> anyhow::Result<Self> {
        let (grpc, http) = (at.grpc.to_string(), at.http.to_string());
        let ports = ["--grpc-addr", &grpc, "--http-addr", &http, "--log-format", "json"];
        Self::start(command(name)?.args(ports).args(flags))
    }

    /// The process's id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the program has ended")
    }

    /// The first line of standard output that `choose` makes something of.
    ///
    /// # Errors
    /// When the program closes its output, or the time passes, without one.
    pub async fn stdout<T>(&self, what: &str, choose: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        first(what, self.stdout.clone(), choose).await
    }

    /// The first line of standard error that `choose` makes something of.
    ///
    /// # Errors
    /// When the program closes its output, or the time passes, without one.
    pub async fn stderr<T>(&self, what: &str, choose: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        first(what, self.stderr.clone(), choose).await
    }

    /// Where a service that logs as JSON says that it listens.
    ///
    /// # Errors
    /// When it ends before it listens.
    pub async fn addresses(&self) -> anyhow::Result<Addresses> {
        let address = |line: &serde_json::Value, key: &str| line.get(key)?.as_str()?.parse().ok();
        let choose = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(Addresses { grpc: address(&line, "grpc")?, http: address(&line, "http")? })
        };
        self.stderr("the addresses", choose).await
    }

    /// Waits until a service that logs as JSON says that it is ready.
    ///
    /// # Errors
    /// When it ends before that; the message is all that it logged.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let choose = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["message"] == "ready").then_some(())
        };
        self.stderr("readiness", choose).await
    }

    /// Everything on standard output so far.
    #[must_use]
    pub fn stdout_lines(&self) -> Vec<String> {
        self.stdout.borrow().clone()
    }

    /// Everything on standard error so far.
    #[must_use]
    pub fn stderr_lines(&self) -> Vec<String> {
        self.stderr.borrow().clone()
    }

    /// Sends SIGTERM, as a process manager does.
    ///
    /// # Errors
    /// When the program has ended already.
    pub async fn terminate(&self) -> anyhow::Result<()> {
        self.signal("TERM").await
    }

    /// Sends SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// When the program has ended already.
    pub async fn interrupt(&self) -> anyhow::Result<()> {
        self.signal("INT").await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let status = wait::within("the end of a program", async { Ok(self.child.wait().await?) }).await?;
        // Both pipes end with the process; their last lines may still be on their way here.
        for output in [&mut self.stdout, &mut self.stderr] {
            while output.changed().await.is_ok() {}
        }
        Ok(status)
    }

    /// Sends a signal by its name, such as "KILL", "STOP" or "CONT".
    ///
    /// # Errors
    /// When the program has ended already.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        // The shell's own `kill`: every system has it, and no unsafe code is needed.
        let kill = format!("kill -s {name} {}", self.id()?);
        let status = Command::new("sh").args(["-c", &kill]).status().await?;
        anyhow::ensure!(status.success(), "{kill} failed");
        Ok(())
    }
}

/// Collects an output's lines in the background; the channel closes with the output.
fn lines(output: impl AsyncRead + Send + Unpin + 'static) -> watch::Receiver<Vec<String>> {
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while let Ok(1..) = output.read_until(b'\n', &mut line).await {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            sender.send_modify(|lines| lines.push(text));
            line.clear();
        }
    });
    receiver
}

async fn first<T>(
    what: &str,
    mut lines: watch::Receiver<Vec<String>>,
    choose: impl Fn(&str) -> Option<T>,
) -> anyhow::Result<T> {
    let search = async {
        loop {
            let found = lines.borrow_and_update().iter().find_map(|line| choose(line));
            if let Some(found) = found {
                return Ok(found);
            }
            if lines.changed().await.is_err() {
                anyhow::bail!("{what} did not come; the output was:\n{}", lines.borrow().join("\n"));
            }
        }
    };
    wait::within(what, search).await
}
