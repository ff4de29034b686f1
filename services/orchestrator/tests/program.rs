//! The built program says what it is, refuses what it cannot use, and ends well when told to. That there is such a test makes `cargo test` build the program, which the tests of whole
//! runs in `tests/integration` start.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn the_program_tells_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_darkroom-orchestrator")).arg("--version").output().unwrap();
    assert!(output.status.success());
    let expected = concat!("darkroom-orchestrator ", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), expected);
}

#[test]
fn a_wrong_setting_ends_it_with_2_and_says_which() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_darkroom-orchestrator"));
    let output = program.env("DARKROOM_QUEUE_LIMIT", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = "darkroom-orchestrator: queue_limit = \"0\" from DARKROOM_QUEUE_LIMIT: 0 is not in 1..=4294967295\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

#[test]
fn a_file_names_models_and_is_shown_as_it_was_read() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let check = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_darkroom-orchestrator"));
        // A stage's own setting of the same name means nothing here.
        program.env("DARKROOM_MODEL", "/models/a").arg("--config").arg(file).arg("--check-config");
        let output = program.output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()))
    };
    let text = "vaes = [\"v:1\"]\n[[model]]\nname = \"a\"\ndenoisers = [\"d:1\", \"d:2\"]\n\
                [[model]]\nname = \"b\"\ndenoisers = [\"d:3\"]\nvaes = [\"v:2\"]\n";
    let (code, [shown, error]) = check("models.toml", text);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(shown.matches("[[model]]").count(), 2, "{shown}");
    assert!(shown.contains("vaes = [\"v:1\"]") && shown.contains("denoisers = [\"d:3\"]\nvaes = [\"v:2\"]"), "{shown}");
    assert_eq!(check("shown.toml", &shown), (Some(0), [shown, String::new()]));

    let (code, [_, error]) = check("wrong.toml", "[[model]]\nname = \"a\"\ndenoiser = [\"d:1\"]\n");
    assert_eq!(code, Some(2));
    assert!(error.contains("model = \"{ ") && error.contains("wrong.toml: unknown field `denoiser`"), "{error}");
}

#[test]
fn sigterm_drains_and_ends_it_with_0() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_darkroom-orchestrator"))
        .args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("darkroom-orchestrator listens")));
    let killed = Command::new("kill").args(["-TERM", &program.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(program.wait().unwrap().code(), Some(0));
}
