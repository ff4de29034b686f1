//! When requests that wait are told that no model will be served: a pure decision over what is served now.
//!
//! A stage that is away may come back, and is waited for; workers that do not fit each other will not fit by waiting.

use std::time::{Duration, Instant};

use super::StageError;

/// A plain struct that is told the time.
#[derive(Debug)]
pub(super) struct Absence {
    patience: Duration,
    /// Since when nothing is served, and why.
    away: Option<(Instant, StageError)>,
}

impl Absence {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, away: None }
    }

    /// What is served has changed; `error` is `None` while something is.
    pub(super) fn changed(&mut self, error: Option<StageError>, now: Instant) {
        let since = self.away.take().map_or(now, |(since, _)| since);
        self.away = error.map(|error| (since, error));
    }

    /// Why waiting is in vain; `None` while it is not.
    pub(super) fn lost(&self, now: Instant) -> Option<&StageError> {
        let (_, error) = self.away.as_ref()?;
        self.due().is_none_or(|due| due <= now).then_some(error)
    }

    /// When it will be in vain, if nothing changes until then and time alone decides.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.away {
            Some((since, StageError::Away { .. })) => Some(*since + self.patience),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Misfit;
    use crate::stages::Stage;

    const SECOND: Duration = Duration::from_secs(1);

    fn away(why: &str) -> StageError {
        StageError::Away { stage: Stage::Vae, why: why.into() }
    }

    #[test]
    fn a_stage_that_stays_away_is_told_with_what_it_is_then() {
        let (mut absence, now) = (Absence::new(10 * SECOND), Instant::now());
        assert_eq!((absence.lost(now), absence.due()), (None, None));
        absence.changed(Some(away("reset")), now);
        absence.changed(Some(away("refused")), now + 9 * SECOND);
        assert_eq!(absence.due(), Some(now + 10 * SECOND));
        assert_eq!(absence.lost(now + 9 * SECOND), None);
        assert_eq!(absence.lost(now + 10 * SECOND), Some(&away("refused")));
    }

    #[test]
    fn one_that_comes_back_starts_anew() {
        let (mut absence, now) = (Absence::new(10 * SECOND), Instant::now());
        absence.changed(Some(away("reset")), now);
        absence.changed(None, now + 9 * SECOND);
        assert_eq!(absence.lost(now + 20 * SECOND), None);
        absence.changed(Some(away("reset")), now + 20 * SECOND);
        assert_eq!(absence.lost(now + 29 * SECOND), None);
        assert!(absence.lost(now + 30 * SECOND).is_some());
    }

    #[test]
    fn workers_that_do_not_fit_are_not_waited_for() {
        let (mut absence, now) = (Absence::new(10 * SECOND), Instant::now());
        let misfit = StageError::Misfit(Misfit { stage: Stage::Vae, message: "16 channels".into() });
        absence.changed(Some(misfit.clone()), now);
        assert_eq!((absence.lost(now), absence.due()), (Some(&misfit), None));
        assert!(Absence::new(Duration::ZERO).lost(now).is_none());
    }
}
