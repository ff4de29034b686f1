//! Trajectories at every evaluation, and timesteps for every number of steps, against diffusers and CompVis.

#![allow(clippy::unwrap_used, reason = "a golden that cannot be read fails its test")]

mod synthetic;

use std::collections::BTreeMap;
use std::path::Path;

use darkroom_samplers::{LATENTS, NoiseSchedule, Plan, PlanRequest, Sampler, ScheduleConfig, Start, StrengthWay};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use synthetic::Run;

/// Largest relative L2 error of the latents after any evaluation. The references compute their tables, and Euler its
/// latents too, in f32: that is where nearly all of the difference comes from.
const TOLERANCE: f64 = 1e-5;

/// Timesteps between two trained ones are interpolated between logarithms, which diffusers has in f32: the second ones of DPM2, DPM2
/// ancestral and DPM++ SDE, and those of other spacings. All others are exact.
fn timestep_tolerance(sampler: Sampler, case: &Case) -> f32 {
    let between = matches!(sampler, Sampler::Dpm2 | Sampler::Dpm2Ancestral | Sampler::DpmSolverPlusPlusSde);
    // k-diffusion knows no timesteps: they are read off σ, on lines in its logarithm.
    let from_sigma = sampler == Sampler::Lms && case.strength.is_some();
    match (between || case.spacing.is_some(), from_sigma) {
        (_, true) => 2e-3,
        (true, false) => 1e-3,
        (false, false) => 0.0,
    }
}

#[derive(Deserialize)]
struct Trajectories {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    sampler: String,
    num_inference_steps: usize,
    eta: f64,
    config: Config,
    strength: Option<f64>,
    way: Option<String>,
    spacing: Option<String>,
    /// What it begins from, with a strength.
    #[serde(default)]
    original: Vec<f64>,
    initial_noise: Vec<f64>,
    init_noise_sigma: f64,
    noise: Vec<Vec<f64>>,
    evaluations: Vec<Evaluated>,
}

#[derive(Deserialize)]
struct Config {
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    beta_schedule: String,
    timestep_spacing: Option<String>,
    steps_offset: Option<usize>,
    set_alpha_to_one: Option<bool>,
}

#[derive(Deserialize)]
struct Evaluated {
    timestep: f32,
    /// What the model saw, where that is not the latents themselves.
    input: Option<Vec<f64>>,
    latents: Vec<f64>,
}

#[derive(Deserialize)]
struct Timesteps {
    columns: BTreeMap<String, Vec<Option<f64>>>,
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/samplers").join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

fn plan(case: &Case) -> Plan {
    let schedule = ScheduleConfig {
        num_train_timesteps: case.config.num_train_timesteps,
        beta_start: case.config.beta_start,
        beta_end: case.config.beta_end,
        beta_schedule: case.config.beta_schedule.parse().unwrap(),
        timestep_spacing: case.config.timestep_spacing.as_deref().map(|name| name.parse().unwrap()),
        steps_offset: case.config.steps_offset,
        set_alpha_to_one: case.config.set_alpha_to_one,
        ..ScheduleConfig::default()
    };
    let start = match (case.strength, case.way.as_deref()) {
        (Some(strength), Some("diffusers")) => Start::Strength { strength, way: StrengthWay::Diffusers },
        (Some(strength), Some("compvis")) => Start::Strength { strength, way: StrengthWay::CompVis },
        _ => Start::Noise,
    };
    let sampler = case.sampler.parse().unwrap();
    let spacing = case.spacing.as_deref().map(|name| name.parse().unwrap());
    let request = PlanRequest { eta: case.eta, spacing, start, ..PlanRequest::new(sampler, case.num_inference_steps) };
    NoiseSchedule::new(&schedule).unwrap().plan(&request).unwrap()
}

fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / norm(&mut expected.iter().copied())
}

