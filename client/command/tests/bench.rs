//! `darkroom bench` as people type it, on the pocket model.
#![cfg(feature = "local")]
#![expect(clippy::unwrap_used, reason = "functions that only tests call may panic as tests do")]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_darkroom")).arg("bench").args(flags).output().unwrap()
}

fn measured(flags: &[&str]) -> Value {
    let output = bench(&[&["--json"], flags].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn json_says_what_ran_and_how_long_it_took() {
    let json = measured(&["--stage", "text", "--rounds", "2", "--threads", "1"]);
    assert_eq!((&json["stage"], &json["model"], &json["threads"]), (&"text".into(), &"pocket".into(), &1.into()));
    assert_eq!((&json["device"], &json["width"]), (&"cpu".into(), &Value::Null));
    assert!(["f32", "bf16"].contains(&json["precision"].as_str().unwrap()), "auto says what it is: {json}");
    assert!(json["cpu"].as_str().is_some_and(|name| !name.is_empty()));
    assert!(json["peak_memory_bytes"].is_null() || json["peak_memory_bytes"].as_u64() > Some(0));

    let rounds: Vec<f64> = json["seconds"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    assert!(rounds.len() == 2 && rounds.iter().all(|seconds| *seconds > 0.0), "{json}");
    for name in ["load_seconds", "first_seconds", "median_seconds"] {
        assert!(json[name].as_f64() > Some(0.0), "{name}: {json}");
    }

    let groups: Vec<f64> = json["groups"].as_object().unwrap().values().filter_map(Value::as_f64).collect();
    assert!(!groups.is_empty() && groups.iter().all(|seconds| *seconds >= 0.0), "{json}");
    let (inside, average) = (groups.iter().sum::<f64>(), rounds.iter().sum::<f64>() / 2.0);
    assert!((inside - average).abs() < 1e-6, "groups sum up to a round: {json}");
}

#[test]
fn every_stage_runs_in_every_precision_and_at_other_sizes() {
    for precision in ["f32", "bf16"] {
        for stage in ["unet", "vae"] {
            let size = ["--width", "64", "--height", "72", "--rounds", "1"];
            let json = measured(&[&["--stage", stage, "--precision", precision], &size[..]].concat());
            assert_eq!(
                (&json["precision"], &json["width"], &json["height"]),
                (&precision.into(), &64.into(), &72.into())
            );
            assert!(json["groups"]["3x3 convolution"].as_f64() > Some(0.0), "{json}");
            assert_eq!(json["groups"].get("cross-attention").is_some(), stage == "unet", "{json}");
        }
    }
}

#[test]
fn a_large_picture_is_coded_in_bands_unless_told_otherwise() {
    for stage in ["vae", "vae-encoder"] {
        // So large that what is saved is far more than what memory peaks differ by from run to run.
        let size = ["--stage", stage, "--width", "2048", "--height", "1024", "--rounds", "1"];
        let (bands, undivided) = (measured(&size), measured(&[&size[..], &["--undivided"]].concat()));
        assert_eq!((&bands["stage"], &bands["undivided"]), (&stage.into(), &false.into()));
        assert_eq!(undivided["undivided"], true);
        let peak = |json: &Value| json["peak_memory_bytes"].as_u64();
        if let (Some(bands), Some(undivided)) = (peak(&bands), peak(&undivided)) {
            assert!(bands < undivided, "{stage}: {bands} bytes in bands, {undivided} undivided");
        }
    }
}

#[test]
fn the_table_is_for_people() {
    let output = bench(&["--stage", "text", "--rounds", "1", "--batch", "2"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("text of pocket: encoding two prompts, 2 pictures\n"), "{table}");
    assert!(["load", "first step", "median", "where the time goes", "linear"].iter().all(|part| table.contains(part)));
}

#[test]
fn nonsense_is_refused_by_name() {
    let wrong: [(&[&str], &[&str]); 9] = [
        (&["--rounds", "0"], &["--rounds", "'0'", "1..=10000"]),
        (&["--width", "100"], &["--width", "'100'", "multiples of 8 from 64 to 2048"]),
        (&["--height", "4096"], &["--height", "'4096'", "multiples of 8 from 64 to 2048"]),
        (&["--threads", "0"], &["--threads", "'0'", "1..=1024"]),
        (&["--batch", "17"], &["--batch", "'17'", "1..=16"]),
        (&["--stage", "all"], &["--stage", "'all'", "unet, vae, text"]),
        (&["--precision", "f8"], &["--precision", "'f8'", "bf16"]),
        (&["--undivided"], &["--undivided", "unet", "vae and vae-encoder"]),
        (&["--stage", "text", "--height", "64"], &["--height", "--stage unet and vae"]),
    ];
    for (flags, words) in wrong {
        let output = bench(flags);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(
            stderr.starts_with("darkroom: ") && words.iter().all(|word| stderr.contains(word)),
            "{flags:?}: {stderr}"
        );
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
    let absent = bench(&["--model", "no/such/model"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("no/such/model"));
}
