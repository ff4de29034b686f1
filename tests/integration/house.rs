//! The house rules that a machine can check: who may depend on whom, where unsafe code is, how long things get.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Lines of a file above its own tests. A good size is 100 to 300.
const MOST_LINES: usize = 400;
const MOST_README_LINES: usize = 250;
/// A main names the life of its process and no more.
const MOST_MAIN_LINES: usize = 60;

/// Where unsafe code is allowed: the CPU's vector instructions, and mapping a file of weights into memory, which another
/// process could change.
const UNSAFE_FILES: [&str; 2] = ["services/libs/kernels/src/lib.rs", "services/libs/models/src/weights/blob.rs"];

/// The folders of the root. Made by running things, and ignored by git: `target`, `outputs`.
const FOLDERS: [&str; 5] = ["client", "deploy", "proto", "services", "tests"];
const MADE: [&str; 2] = ["outputs", "target"];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "manager", "util", "utils"];

/// Crates that never link candle: tensors pass through them as bytes.
const WITHOUT_CANDLE: [&str; 7] = [
    "darkroom-proto",
    "darkroom-samplers",
    "darkroom-resample",
    "darkroom-engine",
    "darkroom-service-kit",
    "darkroom-orchestrator",
    "darkroom-client",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn toml(path: impl AsRef<Path>) -> Table {
    let path = path.as_ref();
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A package of this workspace.
struct Package {
    name: String,
    /// Relative to the root.
    folder: String,
    /// Names of the packages of this workspace that it depends on, in whatever way.
    edges: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let manifest = toml("Cargo.toml");
    let members = manifest["workspace"]["members"].as_array().expect("members is a list").clone();
    members.iter().filter_map(Value::as_str).map(package).collect()
}

fn package(folder: &str) -> Package {
    let manifest = toml(Path::new(folder).join("Cargo.toml"));
    let name = manifest["package"]["name"].as_str().expect("name is text").to_owned();
    let mut edges = BTreeSet::new();
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let dependencies = manifest.get(kind).and_then(Value::as_table).into_iter().flat_map(Table::keys);
        edges.extend(dependencies.filter(|name| name.starts_with("darkroom")).cloned());
    }
    assert!(!manifest.contains_key("target"), "{folder}: dependencies of one platform alone hide from this test");
    Package { name, folder: folder.into(), edges }
}

/// All files of the repository's folders that end in `.rs`, relative to the root.
fn sources() -> Vec<String> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder's entry").path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in FOLDERS {
        visit(&root().join(folder), &mut found);
    }
    let relative = |path: PathBuf| path.strip_prefix(root()).expect("it lies in the root").display().to_string();
    found.into_iter().map(relative).collect()
}

/// The allowed edges of each package, read from the map in `services/ARCHITECTURE.md`.
fn allowed_edges(packages: &[Package]) -> BTreeMap<String, BTreeSet<String>> {
    let text = read("services/ARCHITECTURE.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let mut allowed = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [folders, _, edges] = cells[..] else { panic!("a row of the map has three cells: {row}") };
        let above: BTreeSet<String> = allowed.keys().cloned().collect();
        let edges: BTreeSet<String> = match edges {
            "nothing of ours" | "–" => BTreeSet::new(),
            "everything" => packages.iter().map(|package| package.name.clone()).collect(),
            "all of the above" => above,
            list => list.split(", ").flat_map(|term| named(packages, term)).collect(),
        };
        for package in folders.split(", ").flat_map(|term| named(packages, term)) {
            allowed.insert(package, edges.clone());
        }
    }
    allowed
}

/// The packages that a word of the map means: a package's folder or its last part, or a folder of packages.
fn named(packages: &[Package], term: &str) -> Vec<String> {
    let term = term.trim_matches('`').trim_end_matches('/');
    let is_meant = |package: &&Package| {
        let folder = &package.folder;
        folder == term || folder.ends_with(&format!("/{term}")) || folder.starts_with(&format!("{term}/"))
    };
    let found: Vec<String> = packages.iter().filter(is_meant).map(|package| package.name.clone()).collect();
    assert!(!found.is_empty() || term == "deploy", "services/ARCHITECTURE.md names {term:?}, which is no package");
    found
}

#[test]
fn crates_depend_on_each_other_as_the_map_says() {
    let packages = packages();
    let allowed = allowed_edges(&packages);
    for Package { name, folder, edges } in &packages {
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{folder} is not in services/ARCHITECTURE.md's map"));
        let wrong: Vec<&String> = edges.difference(allowed).collect();
        assert!(
            wrong.is_empty(),
            "{folder} depends on {wrong:?}, which services/ARCHITECTURE.md's map does not allow; move the code, or change \
             the map and say why"
        );
    }
}

