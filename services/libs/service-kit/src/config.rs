//! Configuration: flags over environment over a TOML file over the defaults, all under the same flat keys.
//!
//! The service's struct is declared once, as clap arguments with serde names. Its `Default` gives the defaults, which `--help`
//! shows. figment layers the file and the environment and remembers where each value came from; every value, wherever it came
//! from, then goes through the same clap parser, so that a range holds for a file as it does for a flag.
//!
//! A setting whose value is named `TABLE` is a list of tables: `[[key]]` in the file, each of which its parser gets as an inline
//! table (`tables`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;

use crate::{ServerConfig, VERSION};

const ENV_PREFIX: &str = "DARKROOM_";
const FILE: &str = "config";
const CHECK: &str = "check_config";
const HELP: &str = "help";

mod tables;

/// A service's configuration: flat, with [`ServerConfig`] flattened in.
pub trait ServiceConfig: clap::Args + Serialize + Default {
    /// The part that every service has.
    fn server(&self) -> &ServerConfig;
}

/// A configuration that cannot be used. The text names the key, the value, where it came from and what is right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag on the command line, or a request for help: clap's own message.
    #[error("{}", plain(.0))]
    Flag(#[from] clap::Error),
    /// A value from the file or the environment.
    #[error("{key} = {value:?} from {origin}: {reason}")]
    Value {
        /// The key, as in the file.
        key: String,
        /// What was found.
        value: String,
        /// The file or the variable.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key in the file that no setting has.
    #[error("unknown key {key:?} in {origin}, known are: {known}")]
    UnknownKey {
        /// The key found.
        key: String,
        /// The file.
        origin: String,
        /// All keys.
        known: String,
    },
    /// The file cannot be opened.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{0}")]
    File(#[from] Box<figment::Error>),
    /// The configuration cannot be shown as TOML.
    #[error("{0}")]
    Show(#[from] toml::ser::Error),
}

/// Reads this process's configuration. `None` means that `--help`, `--version` or `--check-config` has been answered.
///
/// # Errors
/// [`ConfigError`], ready to be shown.
pub fn load<C>(name: &'static str, about: &'static str) -> Result<Option<C>, ConfigError>
where
    C: clap::Args + Serialize + Default,
{
    let outcome = resolve::<C>(name, about, std::env::args_os(), std::env::vars());
    let (config, check) = match outcome {
        Ok(resolved) => resolved,
        // Help and version are errors to clap, though not to the user.
        Err(ConfigError::Flag(error)) if !error.use_stderr() => {
            // A reader that has seen enough and closed the pipe is no failure, here and below.
            _ = error.print();
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if check {
        _ = std::io::stdout().write_all(toml::to_string(&config)?.as_bytes());
        return Ok(None);
    }
    Ok(Some(config))
}

/// The pure part of [`load`]: everything that it reads is an argument. The flag says whether `--check-config` was there.
fn resolve<C>(
    name: &'static str,
    about: &'static str,
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(C, bool), ConfigError>
where
    C: clap::Args + Serialize + Default,
{
    let command = command::<C>(name, about)?;
    let args: Vec<OsString> = args.into_iter().collect();
    let flags = command.clone().try_get_matches_from(&args)?;
    let env = Environment(env.into_iter().filter_map(|(name, value)| Some((key_of(&name)?, value))).collect());

    let file = flags.get_one::<PathBuf>(FILE).cloned().or_else(|| env.0.get(FILE).map(PathBuf::from));
    let mut layers = Figment::new();
    if let Some(path) = file {
        if let Err(source) = std::fs::File::open(&path) {
            return Err(ConfigError::Unreadable { path, source });
        }
        layers = layers.merge(Toml::file_exact(path));
        refuse_unknown_keys(&command, &layers)?;
    }
    let file = layers.clone();
    let layers = layers.merge(env);

    let mut all = args;
    for arg in command.get_arguments().filter(|arg| is_setting(arg) && !on_command_line(&flags, arg)) {
        match tables::is_table(arg) {
            true => all.extend(tables::flags_from(&command, arg, &file)?),
            false => all.extend(flag_from(&command, arg, &layers)?),
        }
    }
    let matches = command.try_get_matches_from(all)?;
    let check = matches.get_flag(CHECK);
    Ok((C::from_arg_matches(&matches)?, check))
}

/// The command line of `C`, where every setting is optional and its default is that of `C::default()`.
fn command<C: clap::Args + Serialize + Default>(
    name: &'static str,
    about: &'static str,
) -> Result<Command, ConfigError> {
    let defaults = Figment::from(Serialized::defaults(C::default()));
    let file = Arg::new(FILE).long("config").value_name("FILE").help("TOML file with any of these settings");
    let file = file.value_parser(clap::value_parser!(PathBuf));
    let check = Arg::new(CHECK).long("check-config").action(ArgAction::SetTrue);
    let check = check.help("Print the settings in use as TOML, and exit");
    let after = format!(
        "Every setting is also a key of the TOML file (--grpc-addr is grpc_addr) and a variable ({ENV_PREFIX}GRPC_ADDR).\n\
         Flags win over variables, variables over the file."
    );
    let command = C::augment_args(Command::new(name))
        // The derived text is that of the struct, which is for programmers.
        .about(about)
        .long_about(None::<&str>)
        .version(VERSION)
        .after_help(after)
        // One help, compact, whichever flag asks for it.
        .disable_help_flag(true);
    let help = Arg::new(HELP).short('h').long("help").action(ArgAction::HelpShort).help("Print this help");
    Ok(command.mut_args(|arg| with_default(arg, &defaults)).args([file, check, help]))
}

fn with_default(arg: Arg, defaults: &Figment) -> Arg {
    let arg = arg.required(false);
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    match defaults.find_value(arg.get_id().as_str()) {
        Ok(Value::Array(_, values)) => arg.default_values(values.iter().filter_map(text)),
        Ok(value) => match text(&value) {
            Some(value) => arg.default_value(value),
            None => arg,
        },
        Err(_) => arg,
    }
}

/// The setting as a flag, when the layers hold it, checked by itself so that an error can name where it came from.
fn flag_from(command: &Command, arg: &Arg, layers: &Figment) -> Result<Option<OsString>, ConfigError> {
    let key = arg.get_id().as_str();
    let Ok(value) = layers.find_value(key) else {
        return Ok(None);
    };
    let found = text(&value).unwrap_or_else(|| format!("{value:?}"));
    let wrong = |reason: String| ConfigError::Value {
        key: key.to_owned(),
        value: found.clone(),
        origin: origin(layers, key, &value),
        reason,
    };
    let long = arg.get_long().unwrap_or(key);
    let flag = match (arg.get_action(), found.as_str()) {
        (_, _) if text(&value).is_none() => return Err(wrong("a single value or a list is expected".into())),
        (ArgAction::SetTrue, "true") => format!("--{long}"),
        (ArgAction::SetTrue, "false") => return Ok(None),
        (ArgAction::SetTrue, _) => return Err(wrong("true or false is expected".into())),
        _ => format!("--{long}={found}"),
    };
    let flag = OsString::from(flag);
    match command.clone().no_binary_name(true).try_get_matches_from([&flag]) {
        Ok(_) => Ok(Some(flag)),
        Err(error) => Err(wrong(reason(&error))),
    }
}

/// clap's reason without the flag, which the caller names in its own way.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("possible values: {}", values.join(", ")),
        _ => error.kind().to_string(),
    }
}

fn refuse_unknown_keys(command: &Command, file: &Figment) -> Result<(), ConfigError> {
    let known: BTreeSet<&str> =
        command.get_arguments().filter(|arg| is_setting(arg)).map(|arg| arg.get_id().as_str()).collect();
    let layers = file.data().map_err(Box::new)?;
    let keys = layers.get(&Profile::Default).into_iter().flatten();
    for (key, value) in keys {
        if !known.contains(key.as_str()) {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(ConfigError::UnknownKey { key: key.clone(), origin: origin(file, key, value), known });
        }
    }
    Ok(())
}

/// The file, with its path, or the variable.
fn origin(layers: &Figment, key: &str, value: &Value) -> String {
    let source = layers.get_metadata(value.tag()).and_then(|metadata| metadata.source.as_ref());
    source.map_or_else(|| variable(key), |source| source.to_string())
}

/// The value as it would stand on a command line: a list is joined by commas. `None` for tables and absent values.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, letter) => Some(letter.to_string()),
        Value::Bool(_, truth) => Some(truth.to_string()),
        Value::Num(_, number) => {
            let integer = number.to_i128().map(|number| number.to_string());
            integer
                .or_else(|| number.to_u128().map(|number| number.to_string()))
                .or_else(|| number.to_f64().map(|number| number.to_string()))
        }
        Value::Array(_, values) => values.iter().map(text).collect::<Option<Vec<_>>>().map(|values| values.join(",")),
        Value::Dict(..) | Value::Empty(..) => None,
    }
}

fn is_setting(arg: &Arg) -> bool {
    !matches!(arg.get_id().as_str(), FILE | CHECK | HELP | "version")
}

fn on_command_line(flags: &ArgMatches, arg: &Arg) -> bool {
    flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// clap's message without the word "error", which the program's name stands for.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
}

fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_ascii_uppercase())
}

fn key_of(variable: &str) -> Option<String> {
    variable.strip_prefix(ENV_PREFIX).map(str::to_ascii_lowercase)
}

/// The `DARKROOM_` variables, as text: what they mean is the setting's parser's business.
struct Environment(BTreeMap<String, String>);

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("the environment ({ENV_PREFIX}…)"))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values = self.0.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        Ok(Profile::Default.collect(values))
    }
}

#[cfg(test)]
mod tests;
