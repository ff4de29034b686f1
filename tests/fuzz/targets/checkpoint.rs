//! A checkpoint as a worker makes it, then broken: the engine goes on from a whole one with the same bits, and refuses the rest.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use darkroom_engine::run::Run;
use darkroom_engine::{Checkpoint, Given, NoiseSource, RunError};
use darkroom_models::noise::{Generator, Rng};
use darkroom_samplers::{NoiseSchedule, Plan, PlanRequest, Sampler, ScheduleConfig};
use libfuzzer_sys::fuzz_target;

/// A request, the evaluation at which it stops, and what becomes of its checkpoint.
#[derive(Debug, Arbitrary)]
struct Case {
    sampler: u8,
    steps: u8,
    eta: Option<u8>,
    elements: u8,
    seed: u64,
    /// The model's answer depends on its input by this.
    slope: i8,
    stop: u8,
    damage: Vec<Damage>,
}

#[derive(Debug, Arbitrary)]
enum Damage {
    Version(u32),
    Evaluation(u32),
    Draws(u32),
    DropState,
    AddState(u8),
    Cut { state: u8, len: u16 },
    Lengthen { state: u8, by: u8 },
    Value { state: u8, at: u16, value: f32 },
}

struct Noise(Generator);

impl NoiseSource for Noise {
    fn fill(&mut self, out: &mut [f32]) {
        self.0.fill(out);
    }

    fn skip(&mut self, len: usize) {
        self.0.skip(len);
    }
}

fuzz_target!(|input: &[u8]| {
    if let Ok(case) = Case::arbitrary(&mut Unstructured::new(input)) {
        case.check();
    }
});

impl Case {
    fn check(&self) {
        let sampler = Sampler::ALL[usize::from(self.sampler) % Sampler::ALL.len()];
        let eta = self.eta.filter(|_| sampler == Sampler::Ddim).map_or(0.0, |eta| f64::from(eta) / 255.0);
        let request = PlanRequest { eta, ..PlanRequest::new(sampler, 1 + usize::from(self.steps % 8)) };
        let schedule = NoiseSchedule::new(&ScheduleConfig::default()).expect("the reference's schedule");
        let plan = schedule.plan(&request).expect("steps and eta are in range");
        let elements = 1 + usize::from(self.elements % 40);

        let mut whole = Run::new(plan.clone(), elements, Given::default(), self.noise()).expect("a sampler's own plan");
        let stop = usize::from(self.stop) % plan.num_evaluations();
        self.advance(&mut whole, stop);
        let checkpoint = whole.checkpoint();
        assert_eq!(checkpoint.check(&plan, elements), Ok(()), "its own request refuses it");
        assert_eq!(whole.done(), stop);

        let mut resumed = self.resume(&plan, elements, checkpoint.clone()).expect("its own request refuses it");
        assert_eq!(resumed.checkpoint(), checkpoint);
        self.advance(&mut whole, usize::MAX);
        self.advance(&mut resumed, usize::MAX);
        assert_eq!(bits(whole), bits(resumed), "another picture after an interruption");

        self.check_damaged(&plan, elements, checkpoint);
    }

    fn check_damaged(&self, plan: &Plan, elements: usize, whole: Checkpoint) {
        let mut damaged = whole.clone();
        self.damage.iter().take(4).for_each(|damage| damage.apply(&mut damaged));
        let checked = damaged.check(plan, elements);
        match self.resume(plan, elements, damaged.clone()) {
            Ok(mut run) => {
                assert_eq!(checked, Ok(()));
                assert_eq!((damaged.plan_version, damaged.states.len()), (Plan::VERSION, plan.num_states));
                assert!(damaged.evaluation < plan.num_evaluations());
                assert!(damaged.states.iter().all(|state| state.len() == elements));
                self.advance(&mut run, usize::MAX);
                assert_eq!((run.remaining(), run.into_latents().len()), (0, elements));
            }
            Err(RunError::Checkpoint(error)) => {
                assert_eq!(checked.as_ref().map_err(ToString::to_string), Err(error.to_string()));
                assert_ne!(format!("{damaged:?}"), format!("{whole:?}"), "a whole one is refused");
                fuzzing::check_message("", &error.to_string());
                assert!(["plan_version", "evaluation", "states", "noise_draws"].contains(&error.field()));
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn noise(&self) -> Box<Noise> {
        Box::new(Noise(Generator::new(Rng::Cpu, self.seed)))
    }

    fn resume(&self, plan: &Plan, elements: usize, checkpoint: Checkpoint) -> Result<Run, RunError> {
        Run::resume(plan.clone(), elements, Given::default(), self.noise(), checkpoint)
    }

    /// Evaluates a stand-in for the model until `until` evaluations are done.
    fn advance(&self, run: &mut Run, until: usize) {
        while run.remaining() > 0 && run.done() < until {
            run.prepare_input();
            let slope = f32::from(self.slope) / 64.0;
            let answer = |value: &f32| Some(value * slope).filter(|answer| answer.is_finite()).unwrap_or_default();
            let output: Vec<f32> = run.input().iter().map(answer).collect();
            let expected = run.finishes_step();
            assert_eq!(run.predicted_original(&output).len(), output.len());
            assert_eq!(run.advance(&output).expect("a finite output"), expected);
        }
    }
}

impl Damage {
    fn apply(&self, checkpoint: &mut Checkpoint) {
        let states = &mut checkpoint.states;
        let count = states.len().max(1);
        match *self {
            Self::Version(version) => checkpoint.plan_version = version,
            Self::Evaluation(evaluation) => checkpoint.evaluation = evaluation as usize,
            Self::Draws(draws) => checkpoint.noise_draws = draws as usize,
            Self::DropState => drop(states.pop()),
            Self::AddState(len) => states.push(vec![0.0; len.into()]),
            Self::Cut { state, len } => {
                if let Some(state) = states.get_mut(usize::from(state) % count) {
                    state.truncate(len.into());
                }
            }
            Self::Lengthen { state, by } => {
                if let Some(state) = states.get_mut(usize::from(state) % count) {
                    state.resize(state.len() + usize::from(by), 0.0);
                }
            }
            Self::Value { state, at, value } => {
                let state = states.get_mut(usize::from(state) % count);
                if let Some(found) = state.and_then(|state| state.get_mut(usize::from(at) % 40)) {
                    *found = value;
                }
            }
        }
    }
}

fn bits(run: Run) -> Vec<u32> {
    run.into_latents().into_iter().map(f32::to_bits).collect()
}