#[test]
fn tensors_are_bytes_to_all_but_the_stages() {
    let lock = toml("Cargo.lock");
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages are a list") {
        let dependencies = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        // "name", or "name version" where several versions are there.
        let names = dependencies.filter_map(|entry| entry.as_str()?.split(' ').next());
        edges.entry(package["name"].as_str().expect("a name")).or_default().extend(names);
    }
    for start in WITHOUT_CANDLE {
        assert!(edges.contains_key(start), "{start} is not in Cargo.lock");
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(name) = next.pop() {
            if seen.insert(name) {
                next.extend(&edges[name]);
            }
        }
        let candle: Vec<_> = seen.iter().filter(|name| name.starts_with("candle")).collect();
        assert!(candle.is_empty(), "{start} links {candle:?}: only the stages and the darkroom command may");
    }
}

/// The compiler refuses unsafe code wherever this lint is not lifted.
const LINT: &str = "unsafe_code";

#[test]
fn unsafe_code_is_where_it_is_expected() {
    assert_eq!(toml("Cargo.toml")["workspace"]["lints"]["rust"][LINT].as_str(), Some("deny"));
    for Package { folder, .. } in packages() {
        let manifest = toml(Path::new(&folder).join("Cargo.toml"));
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        assert_eq!(inherits, Some(true), "{folder}/Cargo.toml does not take the workspace's lints");
    }
    for file in sources() {
        let text = read(&file);
        let lifted = ["allow", "expect", "warn"].iter().any(|level| text.contains(&format!("{level}({LINT})")));
        assert_eq!(
            lifted,
            UNSAFE_FILES.contains(&file.as_str()),
            "{file}: unsafe code is only in the kernels and where a file of weights is mapped; find another way, or say here why not"
        );
    }
}

#[test]
fn every_fuzz_target_is_built_has_seeds_and_is_told_of() {
    let manifest = toml("tests/fuzz/Cargo.toml");
    assert_eq!(manifest["lints"]["rust"][LINT].as_str(), Some("deny"));
    let built: BTreeSet<&str> =
        manifest["bin"].as_array().expect("targets").iter().filter_map(|target| target["path"].as_str()).collect();
    let readme = read("tests/README.md");
    let sources = sources();
    let targets = sources.iter().filter_map(|file| file.strip_prefix("tests/fuzz/targets/")?.strip_suffix(".rs"));
    for target in targets {
        assert!(
            built.contains(format!("targets/{target}.rs").as_str()),
            "tests/fuzz/Cargo.toml does not have {target}"
        );
        let seeds = fs::read_dir(root().join("tests/fuzz/corpus").join(target)).map_or(0, Iterator::count);
        assert!(seeds > 0, "tests/fuzz/corpus/{target} holds nothing to begin with");
        assert!(
            readme.contains(&format!("\n| `{target}` |")),
            "tests/README.md says nothing of the fuzz target {target}"
        );
    }
}

#[test]
fn every_file_says_first_what_it_is() {
    for file in sources() {
        let text = read(&file);
        assert!(text.starts_with("//! "), "{file} does not open with a `//!` sentence");
    }
}

#[test]
fn files_fit_into_a_head() {
    for file in sources() {
        let text = read(&file);
        let own = text.find("#[cfg(test)]\nmod tests {").map_or(text.as_str(), |tests| &text[..tests]);
        let (lines, most) =
            (own.lines().count(), if file.ends_with("src/main.rs") { MOST_MAIN_LINES } else { MOST_LINES });
        assert!(lines <= most, "{file} has {lines} lines before its tests, at most {most} are allowed: split it");
    }
}

#[test]
fn names_say_what_is_inside() {
    for file in sources() {
        let parts = file.split(['/', '.', '_', '-']);
        let empty: Vec<&str> = parts.filter(|part| EMPTY_NAMES.contains(part)).collect();
        assert!(empty.is_empty(), "{file}: {empty:?} names no idea");
    }
}

#[test]
fn the_readme_stays_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= MOST_README_LINES, "README.md has {lines} lines, at most {MOST_README_LINES} are allowed");
}

#[test]
fn the_root_has_its_five_folders() {
    let entries = fs::read_dir(root()).expect("the root").map(|entry| entry.expect("an entry"));
    let folders =
        entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().expect("text"));
    let found: BTreeSet<String> =
        folders.filter(|name| !name.starts_with('.') && !MADE.contains(&name.as_str())).collect();
    assert_eq!(found, BTreeSet::from(FOLDERS.map(String::from)));
}
