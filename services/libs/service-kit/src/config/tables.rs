//! Settings that are lists of tables, such as `[[model]]`.
//!
//! Only the file has them, and flags, one inline table each. The environment has none: a simple setting of another service may have the
//! same name there.

use std::ffi::OsString;

use clap::{Arg, Command};
use figment::Figment;
use figment::value::Value;

use super::{ConfigError, origin, reason};

/// What the value of such a setting is called.
const TABLE: &str = "TABLE";

pub(super) fn is_table(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == TABLE))
}

/// The file's tables as flags, each checked by itself so that an error can say which is wrong.
pub(super) fn flags_from(command: &Command, arg: &Arg, file: &Figment) -> Result<Vec<OsString>, ConfigError> {
    let key = arg.get_id().as_str();
    let Ok(found) = file.find_value(key) else { return Ok(Vec::new()) };
    let wrong = |value: String, reason: String| ConfigError::Value {
        key: key.to_owned(),
        value,
        origin: origin(file, key, &found),
        reason,
    };
    let Value::Array(_, tables) = &found else {
        return Err(wrong(inline(&found), format!("tables are expected, each under a line [[{key}]]")));
    };
    let flag = |value: &Value| {
        let text = inline(value);
        if !matches!(value, Value::Dict(..)) {
            return Err(wrong(text, format!("a table is expected, under a line [[{key}]]")));
        }
        let flag = OsString::from(format!("--{}={text}", arg.get_long().unwrap_or(key)));
        match command.clone().no_binary_name(true).try_get_matches_from([&flag]) {
            Ok(_) => Ok(flag),
            Err(error) => Err(wrong(text, reason(&error))),
        }
    };
    tables.iter().map(flag).collect()
}

/// As TOML has it on one line.
fn inline(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|error| error.to_string(), |value| value.to_string())
}
