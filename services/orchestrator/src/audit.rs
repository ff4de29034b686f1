//! The audit log: one JSON line a call of the public door, with who asked for what, and what became of it. No prompts, no keys.
//!
//! Lines are written by a thread of their own, so that a slow disk holds up nobody. What it cannot take is counted as lost.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context as _;
use darkroom_proto::v1::{GenerateEvent, generate_event::Event};
use darkroom_service_kit::status::code_name;
use darkroom_service_kit::{telemetry, trace_id};
use metrics::Counter;
use serde::Serialize;
use tokio_stream::Stream;
use tonic::{Code, Status};

use crate::clients::Client;
use crate::job::Job;
use crate::running::Listener;

/// Lines that may wait for the disk.
const WAITING: usize = 4096;
/// Stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// Where lines go to; clones go to the same place.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    lines: Option<Arc<Lines>>,
    lost: Counter,
}

/// The way to the thread that writes. The last to let go of it waits until everything is written.
#[derive(Debug)]
struct Lines {
    sender: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.sender = None;
        // A writer that panicked has nothing left to write.
        _ = self.writer.take().map(JoinHandle::join);
    }
}

impl Audit {
    /// Opens `file`, which is written on at its end, or writes nothing where there is none.
    ///
    /// # Errors
    /// When it cannot be opened; the message names it.
    pub(crate) fn open(file: Option<&Path>, lost: Counter) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self { lines: None, lost }) };
        let writer: Box<dyn Write + Send> = if file == Path::new(STANDARD_OUTPUT) {
            Box::new(io::stdout())
        } else {
            let opened = OpenOptions::new().create(true).append(true).open(file);
            Box::new(opened.with_context(|| format!("audit_log: cannot write {}", file.display()))?)
        };
        let (sender, waiting) = sync_channel(WAITING);
        let failed = lost.clone();
        let thread = std::thread::Builder::new().name("audit".into());
        let writer = thread.spawn(move || write(&waiting, writer, &failed));
        let writer = writer.context("audit_log: cannot start its thread")?;
        Ok(Self { lines: Some(Arc::new(Lines { sender: Some(sender), writer: Some(writer) })), lost })
    }

    /// A call has come. Its line is written when it has an end.
    pub(crate) fn call(&self, method: &'static str, peer: Option<SocketAddr>) -> Entry {
        let line = Line { method, peer: peer.map(|peer| peer.to_string()), trace_id: trace_id(), ..Line::default() };
        Entry { line, code: None, started: Instant::now(), audit: self.clone() }
    }

    fn write(&self, line: &Line) {
        let Some(sender) = self.lines.as_ref().and_then(|lines| lines.sender.as_ref()) else { return };
        let written = serde_json::to_string(line).is_ok_and(|line| sender.try_send(line).is_ok());
        if !written {
            self.lost.increment(1);
        }
    }
}

/// Runs until the last sender is gone. A failure is told once, until it works again.
fn write(waiting: &Receiver<String>, mut writer: impl Write, lost: &Counter) {
    let mut failing = false;
    for mut line in waiting {
        line.push('\n');
        let written = writer.write_all(line.as_bytes()).and_then(|()| writer.flush());
        if let Err(error) = &written {
            lost.increment(1);
            if !failing {
                tracing::error!("audit_log: a line could not be written: {error}");
            }
        }
        failing = written.is_err();
    }
}

/// What one line says.
#[derive(Debug, Default, Serialize)]
struct Line {
    /// When the call ended, RFC 3339.
    time: String,
    method: &'static str,
    /// As it is known here: its name in the file, a key's short hash, an address. Absent where nobody was let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    work: Option<Asked>,
    /// Pictures that this call was sent.
    images_sent: u32,
    code: &'static str,
    seconds: f64,
    /// Where the call is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

/// What a request that could be read asks for.
#[derive(Debug, Serialize)]
struct Asked {
    model: String,
    images: u32,
    width: u32,
    height: u32,
    sampler: String,
    steps: u32,
}

/// One call from its head to its end. Dropped without an end, its client went away.
#[derive(Debug)]
pub(crate) struct Entry {
    line: Line,
    code: Option<Code>,
    started: Instant,
    audit: Audit,
}

impl Entry {
    pub(crate) fn client(&mut self, client: &Client) {
        self.line.client = Some(client.identity.to_string());
    }

    pub(crate) fn request_id(&mut self, request_id: &str) {
        request_id.clone_into(&mut self.line.request_id);
    }

    pub(crate) fn job(&mut self, job: &Job, model: &str) {
        self.request_id(&job.request_id);
        let [width, height] = job.final_size();
        self.line.work = Some(Asked {
            model: model.to_owned(),
            images: job.num_images,
            width,
            height,
            sampler: job.sampler.clone(),
            steps: job.steps(),
        });
    }

    /// How the call ends.
    pub(crate) fn end(&mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.line.time = telemetry::timestamp();
        self.line.code = code_name(self.code.unwrap_or(Code::Cancelled));
        self.line.seconds = self.started.elapsed().as_secs_f64();
        self.audit.write(&self.line);
    }
}

/// A client's stream, and the line that is written with its end.
pub(crate) struct Audited {
    events: Listener,
    entry: Entry,
}

impl Audited {
    pub(crate) fn new(events: Listener, entry: Entry) -> Self {
        Self { events, entry }
    }
}

impl Stream for Audited {
    type Item = Result<GenerateEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let told = Pin::new(&mut self.events).poll_next(context);
        match &told {
            Poll::Ready(Some(Ok(GenerateEvent { event: Some(Event::Image(_)), .. }))) => {
                self.entry.line.images_sent += 1
            }
            Poll::Ready(Some(Err(status))) => self.entry.end(status.code()),
            Poll::Ready(None) if self.entry.code.is_none() => self.entry.end(Code::Ok),
            _ => {}
        }
        told
    }
}
