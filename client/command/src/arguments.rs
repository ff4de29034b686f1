//! Command lines of the reference's scripts: `--n_samples` means `--n-samples`.

use std::ffi::OsString;

/// Puts dashes for the underscores in the names of long flags. Their values, and all that follows a lone `--`, stay as they are.
pub(crate) fn with_dashes(arguments: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut flags_end = false;
    arguments.into_iter().map(move |argument| {
        flags_end |= argument == "--";
        match argument.to_str() {
            Some(text) if !flags_end => dashed(text).map_or(argument, OsString::from),
            _ => argument,
        }
    })
}

fn dashed(argument: &str) -> Option<String> {
    let flag = argument.strip_prefix("--")?;
    // A flag's name has no blanks: this is a prompt that begins with dashes.
    let (name, value) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
    (name.contains('_') && !name.contains(' ')).then(|| format!("--{}{value}", name.replace('_', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_flags_change() {
        let given =
            ["darkroom", "txt2img", "a_b", "--n_samples", "2", "--from_file=a_b.txt", "--skip-grid", "--", "--x_y"];
        let expected =
            ["darkroom", "txt2img", "a_b", "--n-samples", "2", "--from-file=a_b.txt", "--skip-grid", "--", "--x_y"];
        let found: Vec<OsString> = with_dashes(given.map(OsString::from)).collect();
        assert_eq!(found, expected.map(OsString::from));
    }
}
