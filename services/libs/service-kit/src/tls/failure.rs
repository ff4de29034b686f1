//! Why a handshake came to nothing, as few reasons that can be counted.

use std::io;

use rustls::{CertificateError, Error};

/// One of [`REASONS`].
pub(super) type Reason = &'static str;

/// All that can be counted.
pub(super) const REASONS: [Reason; 7] =
    ["no_certificate", "expired", "unknown_authority", "bad_certificate", "refused_by_client", "no_tls", "broken"];

pub(super) fn reason(error: &io::Error) -> Reason {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return "broken" };
    match error {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "expired",
            // One that another authority of the same name issued has a signature that does not fit.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => "unknown_authority",
            _ => "bad_certificate",
        },
        Error::AlertReceived(_) => "refused_by_client",
        Error::InvalidMessage(_) => "no_tls",
        _ => "broken",
    }
}
