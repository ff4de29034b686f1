//! What an entry of a stage's list means: one worker's address, or a name that stands for several.
//!
//! `host:port` and `http://host:port` are one worker, wherever the name leads to when it connects. `dns:///host:port`, as gRPC
//! writes it, is every address that the name has, asked for again and again: what a Kubernetes headless service gives.

use std::str::FromStr;

/// The scheme of a name that is resolved, as gRPC's own clients write it.
const SCHEME: &str = "dns:";

/// One entry of a stage's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// One worker.
    Address(String),
    /// A worker for each address of a name.
    Name(Name),
}

/// A name with the port that its workers listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An entry that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name to resolve, write dns:///host:port with a port from 1 to 65535")]
pub(crate) struct NoName(String);

impl FromStr for Target {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Ok(Self::Address(text.to_owned()));
        };
        let wrong = || NoName(text.to_owned());
        // `dns://server/host:port` would ask a resolver of its own, which is the system's business here.
        let rest = rest.strip_prefix("///").unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if host.is_empty() || host.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace()) {
            return Err(wrong());
        }
        Ok(Self::Name(Name { host: host.to_owned(), port }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_says_that_a_name_stands_for_many() {
        let name = |host: &str, port| Ok(Target::Name(Name { host: host.into(), port }));
        assert_eq!("dns:///denoisers.fleet.svc:7003".parse(), name("denoisers.fleet.svc", 7003));
        assert_eq!("dns:localhost:1".parse(), name("localhost", 1));
        for one in ["127.0.0.1:7003", "http://denoisers:7003", "denoisers:7003"] {
            assert_eq!(one.parse(), Ok(Target::Address(one.into())));
        }
        for wrong in ["dns:", "dns:///a", "dns:///a:0", "dns:///a:65536", "dns:///:1", "dns://8.8.8.8/a:1", "dns:a b:1"]
        {
            let error = wrong.parse::<Target>().unwrap_err();
            assert!(error.to_string().contains("write dns:///host:port"), "{error}");
        }
    }
}
