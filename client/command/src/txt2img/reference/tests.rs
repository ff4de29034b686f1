//! `client/REFERENCE.md` is true: its table has all flags of the reference's scripts, and the command line does with each what it says.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use crate::arguments::with_dashes;
use crate::cli::{Cli, Command};
use crate::txt2img::flags::Flags;

const DOCUMENT: &str = include_str!("../../../../REFERENCE.md");

/// What the scripts' argument parsers define: CompVis/stable-diffusion, scripts/txt2img.py, img2img.py and inpaint.py.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "txt2img",
        "prompt outdir skip_grid skip_save ddim_steps plms dpm_solver laion400m fixed_code ddim_eta n_iter H W C f n_samples n_rows \
         scale from-file config ckpt seed precision",
    ),
    (
        "img2img",
        "prompt init-img outdir skip_grid skip_save ddim_steps plms fixed_code ddim_eta n_iter C f n_samples n_rows scale strength \
         from-file config ckpt seed precision",
    ),
    ("inpaint", "indir outdir steps"),
];

struct Row {
    /// `--n_iter 2`, as words.
    example: Vec<String>,
    scripts: Vec<&'static str>,
    darkroom: &'static str,
}

/// The rows of the first table.
fn rows() -> Vec<Row> {
    let table = DOCUMENT.split("| --- | --- | --- | --- |\n").nth(1).unwrap();
    let lines = table.lines().take_while(|line| line.starts_with('|'));
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [example, scripts, _, darkroom] = cells[..] else { panic!("a row has four cells: {line}") };
        Row { example: words(example.trim_matches('`')), scripts: scripts.split(", ").collect(), darkroom }
    };
    lines.map(row).collect()
}

/// A command line's words, as a shell splits them, without its variables and the like.
fn words(line: &str) -> Vec<String> {
    // Every second piece stood between quotes.
    let pieces = line.split('"').enumerate();
    pieces
        .flat_map(|(number, piece)| match number % 2 {
            0 => piece.split_whitespace().map(str::to_owned).collect(),
            _ => vec![piece.to_owned()],
        })
        .collect()
}

/// The flags that all commands have, parsed as the program does it.
fn parse(arguments: &[String]) -> Result<Flags, String> {
    let line = ["darkroom".to_owned()].into_iter().chain(arguments.iter().cloned());
    let cli = Cli::try_parse_from(with_dashes(line.map(OsString::from))).map_err(|error| error.to_string())?;
    let flags = match cli.command {
        Command::Txt2img(flags) => *flags,
        Command::Img2img(flags) => flags.flags,
        Command::Inpaint(flags) => flags.flags,
        Command::Sweep(sweep) => sweep.parts.flags,
        other => panic!("{other:?}"),
    };
    // A thin client needs a server, which is no matter of these flags.
    flags.reference.check().map_err(|failure| failure.to_string())?;
    Ok(flags)
}

/// A command line of one of our commands with the row's flag, and what else it must have.
fn line(command: &str, example: &[String]) -> Vec<String> {
    let mut line = vec![command.to_owned()];
    line.extend(example.iter().cloned());
    let flag = example[0].split('=').next().unwrap().replace('_', "-");
    let needed: &[(&str, &str)] = match command {
        "txt2img" => &[],
        "img2img" => &[("--init-img", "x.png")],
        _ => &[("--init-img", "x.png"), ("--mask-image", "m.png")],
    };
    for (name, value) in needed.iter().filter(|(name, _)| *name != flag) {
        line.extend([*name, *value].map(str::to_owned));
    }
    if !["--prompt", "--from-file"].contains(&flag.as_str()) {
        line.push("a horse".into());
    }
    line
}

