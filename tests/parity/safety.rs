//! The safety checker against diffusers' `StableDiffusionSafetyChecker` and PIL: `tests/golden/make_safety.py` made what is expected
//! here.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use darkroom_models::config::PreprocessorConfig;
use darkroom_models::safety::prepare;
use darkroom_models::source::SafetySource;
use darkroom_models::stage::{SafetyModel, load_safety_checker};
use serde::Deserialize;
use testkit::checker::Checker;
use testkit::drawings::Drawing;
use testkit::seeded::fnv1a;

use crate::golden::{EXACT, TINY, unhex};

const GOLDEN: &str = include_str!("../golden/safety/checker.json");
/// Every so many bytes of a square stand in the golden file, and every eleven times as many values.
const SAMPLE: usize = 499;
/// How far a cosine may be from the reference's.
const COSINES: f32 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    width: u32,
    height: u32,
    hash: String,
    square: String,
    pixel_values: Vec<f32>,
    embedding: Vec<f32>,
    cosines: Vec<f32>,
    special: Vec<f32>,
    verdicts: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Verdict {
    concept_embeds_weights: Vec<f32>,
    special_care_embeds_weights: Vec<f32>,
    flagged: bool,
}

impl Case {
    fn all() -> Result<Vec<Self>> {
        Ok(serde_json::from_str::<Golden>(GOLDEN)?.cases)
    }

    fn name(&self) -> String {
        format!("{} {}x{}", self.kind, self.width, self.height)
    }

    /// Its bytes, height and width.
    fn picture(&self) -> Result<(Vec<u8>, usize, usize)> {
        let rgb = Drawing::named(&self.kind).with_context(|| self.name())?.picture(self.width, self.height);
        Ok((rgb, self.height as usize, self.width as usize))
    }
}

fn load(checker: &Checker, folder: &Path, as_pickle: bool) -> Result<Box<dyn SafetyModel>> {
    checker.save(folder, as_pickle)?;
    Ok(load_safety_checker(&SafetySource::folder(folder)?, &EXACT)?)
}

#[test]
fn pictures_are_prepared_as_pil_does() -> Result<()> {
    let config = PreprocessorConfig::default();
    for case in Case::all()? {
        let (rgb, height, width) = case.picture()?;
        let square = prepare::cropped(&config, &rgb, height, width);
        let samples = square.iter().step_by(SAMPLE).zip(unhex(&case.square)?);
        let worst = samples.map(|(a, b)| a.abs_diff(b)).max();
        let same = format!("{:016x}", fnv1a(&square)) == case.hash;
        let values = prepare::normalised(&config, &square);
        let errors = values.iter().step_by(SAMPLE * 11).zip(&case.pixel_values).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f32::max);
        let name = case.name();
        println!(
            "{name}: every byte equal: {same}; largest difference among samples: {worst:?}, normalised {error:.1e}"
        );
        ensure!(same, "the square of {name} is not PIL's");
        ensure!(error <= 1e-6, "normalised, {name} is off by {error:.1e}");
    }
    Ok(())
}

#[test]
fn embeddings_and_cosines_are_those_of_diffusers() -> Result<()> {
    let (checker, folder) = (Checker::tiny()?, tempfile::tempdir()?);
    let mut model = load(&checker, folder.path(), false)?;
    for case in Case::all()? {
        let (rgb, height, width) = case.picture()?;
        let embedding = model.embed(&rgb, height, width)?;
        TINY.check(&format!("embedding of {}", case.name()), &embedding, &case.embedding)?;
        for (special, expected) in [(false, &case.cosines), (true, &case.special)] {
            let cosines = checker.embeddings(special).into_iter().map(|concept| cosine(&concept, &embedding));
            let worst = cosines.zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
            println!("cosines of {}: largest error {worst:.1e}", case.name());
            ensure!(worst <= COSINES, "cosines of {} are off by {worst:.1e}", case.name());
        }
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn verdicts_near_the_thresholds_are_those_of_diffusers() -> Result<()> {
    let (mut checker, folder) = (Checker::tiny()?, tempfile::tempdir()?);
    let (mut flagged, mut all) = (0, 0);
    for case in Case::all()? {
        let (rgb, height, width) = case.picture()?;
        for (number, verdict) in case.verdicts.iter().enumerate() {
            checker.thresholds =
                [&verdict.concept_embeds_weights, &verdict.special_care_embeds_weights].map(Vec::clone);
            let scores = load(&checker, folder.path(), false)?.check(&rgb, height, width)?;
            ensure!(scores.flagged() == verdict.flagged, "verdict {number} of {}: {scores:?}", case.name());
            (flagged, all) = (flagged + u32::from(verdict.flagged), all + 1);
        }
    }
    println!("{all} verdicts equal, {flagged} of them flag");
    ensure!(flagged > 0 && flagged < all, "every verdict is the same");
    Ok(())
}

#[test]
fn a_pickle_gives_the_same_scores_and_a_damaged_folder_is_refused_by_name() -> Result<()> {
    let (checker, folder) = (Checker::that_flags_all()?, tempfile::tempdir()?);
    let rgb = Drawing::Grainy.picture(300, 200);
    let [plain, pickled] = [false, true].map(|as_pickle| {
        let mut model = load(&checker, &folder.path().join(as_pickle.to_string()), as_pickle)?;
        Ok::<_, anyhow::Error>((model.check(&rgb, 200, 300)?, model.identity().revision.clone()))
    });
    let (plain, pickled) = (plain?, pickled?);
    ensure!(plain == pickled && plain.0.flagged(), "{plain:?} and {pickled:?}");

    let refused = |at: &Path| -> Result<String> {
        let loaded = SafetySource::folder(at).and_then(|source| load_safety_checker(&source, &EXACT));
        Ok(loaded.err().context("it was loaded")?.to_string())
    };
    let folder = folder.path().join("false");
    std::fs::write(folder.join("preprocessor_config.json"), r#"{"crop_size": 200}"#)?;
    let error = refused(&folder)?;
    ensure!(error.contains("crop_size is 200; expected 224"), "{error}");
    std::fs::remove_file(folder.join("preprocessor_config.json"))?;
    std::fs::remove_file(folder.join("model.safetensors"))?;
    let error = refused(&folder)?;
    ensure!(error.contains("holds no weights: expected model.safetensors"), "{error}");
    std::fs::remove_file(folder.join("config.json"))?;
    let error = refused(&folder)?;
    ensure!(error.contains("has no config.json"), "{error}");
    Ok(())
}
