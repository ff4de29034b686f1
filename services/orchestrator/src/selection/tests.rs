//! Who serves together, from full agreement to the middle of an upgrade.

use proptest::prelude::*;

use super::*;
use crate::tests::fakes;

/// A worker of `stage` that runs another model than the fakes' own, or another precision.
fn worker(stage: Stage, revision: &str, precision: &str) -> Info {
    let mut info = match stage {
        Stage::TextEncoder => Info::TextEncoder(fakes::text_info()),
        Stage::Denoiser => Info::Denoiser(fakes::denoiser_info()),
        Stage::Vae => Info::Vae(fakes::vae_info()),
    };
    let common = match &mut info {
        Info::TextEncoder(info) => info.stage.as_mut(),
        Info::Denoiser(info) => info.stage.as_mut(),
        Info::Vae(info) => info.stage.as_mut(),
    };
    let common = common.unwrap();
    (common.model, common.revision, common.precision) =
        (format!("model-{revision}"), revision.into(), precision.into());
    info
}

fn whole(revision: &str) -> Vec<Info> {
    Stage::ALL.map(|stage| worker(stage, revision, "f32")).to_vec()
}

fn chosen(infos: &[Info], served: Option<&Pins>) -> Option<Selection> {
    select(&infos.iter().collect::<Vec<_>>(), served).unwrap()
}

fn revisions(selection: &Selection) -> [&str; 3] {
    Stage::ALL.map(|stage| selection.model.pins.of(stage).revision.as_str())
}

#[test]
fn a_stage_without_a_worker_is_no_model() {
    for missing in 0..3 {
        let mut infos = whole("a");
        infos.remove(missing);
        assert!(chosen(&infos, None).is_none());
    }
}

#[test]
fn the_majority_serves_and_the_rest_is_told_why() {
    let mut infos = whole("a");
    infos.extend([
        worker(Stage::Denoiser, "a", "f32"),
        worker(Stage::Denoiser, "a", "bf16"),
        worker(Stage::Denoiser, "b", "f32"),
    ]);
    let selection = chosen(&infos, None).unwrap();
    assert_eq!(revisions(&selection), ["a"; 3]);
    let why: Vec<_> = infos.iter().map(|info| selection.unfit(info)).collect();
    assert_eq!(why[..4], [None, None, None, None]);
    assert_eq!(why[4].as_ref().map(Unfit::state), Some("misfit_precision"));
    assert_eq!(why[4].as_ref().unwrap().to_string(), "computes in bf16, the others in f32");
    assert_eq!(why[5].as_ref().map(Unfit::state), Some("misfit_revision"));
    assert_eq!(why[5].as_ref().unwrap().to_string(), "runs revision b in f32, the others run revision a in f32");
}

#[test]
fn an_upgrade_is_served_once_it_is_whole_and_the_larger_part() {
    let mut infos = [whole("a"), whole("a")].concat();
    let old = chosen(&infos, None).unwrap().model.pins;
    // Many new denoisers alone make no model of one name.
    infos.extend((0..5).map(|_| worker(Stage::Denoiser, "b", "f32")));
    assert_eq!(chosen(&infos, Some(&old)).unwrap().model.pins, old);
    infos.extend((0..2).flat_map(|_| [worker(Stage::TextEncoder, "b", "f32"), worker(Stage::Vae, "b", "f32")]));
    assert_eq!(revisions(&chosen(&infos, Some(&old)).unwrap()), ["b"; 3]);
}

#[test]
fn between_equals_the_choice_stays() {
    let infos = [whole("a"), whole("b")].concat();
    for revision in ["a", "b"] {
        let served = chosen(&whole(revision), None).unwrap().model.pins;
        assert_eq!(chosen(&infos, Some(&served)).unwrap().model.pins, served);
    }
}

#[test]
fn shapes_that_do_not_fit_are_passed_over_while_others_do() {
    let wide = |info: Info| match info {
        Info::TextEncoder(mut info) => {
            info.hidden_size = 768;
            Info::TextEncoder(info)
        }
        other => other,
    };
    let mut infos = whole("a");
    infos.extend((0..3).map(|_| wide(worker(Stage::TextEncoder, "b", "f32"))));
    assert_eq!(revisions(&chosen(&infos, None).unwrap()), ["a"; 3]);
    infos.remove(0);
    let error = select(&infos.iter().collect::<Vec<_>>(), None).unwrap_err();
    assert!(error.to_string().starts_with("text_encoder: its embeddings are 768 wide"), "{error}");
}

proptest! {
    /// Whatever is ready: who is chosen is ready, and the order of the list does not matter.
    #[test]
    fn the_choice_is_made_of_ready_workers_whatever_their_order(
        workers in prop::collection::vec((0usize..3, 0usize..3, any::<bool>()), 0..12),
        turn in 0usize..12,
    ) {
        let mut infos: Vec<Info> = workers
            .iter()
            .map(|&(stage, revision, half)| worker(Stage::ALL[stage], ["a", "b", "c"][revision], if half { "bf16" } else { "f32" }))
            .collect();
        let first = chosen(&infos, None).map(|selection| selection.model.pins);
        let all_stages = Stage::ALL.iter().all(|stage| infos.iter().any(|info| info.stage() == *stage));
        prop_assert_eq!(first.is_some(), all_stages);
        if let Some(pins) = &first {
            for stage in Stage::ALL {
                let fits = |info: &Info| info.stage() == stage && Identity::of(info) == *pins.of(stage);
                prop_assert!(infos.iter().any(fits));
            }
        }
        let middle = turn % infos.len().max(1);
        infos.rotate_left(middle);
        prop_assert_eq!(chosen(&infos, None).map(|selection| selection.model.pins), first);
    }
}