#[test]
fn the_table_has_every_flag_of_the_scripts() {
    let rows = rows();
    for (script, flags) in SCRIPTS {
        let expected: BTreeSet<String> = flags.split_whitespace().map(|flag| format!("--{flag}")).collect();
        let found: BTreeSet<String> =
            rows.iter().filter(|row| row.scripts.contains(&script)).map(|row| row.example[0].clone()).collect();
        assert_eq!(found, expected, "{script}");
    }
    assert!(rows.iter().flat_map(|row| &row.scripts).all(|script| SCRIPTS.iter().any(|(name, _)| name == script)));
}

#[test]
fn the_command_line_does_what_the_table_says() {
    for Row { example, scripts, darkroom } in rows() {
        let dashed = [vec![example[0].replace('_', "-")], example[1..].to_vec()].concat();
        let underscored = [vec![format!("--{}", example[0][2..].replace('-', "_"))], example[1..].to_vec()].concat();
        let joined = if example.len() > 1 { vec![example.join("=")] } else { example.clone() };
        for (script, example) in scripts
            .iter()
            .flat_map(|script| [&example, &dashed, &underscored, &joined].map(|example| (script, example)))
        {
            let outcome = parse(&line(script, example));
            let says = darkroom.split([' ', ':', ';', ',']).next().unwrap();
            match (says, &outcome) {
                ("Same", Ok(flags)) => {
                    assert_eq!(flags.reference.notes(), Vec::<String>::new(), "{script} {example:?}")
                }
                ("Noted", Ok(flags)) => {
                    let notes = flags.reference.notes();
                    assert!(notes.iter().any(|note| note.starts_with(&dashed[0])), "{script} {example:?}: {notes:?}");
                }
                ("Refused", Err(why)) => assert!(why.contains(&dashed[0]), "{script} {example:?}: {why}"),
                _ => panic!("{script} {example:?}: {:?}, and the table says {darkroom}", outcome.err()),
            }
        }
    }
}

#[test]
fn command_lines_need_no_more_than_another_name() {
    let mut lines = DOCUMENT.lines();
    let mut tried = 0;
    while let Some(line) = lines.next() {
        let Some(theirs) = line.strip_prefix("python scripts/") else { continue };
        let ours = theirs.replacen(".py", "", 1);
        assert_eq!(lines.next().and_then(|line| line.strip_prefix("darkroom ")), Some(ours.as_str()));
        parse(&words(&ours)).unwrap();
        tried += 1;
    }
    assert_eq!(tried, 2);
    let sweep = DOCUMENT.lines().find_map(|line| line.strip_prefix("darkroom sweep ")).unwrap();
    parse(&words(&format!("sweep {sweep}"))).unwrap();
}

#[test]
fn latents_of_other_shapes_are_refused() {
    for (flag, value) in [("--C", "3"), ("--f", "16"), ("--C", "x")] {
        let why = parse(&["txt2img", "a horse", flag, value].map(str::to_owned)).unwrap_err();
        assert!(why.contains(flag) && why.contains("allowed is "), "{why}");
    }
    let refused = parse(&["sweep", "a horse", "--laion400m", "--seed", "1,2"].map(str::to_owned)).unwrap_err();
    assert!(refused.starts_with("--laion400m: "), "{refused}");
}

#[test]
fn darkrooms_own_flags_are_in_the_document() {
    for command in Cli::command().get_subcommands() {
        if !["txt2img", "img2img", "inpaint", "sweep"].contains(&command.get_name()) {
            continue;
        }
        for argument in command.get_arguments() {
            let names = argument.get_long().into_iter().chain(argument.get_visible_aliases().into_iter().flatten());
            for name in names.filter(|name| *name != "help") {
                let told = ["`", " "].iter().any(|end| DOCUMENT.contains(&format!("`--{name}{end}")));
                // The reference's have underscores there.
                let theirs = rows().iter().any(|row| row.example[0][2..].replace('_', "-") == name);
                assert!(told || theirs, "client/REFERENCE.md says nothing of {}'s --{name}", command.get_name());
            }
        }
    }
}
