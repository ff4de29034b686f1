//! Which processes make a fleet: their names, addresses and flags.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use crate::failure::Failure;
use crate::service::Service;
use crate::up::Flags;

/// HTTP for metrics and probes is this far above gRPC.
const HTTP_OFFSET: u16 = 1000;

/// One process of the fleet.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) service: Service,
    /// As people read it: "denoiser 2".
    pub(crate) name: String,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) flags: Vec<OsString>,
}

/// The fleet, the orchestrator last: it is started last and drained first.
pub(crate) fn plan(flags: &Flags) -> Vec<Process> {
    let model_flags = model_flags(flags);
    let stage = |service, name: &str, offset| process(flags, service, name.to_owned(), offset, model_flags.clone());
    let mut text_encoder = stage(Service::TextEncoder, "text encoder", 1);
    text_encoder.flags.extend(folder_flag("textual-inversions", flags.textual_inversions.as_deref()));
    let loras = folder_flag("loras", flags.loras.as_deref());
    text_encoder.flags.extend(loras.clone());
    let mut fleet = vec![text_encoder, stage(Service::Vae, "vae", 2)];
    for number in 1..=flags.denoisers {
        let name = if flags.denoisers == 1 { "denoiser".to_owned() } else { format!("denoiser {number}") };
        let mut denoiser = stage(Service::Denoiser, &name, 2 + number);
        denoiser.flags.extend(loras.clone());
        fleet.push(denoiser);
    }
    let addresses = |service| {
        let addresses =
            fleet.iter().filter(|process| process.service == service).map(|process| process.grpc.to_string());
        addresses.collect::<Vec<_>>().join(",")
    };
    let stages = [
        flag("text-encoders", addresses(Service::TextEncoder)),
        flag("denoisers", addresses(Service::Denoiser)),
        flag("vaes", addresses(Service::Vae)),
    ];
    fleet.push(process(flags, Service::Orchestrator, "orchestrator".into(), 0, stages.into()));
    fleet
}

/// Refuses ports that are taken, by name, before anything is started.
pub(crate) fn check_ports(fleet: &[Process]) -> Result<(), Failure> {
    for process in fleet {
        for address in [process.grpc, process.http] {
            TcpListener::bind(address).map_err(|error| {
                let name = &process.name;
                Failure::Usage(format!("{address} for the {name} cannot be had ({error}), choose another --port-base"))
            })?;
        }
    }
    Ok(())
}

/// The one line that says where everything is.
pub(crate) fn ready_line(fleet: &[Process]) -> String {
    let (stages, orchestrator) = fleet.split_at(fleet.len().saturating_sub(1));
    let server: String = orchestrator.iter().map(|process| process.grpc.to_string()).collect();
    let stages: Vec<String> = stages.iter().map(|process| format!("{} {}", process.name, process.grpc)).collect();
    format!("ready: http://{server} ({}; HTTP with metrics on each port + {HTTP_OFFSET})", stages.join(", "))
}

fn process(flags: &Flags, service: Service, name: String, offset: u16, own: Vec<OsString>) -> Process {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // At most 64,000 + 66 + 1000: it fits.
    let port = flags.port_base + offset;
    let (grpc, http) = (address(port), address(port + HTTP_OFFSET));
    let mut all = vec![
        flag("grpc-addr", grpc.to_string()),
        flag("http-addr", http.to_string()),
        flag("log-level", flags.log_level.clone()),
    ];
    all.extend(own);
    Process { service, name, grpc, http, flags: all }
}

fn model_flags(flags: &Flags) -> Vec<OsString> {
    let settings = [
        flags.model.clone().map(|model| flag("model", model)),
        flags.device.clone().map(|device| flag("device", device)),
        flags.precision.map(|precision| flag("precision", precision.name().to_owned())),
        flags.threads.map(|threads| flag("threads", threads.to_string())),
        flags.ema.then(|| "--ema".into()),
    ];
    settings.into_iter().flatten().collect()
}

fn folder_flag(name: &str, folder: Option<&Path>) -> Option<OsString> {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(folder?);
    Some(flag)
}

fn flag(name: &str, value: String) -> OsString {
    format!("--{name}={value}").into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn each_process_has_its_ports_and_the_orchestrator_knows_all() {
        let line = "up --denoisers 2 --port-base 9000 --precision full --textual-inversions words --loras styles";
        let fleet = plan(&Line::parse_from(line.split(' ')).flags);
        let names: Vec<(&str, u16)> =
            fleet.iter().map(|process| (process.name.as_str(), process.grpc.port())).collect();
        let expected =
            [("text encoder", 9001), ("vae", 9002), ("denoiser 1", 9003), ("denoiser 2", 9004), ("orchestrator", 9000)];
        assert_eq!(names, expected);
        assert!(fleet[0].flags.contains(&"--precision=f32".into()));
        let with = |flag: &str| fleet.iter().map(|process| process.flags.contains(&flag.into())).collect::<Vec<_>>();
        assert_eq!(with("--textual-inversions=words"), [true, false, false, false, false]);
        assert_eq!(with("--loras=styles"), [true, false, true, true, false]);
        assert!(fleet[4].flags.contains(&"--denoisers=127.0.0.1:9003,127.0.0.1:9004".into()));
        assert!(ready_line(&fleet).starts_with("ready: http://127.0.0.1:9000 (text encoder 127.0.0.1:9001, "));
    }
}
