//! A model whose answers depend on the row alone and which notes who was in every evaluation; a clock that only it moves.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use darkroom_samplers::{NoiseSchedule, Plan, PlanRequest, Sampler, ScheduleConfig};

use crate::error::ModelError;
use crate::given::Given;
use crate::model::{DenoiseModel, Row};
use crate::observer::{Observer, WasteReason};
use crate::request::{Adapter, DenoiseRequest, Guidance};
use crate::slots::LatentSize;

/// Prompts that make the fake model misbehave.
pub(super) const PANICS: f32 = -1.0;
pub(super) const FAILS: f32 = -2.0;
pub(super) const SHORT: f32 = -3.0;
pub(super) const NAN: f32 = -4.0;
pub(super) const UNPREPARED: f32 = -5.0;

/// What a prepared prompt takes for each of its tokens.
pub(super) const TOKEN_BYTES: usize = 1000;
/// What an adapter takes.
pub(super) const ADAPTER_BYTES: usize = 700;

/// A clock that stands still until somebody moves it.
#[derive(Clone)]
pub(super) struct FakeClock(Arc<Mutex<Instant>>);

impl FakeClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }

    pub(super) fn forward(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

/// The rows of every evaluation so far, by prompt.
pub(super) type Log = Arc<Mutex<Vec<Vec<f32>>>>;

/// Each evaluation takes one second of its clock.
pub(super) struct FakeModel {
    pub(super) clock: FakeClock,
    pub(super) log: Log,
    /// Where given, each evaluation waits for a nod, until nobody is left to give one.
    pub(super) nods: Option<mpsc::Receiver<()>>,
}

impl DenoiseModel for FakeModel {
    /// The prompt's first value stands for the prompt.
    type Context = f32;

    fn prepare(&mut self, prompt_embeds: &[f32], tokens: usize, _: &[Adapter]) -> Result<f32, ModelError> {
        assert_eq!(prompt_embeds.len() % tokens, 0);
        if prompt_embeds[0] == UNPREPARED { Err("no such prompt".into()) } else { Ok(prompt_embeds[0]) }
    }

    fn context_bytes(&self, tokens: usize) -> usize {
        TOKEN_BYTES * tokens
    }

    fn adapter_bytes(&self, adapters: &[Adapter]) -> usize {
        ADAPTER_BYTES * adapters.len()
    }

    fn predict(&mut self, rows: &[Row<'_, f32>], _: LatentSize) -> Result<Vec<Vec<f32>>, ModelError> {
        let prompts: Vec<f32> = rows.iter().map(|row| *row.context).collect();
        self.log.lock().unwrap().push(prompts.clone());
        if let Some(nods) = &self.nods {
            let _ = nods.recv();
        }
        self.clock.forward(Duration::from_secs(1));
        assert!(!prompts.contains(&PANICS), "a row that panics");
        if prompts.contains(&FAILS) {
            return Err("a row that fails".into());
        }
        let answer = |row: &Row<'_, f32>| -> Vec<f32> {
            let value = |x: &f32| (x * 0.7 + row.context * 0.1 + row.timestep * 1e-4).sin();
            let values = row.latents.iter().map(value);
            if *row.context == SHORT {
                values.skip(1).collect()
            } else if *row.context == NAN {
                values.map(|_| f32::NAN).collect()
            } else {
                values.collect()
            }
        };
        Ok(rows.iter().map(answer).collect())
    }
}

/// Notes what was wasted.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) wasted: Mutex<Vec<(WasteReason, usize)>>,
    pub(super) waits: Mutex<Vec<Duration>>,
}

impl Observer for Notes {
    fn started(&self, waited: Duration) {
        self.waits.lock().unwrap().push(waited);
    }

    fn wasted(&self, reason: WasteReason, steps: usize) {
        self.wasted.lock().unwrap().push((reason, steps));
    }
}

pub(super) fn plan(sampler: Sampler, steps: usize) -> Plan {
    let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
    schedule.plan(&PlanRequest::new(sampler, steps)).unwrap()
}

/// Not random at all, but different for every seed and draw.
pub(super) fn noise(seed: usize) -> impl FnMut(usize) -> Vec<f32> {
    let mut draw = 0;
    move |n| {
        draw += 1;
        (0..n).map(|i| ((i * 31 + draw * 17 + seed * 7) as f32 * 0.37).sin()).collect()
    }
}

/// A DDIM request of so many evaluations for 8×8 latents.
pub(super) fn request(prompt: f32, evaluations: usize) -> DenoiseRequest {
    request_with(prompt, plan(Sampler::Ddim, evaluations))
}

pub(super) fn request_with(prompt: f32, plan: Plan) -> DenoiseRequest {
    DenoiseRequest {
        plan,
        channels: 4,
        size: LatentSize { height: 8, width: 8 },
        tokens: 2,
        prompt_embeds: vec![prompt; 6],
        adapters: Vec::new(),
        guidance: None,
        embedded_guidance: None,
        given: Given::default(),
        noise: Box::new(noise(prompt.abs() as usize)),
        preview_every: 0,
        resume_from: None,
    }
}

/// One request of every sampler, with and without guidance and eta, of different lengths: `steps` and more.
pub(super) fn kinds(steps: usize) -> Vec<DenoiseRequest> {
    let schedule = NoiseSchedule::new(&ScheduleConfig::default()).unwrap();
    let kind = |(i, sampler): (usize, Sampler)| {
        let eta = if sampler == Sampler::Ddim { 0.5 } else { 0.0 };
        let plan = schedule.plan(&PlanRequest { eta, ..PlanRequest::new(sampler, steps + i) }).unwrap();
        let request = request_with(1.0 + i as f32, plan);
        if i % 2 == 0 { request } else { DenoiseRequest { guidance: guided(1.0, 1).guidance, ..request } }
    };
    Sampler::ALL.into_iter().enumerate().map(kind).collect()
}

pub(super) fn guided(prompt: f32, evaluations: usize) -> DenoiseRequest {
    let guidance = Guidance { tokens: 2, negative_prompt_embeds: vec![0.0; 6], scale: 7.5 };
    DenoiseRequest { guidance: Some(guidance), ..request(prompt, evaluations) }
}

pub(super) fn sized(prompt: f32, evaluations: usize, side: usize) -> DenoiseRequest {
    DenoiseRequest { size: LatentSize { height: side, width: side }, ..request(prompt, evaluations) }
}
