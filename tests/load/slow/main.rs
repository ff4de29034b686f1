//! Connections that do their worst without doing anything: opened, held, and opened again when the server closes them.

mod frames;
mod kind;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use testkit::load::files;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep};

use kind::Kind;

/// Between two signs of life, of those that give any.
const TRICKLE: Duration = Duration::from_secs(5);

/// Opens connections that never get on, holds them, and tells every second how many of each kind are open.
#[derive(Parser)]
struct Flags {
    /// Host and port of a gRPC service.
    address: SocketAddr,
    /// In all; the kinds take turns.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// silent: says nothing; preface: half of HTTP/2's preface; headers: they never end; body: it never comes; reader: asks for a picture
    /// and never reads.
    #[arg(long, value_delimiter = ',', default_value = "silent,preface,headers,body,reader")]
    kinds: Vec<Kind>,
    /// Seconds over which they are opened.
    #[arg(long, default_value_t = 5.0)]
    ramp: f64,
    /// Seconds before a connection that was closed is opened again.
    #[arg(long, default_value_t = 1.0)]
    rest: f64,
    /// Ends after so many seconds; 0: when it is told to.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

/// How many of one kind are open, and were closed by the server or could not be opened.
#[derive(Default)]
struct Count {
    open: AtomicUsize,
    closed: AtomicUsize,
    failed: AtomicUsize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let most = files::raise_limit();
    anyhow::ensure!(
        most > flags.connections as u64 + 64,
        "this process may open {most} files, which are too few for {} connections; raise its hard limit (ulimit -Hn)",
        flags.connections
    );
    let counts: Vec<Arc<Count>> = flags.kinds.iter().map(|_| Arc::default()).collect();
    for index in 0..flags.connections {
        let (kind, count) = (flags.kinds[index % flags.kinds.len()], Arc::clone(&counts[index % flags.kinds.len()]));
        let rest = Duration::from_secs_f64(flags.rest);
        let begins = Duration::from_secs_f64(flags.ramp * index as f64 / flags.connections as f64);
        tokio::spawn(async move {
            sleep(begins).await;
            loop {
                hold(flags.address, kind, &count).await;
                sleep(rest).await;
            }
        });
    }
    let begun = Instant::now();
    let mut ticks = interval(Duration::from_secs(1));
    while flags.seconds == 0 || begun.elapsed() < Duration::from_secs(flags.seconds) {
        ticks.tick().await;
        println!("{}", line(begun.elapsed(), &flags.kinds, &counts));
    }
    Ok(())
}

/// One connection's life.
async fn hold(address: SocketAddr, kind: Kind, count: &Count) {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        count.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    count.open.fetch_add(1, Ordering::Relaxed);
    // An error is the server's way to say that it is over.
    _ = live(&mut stream, address, kind).await;
    count.open.fetch_sub(1, Ordering::Relaxed);
    count.closed.fetch_add(1, Ordering::Relaxed);
}

async fn live(stream: &mut TcpStream, address: SocketAddr, kind: Kind) -> std::io::Result<()> {
    stream.write_all(&kind.opening(address)).await?;
    let mut trickle = interval(TRICKLE);
    trickle.tick().await;
    let mut ignored = [0; 512];
    loop {
        tokio::select! {
            read = stream.read(&mut ignored), if kind.reads() => {
                if read? == 0 {
                    return Ok(());
                }
            }
            _ = trickle.tick() => stream.write_all(&kind.trickle()).await?,
        }
    }
}

fn line(at: Duration, kinds: &[Kind], counts: &[Arc<Count>]) -> String {
    let of = |(kind, count): (&Kind, &Arc<Count>)| {
        let [open, closed, failed] =
            [&count.open, &count.closed, &count.failed].map(|count| count.load(Ordering::Relaxed));
        format!("{kind} {open} open, {closed} closed, {failed} not let in")
    };
    let kinds: Vec<String> = kinds.iter().zip(counts).map(of).collect();
    format!("{:.0} s: {}", at.as_secs_f64(), kinds.join("; "))
}
