//! LMS: the derivative of the last four steps as a polynomial in σ, integrated over the next.
//!
//! Linear multistep along dx/dσ = ε, as k-diffusion's `sample_lms` of order 4 and diffusers' `LMSDiscreteScheduler`. Both integrate
//! numerically; the polynomials are cubic at most, so Gauss' rule with two nodes is exact. Begun from a picture, the order grows from
//! one again, as in k-diffusion: diffusers weighs its first derivative there as if earlier ones were known.

use crate::plan::{LATENTS, Plan, Source, StateId, Term, Update};
use crate::planning::Steps;
use crate::sampler::Sampler;
use crate::schedule::NoiseSchedule;
use crate::sigma_path::{SigmaPath, evaluation};

const ORDER: usize = 4;

/// Where the i-th output lies: the last three take turns.
fn kept(i: usize) -> StateId {
    1 + i % (ORDER - 1)
}

pub(crate) fn plan(schedule: &NoiseSchedule, steps: Steps) -> Plan {
    let path = SigmaPath::new(schedule, steps);
    let sigmas: Vec<f64> = path.steps().map(|step| step.sigma).collect();
    let evaluations = path.steps().map(|step| {
        let i = step.index;
        let order = ORDER.min(i + 1);
        let nodes: Vec<f64> = (0..order).map(|back| sigmas[i - back]).collect();
        let mut update = Update::new(LATENTS, [(Source::State(LATENTS), 1.0)]);
        update.terms.extend((0..order).map(|back| Term {
            source: if back == 0 { Source::ModelOutput } else { Source::State(kept(i - back)) },
            coefficient: weight(&nodes, back, step.sigma, step.next_sigma),
        }));
        let mut updates = vec![update];
        if step.next_timestep.is_some() {
            updates.push(Update::new(kept(i), [(Source::ModelOutput, 1.0)]));
        }
        evaluation(LATENTS, step.timestep, step.sigma, i + 1, updates)
    });
    Plan::new(Sampler::Lms, steps.taken(), path.initial, evaluations.collect())
}

/// The integral from `from` to `to` of the polynomial that is 1 at `nodes[of]` and 0 at the others.
fn weight(nodes: &[f64], of: usize, from: f64, to: f64) -> f64 {
    let basis = |at: f64| {
        let others = nodes.iter().enumerate().filter(|(index, _)| *index != of);
        others.map(|(_, node)| (at - node) / (nodes[of] - node)).product::<f64>()
    };
    let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
    let node = half / 3.0_f64.sqrt();
    half * (basis(middle - node) + basis(middle + node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_integrate_cubics_exactly() {
        let nodes = [5.0, 7.0, 10.0, 14.0];
        for power in 0..4 {
            let value = |at: f64| at.powi(power);
            let found: f64 = (0..4).map(|of| weight(&nodes, of, 5.0, 4.0) * value(nodes[of])).sum();
            let exact = (value(4.0) * 4.0 - value(5.0) * 5.0) / f64::from(power + 1);
            assert!((found - exact).abs() < 1e-9, "{power}: {found} is not {exact}");
        }
    }
}
