//! The orchestrator's settings.

use std::path::PathBuf;
use std::time::Duration;

use darkroom_service_kit::trace::CallerTraces;
use darkroom_service_kit::{ClientTls, ServerConfig, ServiceConfig};
use serde::{Deserialize, Serialize};

mod models;

use crate::clients::Clients;
use crate::job::Priority;
use crate::running::Keeping;
use crate::scheduler;
use crate::stages::silence::Patience;

pub use models::ModelTable;
pub(crate) use models::{LineConfig, about};
/// Rows times latent pixels of one step that `assumed_step_seconds` speaks of: 512×512 pixels with guidance.
const ASSUMED_WORK: f64 = 2.0 * 64.0 * 64.0;

/// All settings, with their defaults: one worker a stage on this machine's usual ports.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
pub struct Config {
    /// Addresses of the text encoders, separated by commas; dns:///NAME:PORT is every address that NAME has, looked up again and again.
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',', help_heading = "Stages")]
    pub text_encoders: Vec<String>,
    /// Addresses of the denoisers, separated by commas; dns:///NAME:PORT is every address that NAME has, looked up again and again.
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',', help_heading = "Stages")]
    pub denoisers: Vec<String>,
    /// Addresses of the VAEs, separated by commas; dns:///NAME:PORT is every address that NAME has, looked up again and again.
    #[arg(long, value_name = "ADDR,…", value_delimiter = ',', help_heading = "Stages")]
    pub vaes: Vec<String>,
    /// Authorities, a PEM file: all stages are called with TLS, and each worker must have a certificate of one of them for the host of its
    /// address, or for NAME.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub stages_ca: Option<PathBuf>,
    /// Certificate that the stages are shown, with its chain, a PEM file.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub stages_cert: Option<PathBuf>,
    /// Private key of that certificate, a PEM file. All three are read again when they change.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub stages_key: Option<PathBuf>,
    /// Several models side by side, in the TOML file alone: one of the tables `model` for each, with its name, denoisers and, where they differ from
    /// those above, text_encoders and vaes. The first is the default.
    #[arg(long, value_name = "TABLE", help_heading = "Stages", value_parser = ModelTable::parse)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<ModelTable>,
    /// Milliseconds between two look-ups of a dns:/// name.
    #[arg(long, value_name = "MS", help_heading = "Stages", value_parser = clap::value_parser!(u64).range(10..))]
    pub resolve_interval_ms: u64,
    /// Milliseconds between two looks at a worker's health and load.
    #[arg(long, value_name = "MS", help_heading = "Stages", value_parser = clap::value_parser!(u64).range(10..))]
    pub check_interval_ms: u64,
    /// Seconds that a request waits for a stage that has no ready worker, before it is refused.
    #[arg(long, value_name = "S", help_heading = "Stages")]
    pub no_worker_wait_seconds: u64,
    /// Seconds that work which has begun, or was let into the queue, waits for a worker to go on with.
    #[arg(long, value_name = "S", help_heading = "Recovery")]
    pub recovery_wait_seconds: u64,
    /// Evaluations' time without a word after which a denoiser that shows no other sign of life is given up.
    #[arg(long, value_name = "X", help_heading = "Recovery", value_parser = positive)]
    pub hang_evaluations: f64,
    /// Milliseconds that a denoiser may always be silent, however fast it is.
    #[arg(long, value_name = "MS", help_heading = "Recovery", value_parser = clap::value_parser!(u64).range(10..))]
    pub hang_floor_ms: u64,
    /// Tries of one piece of work, one after the other, that get no further. One that its worker took and never began counts half.
    #[arg(long, value_name = "N", help_heading = "Recovery", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tries: u32,
    /// Of 100 calls, how many may be tried again in the long run.
    #[arg(long, value_name = "N", help_heading = "Recovery", value_parser = clap::value_parser!(u32).range(..=100))]
    pub retry_percent: u32,
    /// Tries that are saved up for bad times, and flow in within a minute.
    #[arg(long, value_name = "N", help_heading = "Recovery")]
    pub retry_reserve: u32,
    /// Seconds that a text encoder gets for an answer.
    #[arg(long, value_name = "S", help_heading = "Stages", value_parser = clap::value_parser!(u64).range(1..))]
    pub text_timeout_seconds: u64,
    /// Seconds that a VAE gets for an answer.
    #[arg(long, value_name = "S", help_heading = "Stages", value_parser = clap::value_parser!(u64).range(1..))]
    pub vae_timeout_seconds: u64,
    /// Seconds of silence after which a denoiser is given up, however slow it is.
    #[arg(long, value_name = "S", help_heading = "Recovery", value_parser = clap::value_parser!(u64).range(1..))]
    pub denoise_stall_seconds: u64,
    /// Requests that may wait; further ones are refused with a retry delay. One client alone leaves a quarter to others, and so does
    /// one of several models.
    #[arg(long, value_name = "N", help_heading = "Requests", value_parser = clap::value_parser!(u32).range(1..))]
    pub queue_limit: u32,
    /// Seconds that all ready denoisers of a model need for the work that may wait; further requests are refused with a retry delay.
    #[arg(long, value_name = "S", help_heading = "Requests", value_parser = positive)]
    pub queue_seconds: f64,
    /// Seconds after which a priority whose requests wait and got nothing has the next turn, so that none waits for ever.
    #[arg(long, value_name = "S", help_heading = "Requests", value_parser = positive)]
    pub ageing_seconds: f64,
    /// A TOML file that names the clients: of each its name, key_sha256 (darkroom key makes one), weight, max_priority,
    /// requests_per_minute, max_running, images_per_day and revoked. It is read again when it changes. Without it a key is a name,
    /// and all clients have equal shares.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    pub clients_file: Option<PathBuf>,
    /// Refuse calls without a key; needs clients_file.
    #[arg(long, help_heading = "Clients")]
    pub require_key: bool,
    /// Where to write a JSON line for each call, at the end of a file that is there; "-" is standard output.
    #[arg(long, value_name = "FILE", help_heading = "Clients")]
    pub audit_log: Option<PathBuf>,
    /// The highest priority of clients of whom the file says nothing else; requests above it are lowered to it.
    #[arg(long, value_name = "PRIORITY", help_heading = "Clients", value_enum)]
    pub max_priority: Priority,
    /// Pictures in one request.
    #[arg(long, value_name = "N", help_heading = "Requests", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub max_images: u32,
    /// Largest width and height in pixels.
    #[arg(long, value_name = "N", help_heading = "Requests", value_parser = clap::value_parser!(u32).range(64..=2048))]
    pub max_side: u32,
    /// Seconds that a request with a request_id of its own goes on after its client's connection broke, so that a retry can join
    /// it. A client that cancels ends it at once.
    #[arg(long, value_name = "S", help_heading = "Requests")]
    pub rejoin_grace_seconds: u64,
    /// Seconds that its pictures are kept when it is done, for a retry that comes a little late. 0 keeps none.
    #[arg(long, value_name = "S", help_heading = "Requests")]
    pub keep_finished_seconds: u64,
    /// Bytes of all pictures that are kept so.
    #[arg(long, value_name = "N", help_heading = "Requests")]
    pub keep_finished_bytes: usize,
    /// MiB of pictures that are made and not fetched, or kept: above it new requests are refused. A client may hold three times what
    /// stays free.
    #[arg(long, value_name = "N", help_heading = "Requests", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_results_mib: u32,
    /// MiB of pictures that requests wait or run with, to begin from: above it further ones are refused. A client may hold three times
    /// what stays free.
    #[arg(long, value_name = "N", help_heading = "Requests", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_inputs_mib: u32,
    /// Bytes of prompts' embeddings that are kept; an embedding of v1 has 236,544. 0 keeps none.
    #[arg(long, value_name = "N", help_heading = "Requests")]
    pub prompt_cache_bytes: u64,
    /// Seconds a step of a 512x512 picture is taken to last until the first was measured; only the autoscaling signal uses it.
    #[arg(long, value_name = "S", help_heading = "Requests", value_parser = positive)]
    pub assumed_step_seconds: f64,
    /// What a trace means that a caller brings: it goes on here, recorded or not as the caller decided (follow), or one of our own begins
    /// that points at it (link), for callers who are strangers.
    #[arg(long, value_name = "WHAT", help_heading = "Requests", value_enum)]
    pub caller_traces: CallerTraces,
    /// The server's part.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            text_encoders: vec!["127.0.0.1:7001".into()],
            denoisers: vec!["127.0.0.1:7003".into()],
            vaes: vec!["127.0.0.1:7002".into()],
            stages_ca: None,
            stages_cert: None,
            stages_key: None,
            model: Vec::new(),
            resolve_interval_ms: 5000,
            check_interval_ms: 1000,
            no_worker_wait_seconds: 0,
            recovery_wait_seconds: 30,
            hang_evaluations: 10.0,
            hang_floor_ms: 5000,
            max_tries: 4,
            retry_percent: 20,
            retry_reserve: 256,
            text_timeout_seconds: 60,
            vae_timeout_seconds: 300,
            denoise_stall_seconds: 300,
            queue_limit: 1024,
            queue_seconds: 3600.0,
            ageing_seconds: 60.0,
            clients_file: None,
            require_key: false,
            audit_log: None,
            max_priority: Priority::High,
            max_images: 16,
            max_side: 2048,
            rejoin_grace_seconds: 10,
            keep_finished_seconds: 30,
            keep_finished_bytes: 64 << 20,
            max_results_mib: 1024,
            max_inputs_mib: 1024,
            prompt_cache_bytes: 64 << 20,
            assumed_step_seconds: 1.0,
            caller_traces: CallerTraces::Follow,
            server: ServerConfig::on_port(7000),
        }
    }
}