fn check(file: &str) {
    let mut largest = (0.0, String::new());
    for case in read::<Trajectories>(file).cases {
        let plan = plan(&case);
        let name = format!(
            "{} n={} eta={} strength={:?} {:?} {:?}/{:?}",
            case.sampler,
            case.num_inference_steps,
            case.eta,
            case.strength,
            case.spacing,
            case.config.timestep_spacing,
            case.config.steps_offset
        );
        assert_eq!(plan.num_evaluations(), case.evaluations.len(), "{name}");
        if case.strength.is_none() {
            let sigma = plan.initial.noise / case.init_noise_sigma;
            assert!((sigma - 1.0).abs() < TOLERANCE, "{name}: init_noise_sigma is off by a factor of {sigma}");
        }

        let mut run = Run::new(&plan, &case.original, &case.initial_noise);
        for (i, expected) in case.evaluations.iter().enumerate() {
            let difference = (plan.evaluations[i].timestep - expected.timestep).abs();
            assert!(
                difference <= timestep_tolerance(plan.sampler, &case),
                "{name}, evaluation {i}: timestep {difference} off"
            );
            let mut errors = vec![];
            if let Some(input) = &expected.input {
                errors.push(relative_error(&run.input(), input));
            }
            run.advance(&case.noise);
            // What diffusers calls the sample is what its next evaluation looks at.
            let sample = plan.evaluations.get(i + 1).map_or(LATENTS, |next| next.input);
            errors.push(relative_error(&run.states[sample], &expected.latents));
            for error in errors {
                assert!(error <= TOLERANCE, "{name}, evaluation {i}: relative error {error:.1e}");
                if error > largest.0 {
                    largest = (error, format!("{name}, evaluation {i}"));
                }
            }
        }
    }
    println!("{file}: largest relative error {:.1e} ({})", largest.0, largest.1);
}

#[test]
fn plms_follows_diffusers() {
    check("plms.json");
}

#[test]
fn ddim_follows_diffusers() {
    check("ddim.json");
}

#[test]
fn dpmpp_2m_follows_diffusers() {
    check("dpmpp_2m.json");
}

#[test]
fn euler_follows_diffusers() {
    check("euler.json");
}

#[test]
fn euler_ancestral_follows_diffusers() {
    check("euler_a.json");
}

#[test]
fn heun_follows_diffusers() {
    check("heun.json");
}

#[test]
fn dpm2_follows_diffusers() {
    check("dpm2.json");
}

#[test]
fn unipc_follows_diffusers() {
    check("unipc.json");
}

#[test]
fn lms_follows_diffusers() {
    check("lms.json");
}

#[test]
fn dpm2_ancestral_follows_diffusers() {
    check("dpm2_a.json");
}

#[test]
fn dpmpp_2m_sde_follows_diffusers() {
    check("dpmpp_2m_sde.json");
}

#[test]
fn dpmpp_sde_follows_diffusers() {
    check("dpmpp_sde.json");
}

#[test]
fn lcm_follows_diffusers() {
    check("lcm.json");
}

#[test]
fn ddpm_follows_diffusers() {
    check("ddpm.json");
}

#[test]
fn beginnings_from_a_picture_follow_diffusers() {
    check("strength.json");
}

#[test]
fn plms_and_ddim_follow_compvis() {
    check("compvis.json");
}

#[test]
fn timesteps_are_those_of_diffusers_for_every_number_of_steps() {
    for (column, fingerprints) in read::<Timesteps>("timesteps.json").columns {
        let (sampler, spacing) = column.split_once(' ').unwrap();
        let sampler: Sampler = sampler.parse().unwrap();
        let timestep_spacing = Some(spacing.parse().unwrap());
        let schedule = NoiseSchedule::new(&ScheduleConfig { timestep_spacing, ..ScheduleConfig::default() }).unwrap();
        assert_eq!(fingerprints.len(), 1000);
        for (n, fingerprint) in (1..).zip(fingerprints) {
            // Where diffusers gives no n trained timesteps there is nothing to follow.
            let Some(fingerprint) = fingerprint else { continue };
            let request = PlanRequest::new(sampler, n);
            let mut evaluations = schedule.plan(&request).unwrap().evaluations;
            if sampler == Sampler::Plms && n > 1 {
                // The first step's second evaluation.
                evaluations.remove(1);
            }
            let weighted = evaluations.iter().zip(1..).map(|(e, weight)| f64::from(weight) * f64::from(e.timestep));
            let found: f64 = weighted.sum();
            assert!((found - fingerprint).abs() <= 1e-3, "{column}, {n} steps: {found} is not {fingerprint}");
        }
    }
}
