//! Precedence, refusals and what is shown, all without touching this process's environment.

use std::io::Write;

use serde::Serialize;
use tempfile::NamedTempFile;

use super::*;
use crate::{LogFormat, ModelArgs};

#[derive(Debug, Clone, clap::Args, Serialize)]
struct Config {
    #[command(flatten)]
    #[serde(flatten)]
    server: ServerConfig,
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelArgs,
    /// Pictures in a batch.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    max_batch: u32,
    /// Where the workers are.
    #[arg(long, value_delimiter = ',')]
    workers: Vec<String>,
    /// Shelves, each a table.
    #[arg(long, value_name = "TABLE", value_parser = shelf)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shelf: Vec<Shelf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Shelf {
    name: String,
    #[serde(default)]
    books: Vec<u32>,
}

fn shelf(text: &str) -> Result<Shelf, String> {
    let value = text.parse::<toml::Value>().map_err(|error| error.message().to_owned())?;
    value.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

impl Default for Config {
    fn default() -> Self {
        let workers = vec!["one:1".into(), "two:2".into()];
        Self {
            server: ServerConfig::on_port(7003),
            model: ModelArgs::default(),
            max_batch: 8,
            workers,
            shelf: Vec::new(),
        }
    }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn read(args: &[&str], env: &[(&str, &str)], toml: Option<&str>) -> Result<(Config, bool), ConfigError> {
    let file = toml.map(file);
    let path = file.as_ref().map(|file| file.path().display().to_string());
    let mut all = vec!["darkroom-test"];
    if let Some(path) = &path {
        all.extend(["--config", path]);
    }
    all.extend(args);
    let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    resolve("darkroom-test", "Tests", all.into_iter().map(OsString::from), env)
}

fn refusal(args: &[&str], env: &[(&str, &str)], toml: Option<&str>) -> String {
    read(args, env, toml).unwrap_err().to_string()
}

#[test]
fn defaults_come_from_the_default_impl() {
    let (config, check) = read(&[], &[], None).unwrap();
    assert!(!check);
    assert_eq!(config.server, ServerConfig::on_port(7003));
    assert_eq!(config.server.http_addr.port(), 8003);
    assert_eq!(config.model, ModelArgs::default());
    assert_eq!(config.workers, ["one:1", "two:2"]);
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let toml = "max_batch = 2\nthreads = 2\nlog_format = \"json\"\nworkers = [\"a:1\", \"b:2\"]\nema = true";
    let env = [("DARKROOM_MAX_BATCH", "3"), ("DARKROOM_THREADS", "3"), ("HOME", "/"), ("DARKROOM_VAE_PORT", "tcp://x")];
    let (config, _) = read(&["--max-batch", "4"], &env, Some(toml)).unwrap();
    assert_eq!(config.max_batch, 4);
    assert_eq!(config.model.threads.unwrap().get(), 3);
    assert_eq!(config.server.log_format, LogFormat::Json);
    assert_eq!(config.workers, ["a:1", "b:2"]);
    assert!(config.model.ema);
}

#[test]
fn a_value_that_looks_like_a_number_stays_text() {
    let (config, _) = read(&[], &[("DARKROOM_MODEL", "007")], None).unwrap();
    assert_eq!(config.model.model.as_deref(), Some("007"));
}

#[test]
fn the_file_can_be_named_by_a_variable() {
    let file = file("max_batch = 5");
    let (config, _) = read(&[], &[("DARKROOM_CONFIG", file.path().to_str().unwrap())], None).unwrap();
    assert_eq!(config.max_batch, 5);
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_its_origin() {
    let flag = refusal(&["--max-batch", "0"], &[], None);
    assert!(flag.starts_with("invalid value '0' for '--max-batch <MAX_BATCH>': 0 is not in 1..=64"), "{flag}");

    let variable = refusal(&[], &[("DARKROOM_GRPC_ADDR", "here")], None);
    assert_eq!(variable, "grpc_addr = \"here\" from DARKROOM_GRPC_ADDR: invalid socket address syntax");

    let in_file = refusal(&[], &[], Some("max_batch = 65"));
    assert!(in_file.starts_with("max_batch = \"65\" from "), "{in_file}");
    assert!(in_file.ends_with(".toml: 65 is not in 1..=64"), "{in_file}");

    let choice = refusal(&[], &[], Some("log_format = \"xml\""));
    assert!(choice.ends_with(": possible values: text, json"), "{choice}");

    let filter = refusal(&["--log-level", "a=b=c"], &[], None);
    assert!(filter.contains("--log-level"), "{filter}");

    let truth = refusal(&[], &[("DARKROOM_EMA", "yes")], None);
    assert!(truth.ends_with(": true or false is expected"), "{truth}");

    let table = refusal(&[], &[], Some("[max_batch]\nn = 1"));
    assert!(table.ends_with(": a single value or a list is expected"), "{table}");
}

#[test]
fn a_file_with_unknown_keys_or_no_toml_is_refused() {
    let unknown = refusal(&[], &[], Some("max_bach = 1"));
    assert!(unknown.starts_with("unknown key \"max_bach\" in "), "{unknown}");
    assert!(unknown.contains("max_batch"), "{unknown}");
    assert!(refusal(&[], &[], Some("max_batch = ")).contains("TOML"));
    let missing = refusal(&["--config", "/nowhere/at/all.toml"], &[], None);
    assert_eq!(missing, "cannot read /nowhere/at/all.toml: No such file or directory (os error 2)");
}

#[test]
fn what_check_config_prints_can_be_read_back() {
    let (config, check) = read(&["--check-config", "--threads", "6", "--workers", "x:1"], &[], None).unwrap();
    assert!(check);
    let shown = toml::to_string(&config).unwrap();
    assert!(shown.contains("grpc_addr = \"127.0.0.1:7003\"\n"), "{shown}");
    let (again, _) = read(&[], &[], Some(&shown)).unwrap();
    assert_eq!(toml::to_string(&again).unwrap(), shown);
}

#[test]
fn tables_are_read_from_the_file_and_from_flags_and_shown_as_they_were() {
    let toml = "[[shelf]]\nname = \"a \\\"b\\\", {c}\"\nbooks = [1, 2]\n[[shelf]]\nname = \"d\"\n";
    let env = [("DARKROOM_SHELF", "of another program")];
    let (config, _) = read(&[], &env, Some(toml)).unwrap();
    let shelves = [Shelf { name: "a \"b\", {c}".into(), books: vec![1, 2] }, Shelf { name: "d".into(), books: vec![] }];
    assert_eq!(config.shelf, shelves);
    let shown = toml::to_string(&config).unwrap();
    assert_eq!(read(&[], &[], Some(&shown)).unwrap().0.shelf, shelves, "{shown}");
    let (config, _) = read(&["--shelf", "{ name = \"e\" }"], &[], Some(toml)).unwrap();
    assert_eq!(config.shelf, [Shelf { name: "e".into(), books: vec![] }]);
}

#[test]
fn a_wrong_table_is_named_with_its_origin() {
    let one = refusal(&[], &[], Some("[shelf]\nname = \"a\""));
    assert!(one.ends_with(".toml: tables are expected, each under a line [[shelf]]"), "{one}");
    let text = refusal(&[], &[], Some("shelf = [\"a\"]"));
    assert!(text.ends_with(".toml: a table is expected, under a line [[shelf]]"), "{text}");
    let unknown = refusal(&[], &[], Some("[[shelf]]\nname = \"a\"\n[[shelf]]\nname = \"b\"\ncolour = 1"));
    assert!(unknown.starts_with("shelf = \"{ ") && unknown.contains("unknown field `colour`"), "{unknown}");
}

#[test]
fn help_shows_settings_with_their_defaults() {
    let help = command::<Config>("darkroom-test", "Tests").unwrap().render_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "--grpc-addr <ADDR>",
        "[default: 127.0.0.1:7003]",
        "[default: one:1 two:2]",
        "Server:",
        "Model:",
        "DARKROOM_GRPC_ADDR",
    ] {
        assert!(help.contains(text), "{text} is not in\n{help}");
    }
}