impl Config {
    pub(crate) fn check_interval(&self) -> Duration {
        Duration::from_millis(self.check_interval_ms)
    }

    pub(crate) fn resolve_interval(&self) -> Duration {
        Duration::from_millis(self.resolve_interval_ms)
    }

    pub(crate) fn no_worker_wait(&self) -> Duration {
        Duration::from_secs(self.no_worker_wait_seconds)
    }

    /// Never shorter than what new requests wait.
    pub(crate) fn recovery_wait(&self) -> Duration {
        Duration::from_secs(self.recovery_wait_seconds).max(self.no_worker_wait())
    }

    /// What may wait.
    pub(crate) fn scheduling(&self) -> scheduler::Limits {
        let time = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        scheduler::Limits {
            requests: self.queue_limit as usize,
            time: time(self.queue_seconds),
            ageing: time(self.ageing_seconds),
        }
    }

    /// Seconds that an evaluation is taken to last for each latent pixel, until one was measured.
    pub(crate) fn assumed_pixel_seconds(&self) -> f64 {
        self.assumed_step_seconds / ASSUMED_WORK
    }

    /// Whom to trust when calling the stages; `None` where no TLS is spoken with them.
    ///
    /// # Errors
    /// When a file cannot be used, or lacks another.
    pub(crate) fn stages_tls(&self) -> anyhow::Result<Option<ClientTls>> {
        let [ca, cert, key] = [&self.stages_ca, &self.stages_cert, &self.stages_key].map(|file| file.as_deref());
        ClientTls::of(["stages_ca", "stages_cert", "stages_key"], ca, cert, key)
    }

