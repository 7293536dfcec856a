//! `faprompt-gateway`: a station as an OPC UA server, after OPC 40100-1 (machine vision).
//!
//! ```text
//! station's page (HTTP, HTTPS) <- station (asks) -> space (nodes, values, events) -> OPC UA clients
//!                              <- methods (orders, in the user's name)            <-
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `settings` | the gateway's file |
//! | `station` | asks the station, again and again |
//! | `space` | the nodes of the vision system, and their values |
//! | `types`, `values` | OPC 40100-1's types and structures, as far as a station fills them |
//! | `results`, `event` | a result as structure and as event |
//! | `methods` | what clients may have done |
//! | `users` | who they are: the station decides |
//! | `server` | addresses, certificates, endpoints |
//!
//! A package of its own: OPC UA's dependencies, and the features that they ask of others, stay out of the station's
//! and the host's programs. It never runs on the device.

mod event;
#[allow(
    dead_code,
    reason = "one list of exit codes for all programs: most are others'"
)]
#[path = "../../src/exit.rs"]
mod exit;
mod methods;
mod results;
mod server;
mod settings;
mod space;
mod station;
mod types;
mod users;
mod values;

use clap::Parser;
use exit::ExitCode;
use faprompt_client::{Client, ClientError};
use settings::Settings;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The station answers within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves a faprompt-edge station by OPC UA, as OPC 40100-1 (machine vision) describes it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The gateway's file, TOML: docs/integrator.md says its keys
    file: PathBuf,
    /// Read the file, ask the station once, and end: what is wrong is said
    #[arg(long)]
    check: bool,
}

/// Why it ends, and with which code.
pub struct Failure(ExitCode, String);

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let code = match &error {
            ClientError::Key(_) => ExitCode::Config,
            ClientError::Away { .. } | ClientError::Answer { .. } => ExitCode::Unreachable,
            ClientError::Fingerprint { .. } | ClientError::Untrusted { .. } => {
                ExitCode::Certificate
            }
            ClientError::Refused { .. } => ExitCode::Refused,
        };
        Failure(code, error.to_string())
    }
}

fn main() -> std::process::ExitCode {
    let own =
        "info,tracing=warn,opcua_server=error,opcua_core=error,opcua_crypto=warn,opcua_nodes=error";
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(own)).init();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::Good.into(),
        Err(Failure(code, text)) => {
            log::error!("{text}");
            code.into()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings =
        Settings::read(&arguments.file).map_err(|e| Failure(ExitCode::Config, e.to_string()))?;
    let client = Client::new(&settings.station, PATIENCE)?;
    if arguments.check {
        let state = station::once(&client, &settings)?;
        log::info!("{}: {} {}", settings.station.url, state.station, state.mode);
        return Ok(());
    }
    station::first(&client, &settings)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let caught = ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed));
    caught.map_err(|e| Failure(ExitCode::Internal, e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure(ExitCode::Internal, e.to_string()))?;
    runtime.block_on(server::serve(settings, client, stop))
}
