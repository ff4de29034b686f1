//! How the command ends when it does not succeed: one line on standard error and an exit code.

use std::fmt;
use std::process::ExitCode;

use crate::interrupt;
use darkroom_client::{Code, Error, FieldViolation};

/// Why the command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong. Exit code 1.
    Failed(anyhow::Error),
    /// What was asked for cannot be. Exit code 2.
    Usage(String),
    /// The server's or the connection's error. Exit code 2 when a setting was refused, else 1.
    Client(Error),
    /// The server answers, and its fleet cannot serve. Exit code 3.
    NotReady(String),
    /// The server does not answer. Exit code 4.
    NoAnswer(Error),
    /// Ctrl-C or SIGTERM. Exit code 130.
    Interrupted,
}

/// A request's field and the flag that sets it, where the names differ by more than the dashes.
const FLAGS: [(&str, &str); 7] = [
    ("prompt", "PROMPT"),
    ("num_images", "--n-samples"),
    ("num_inference_steps", "--steps"),
    ("guidance_scale", "--scale"),
    ("output_format", "--format"),
    ("request_id", "request id"),
    ("init_image", "--init-img"),
];

impl Failure {
    /// Says on standard error what happened and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("darkroom: {self}");
        ExitCode::from(self.exit_code())
    }

    /// What the server or the connection said, if it was they.
    pub(crate) fn of_server(&self) -> Option<&Error> {
        match self {
            Self::Client(error) | Self::NoAnswer(error) => Some(error),
            _ => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Client(error) if error.code() == Code::InvalidArgument => 2,
            Self::Failed(_) | Self::Client(_) => 1,
            Self::NotReady(_) => 3,
            Self::NoAnswer(_) => 4,
            Self::Interrupted => interrupt::EXIT_CODE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "{error:#}"),
            Self::Usage(message) | Self::NotReady(message) => f.write_str(message),
            Self::Client(error) | Self::NoAnswer(error) => f.write_str(&describe(error)),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// The error with flags' names for fields' names, and when to try again.
pub(crate) fn describe(error: &Error) -> String {
    let mut text = match error.field_violations() {
        [] => error.to_string(),
        violations => violations.iter().map(describe_violation).collect::<Vec<_>>().join("; "),
    };
    if let Some(delay) = error.retry_after() {
        text += &format!("; try again in {:.0} s", delay.as_secs_f64().ceil());
    }
    text
}

fn describe_violation(violation: &FieldViolation) -> String {
    format!("{}: {}", flag(&violation.field), violation.description)
}

/// The flag that sets a request's field.
pub(crate) fn flag(field: &str) -> String {
    match FLAGS.iter().find(|(name, _)| *name == field) {
        Some((_, flag)) => (*flag).to_owned(),
        None => format!("--{}", field.replace('_', "-")),
    }
}

/// Shows clap's answer: help and version on standard output, an error with this program's name before it on standard error.
pub(crate) fn answer_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let text = error.render().to_string();
        eprint!("darkroom: {}", text.strip_prefix("error: ").unwrap_or(&text));
        return ExitCode::from(2);
    }
    // A reader that closed the pipe wants no more help.
    _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_flags() {
        assert_eq!(flag("num_inference_steps"), "--steps");
        assert_eq!(flag("clip_skip"), "--clip-skip");
        assert_eq!(flag("width"), "--width");
    }

    #[test]
    fn each_end_has_its_exit_code() {
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::Failed(anyhow::anyhow!("x")).exit_code(), 1);
        assert_eq!(Failure::NotReady(String::new()).exit_code(), 3);
        assert_eq!(Failure::NoAnswer(Error::Contract(String::new())).exit_code(), 4);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
    }
}