    /// Who may ask.
    ///
    /// # Errors
    /// When `clients_file` cannot be read or used, or is needed and not there.
    pub(crate) fn clients(&self) -> anyhow::Result<Clients> {
        let clients = match &self.clients_file {
            Some(file) => Clients::read(file, self.max_priority)?,
            None => {
                anyhow::ensure!(
                    !self.require_key,
                    "require_key needs clients_file beside it: without it any key is taken"
                );
                Clients::anybody(self.max_priority)
            }
        };
        Ok(clients.requiring_keys(self.require_key))
    }

    pub(crate) fn max_results_bytes(&self) -> usize {
        (self.max_results_mib as usize) << 20
    }

    pub(crate) fn max_inputs_bytes(&self) -> usize {
        (self.max_inputs_mib as usize) << 20
    }

    pub(crate) fn keeping(&self) -> Keeping {
        Keeping {
            rejoin_grace: Duration::from_secs(self.rejoin_grace_seconds),
            finished: Duration::from_secs(self.keep_finished_seconds),
            finished_bytes: self.keep_finished_bytes,
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        let most = Duration::from_secs(self.denoise_stall_seconds);
        // Two looks must be missed before they say anything.
        let least = Duration::from_millis(self.hang_floor_ms).max(2 * self.check_interval()).min(most);
        Patience { evaluations: self.hang_evaluations, least, most }
    }
}

impl ServiceConfig for Config {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        Ok(value) => Err(format!("{value} is not above 0")),
        Err(error) => Err(error.to_string()),
    }
}
