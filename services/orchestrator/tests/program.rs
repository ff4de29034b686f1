//! The built program says what it is. That there is such a test makes `cargo test` build the program, which the tests of whole
//! runs in `tests/integration` start.

use std::process::Command;

#[test]
fn the_program_tells_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_darkroom-orchestrator")).arg("--version").output().unwrap();
    assert!(output.status.success());
    let expected = concat!("darkroom-orchestrator ", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), expected);
}
