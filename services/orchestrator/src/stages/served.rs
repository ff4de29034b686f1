//! What the ready workers serve together: worked out once a change, and read by every request for nothing.

use std::sync::Arc;

use super::{Info, Stage, StageError, Worker};
use crate::model::Model;
use crate::scheduler::WorkerSpeed;
use crate::selection::{Selection, select};

/// A worker that serves, and what it said of itself then.
pub(crate) struct Replica {
    pub(crate) worker: Arc<Worker>,
    pub(crate) info: Arc<Info>,
}

/// One state of the fleet. It never changes; the next one replaces it.
pub(crate) struct Served {
    /// What requests may ask for, or why there is nothing.
    pub(crate) model: Result<Arc<Model>, StageError>,
    /// Who serves it; nobody without a model.
    replicas: [Vec<Replica>; 3],
    /// What was served last, now or not.
    last: Option<Arc<Model>>,
}

impl Served {
    /// Before any worker was asked.
    pub(super) fn nothing(why: StageError) -> Self {
        Self { model: Err(why), replicas: Default::default(), last: None }
    }

    /// Chooses among `workers`, who learn what it means for them. `away` says why a stage has nobody.
    pub(super) fn of(workers: &[Arc<Worker>], before: &Self, away: impl FnOnce(Stage) -> StageError) -> Self {
        let ready: Vec<Replica> = workers
            .iter()
            .filter_map(|worker| Some(Replica { info: worker.info()?, worker: Arc::clone(worker) }))
            .collect();
        let infos: Vec<&Info> = ready.iter().map(|replica| replica.info.as_ref()).collect();
        let selection = select(&infos, before.last.as_ref().map(|model| &model.pins));
        let chosen = selection.as_ref().ok().and_then(Option::as_ref);
        for worker in workers {
            let info = worker.info();
            worker.set_unfit(chosen.zip(info.as_deref()).and_then(|(chosen, info)| chosen.unfit(info)));
        }
        match selection {
            Ok(Some(selection)) => Self::chosen(selection, ready, before),
            Ok(None) => {
                let there = |stage| ready.iter().any(|replica| replica.worker.stage == stage);
                // Denoisers may be away on purpose: they are named where nobody else is missing.
                let others = [Stage::TextEncoder, Stage::Vae];
                let missing = others.into_iter().find(|stage| !there(*stage)).unwrap_or(Stage::Denoiser);
                Self { model: Err(away(missing)), replicas: Default::default(), last: before.last.clone() }
            }
            Err(misfit) => Self { model: Err(misfit.into()), replicas: Default::default(), last: before.last.clone() },
        }
    }

    fn chosen(Selection { model }: Selection, ready: Vec<Replica>, before: &Self) -> Self {
        let mut replicas: [Vec<Replica>; 3] = Default::default();
        for replica in ready {
            let stage = replica.worker.stage;
            if model.pins.of(stage).is_of(&replica.info) {
                replicas[stage as usize].push(replica);
            }
        }
        // One that stays the same stays itself, so that who compares has an easy time.
        let model = match &before.last {
            Some(same) if **same == model => Arc::clone(same),
            _ => Arc::new(model),
        };
        Self { model: Ok(Arc::clone(&model)), replicas, last: Some(model) }
    }

    /// What was served last, now or not; `None` where nothing ever was.
    pub(crate) fn last(&self) -> Option<&Arc<Model>> {
        self.last.as_ref()
    }

    /// Who serves in `stage`.
    pub(crate) fn replicas(&self, stage: Stage) -> &[Replica] {
        &self.replicas[stage as usize]
    }

    /// How many calls those in `stage` have places for.
    pub(super) fn places(&self, stage: Stage) -> usize {
        self.replicas(stage).iter().map(|replica| replica.info.places()).sum()
    }

    /// How fast the denoisers are that are used.
    pub(crate) fn speeds(&self) -> Vec<WorkerSpeed> {
        let Ok(model) = &self.model else { return Vec::new() };
        let pixels = model.default_pixels();
        self.replicas(Stage::Denoiser).iter().filter_map(|replica| replica.worker.speed(pixels)).collect()
    }
}

#[cfg(test)]
mod tests {
    use darkroom_service_kit::channel;

    use super::*;
    use crate::stages::worker::Away;
    use crate::tests::fakes;

    fn worker(info: Info) -> Arc<Worker> {
        let worker = Worker::new(info.stage(), "w:1".into(), channel::lazy("127.0.0.1:1").unwrap());
        worker.set_ready(info);
        Arc::new(worker)
    }

    fn whole() -> Vec<Arc<Worker>> {
        let infos = [
            Info::TextEncoder(fakes::text_info()),
            Info::Denoiser(fakes::denoiser_info()),
            Info::Vae(fakes::vae_info()),
        ];
        infos.map(worker).to_vec()
    }

    fn away(stage: Stage) -> StageError {
        StageError::Away { stage, why: "test".into() }
    }

    fn served(workers: &[Arc<Worker>], before: &Served) -> Served {
        Served::of(workers, before, away)
    }

    fn half() -> Info {
        let mut info = fakes::denoiser_info();
        info.stage.as_mut().unwrap().precision = "bf16".into();
        Info::Denoiser(info)
    }

    #[tokio::test]
    async fn replicas_are_who_serves_and_the_others_know_why_they_do_not() {
        let mut workers = whole();
        workers.push(worker(Info::Denoiser(fakes::denoiser_info())));
        workers.push(worker(half()));
        let served = served(&workers, &Served::nothing(away(Stage::Vae)));
        assert_eq!(Stage::ALL.map(|stage| served.replicas(stage).len()), [1, 2, 1]);
        assert_eq!(served.speeds().len(), 2);
        assert_eq!(workers[4].state(), "misfit_precision");
        assert_eq!(workers[3].state(), "ready");
    }

    #[tokio::test]
    async fn a_model_that_stays_is_the_same_one() {
        let workers = whole();
        let first = served(&workers, &Served::nothing(away(Stage::Vae)));
        let second = served(&workers, &first);
        assert!(Arc::ptr_eq(first.model.as_ref().unwrap(), second.model.as_ref().unwrap()));
    }

    #[tokio::test]
    async fn what_was_chosen_is_remembered_while_a_stage_is_away() {
        let mut workers = whole();
        let first = served(&workers, &Served::nothing(away(Stage::Vae)));
        workers[1].set_away(Away::Unreachable, "gone".into());
        let second = served(&workers, &first);
        assert_eq!(second.model.as_ref().unwrap_err(), &away(Stage::Denoiser));
        assert_eq!((second.speeds().len(), second.replicas(Stage::Vae).len()), (0, 0));
        assert!(Arc::ptr_eq(second.last().unwrap(), first.model.as_ref().unwrap()));
        // Both are as good: the one that served before goes on.
        workers[1].set_ready(Info::Denoiser(fakes::denoiser_info()));
        workers.insert(0, worker(half()));
        let third = served(&workers, &second);
        assert_eq!(third.model.as_ref().unwrap().pins, first.model.as_ref().unwrap().pins);
    }
}
