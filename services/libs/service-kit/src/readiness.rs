//! The latch that says whether a service takes calls, and why not.

use tokio::sync::watch;

/// Where a service is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not ready yet: it still loads.
    Starting,
    /// It takes calls.
    Ready,
    /// It is up, but something that it needs is not: the reason, in words.
    Waiting(String),
    /// It will never be ready: the reason, in words.
    Failed(String),
    /// It finishes what runs and takes nothing new.
    Draining,
}

/// Shared between the service, which turns it, and health, probes and drain, which follow it. Clones are the same latch.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: watch::Sender<State>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::Starting) }
    }
}

impl Readiness {
    /// The service takes calls from now on.
    pub fn set_ready(&self) {
        self.turn(State::Ready);
    }

    /// The service cannot take calls for now.
    pub fn set_waiting(&self, why: impl Into<String>) {
        self.turn(State::Waiting(why.into()));
    }

    /// The service will never be ready; its process ends with this message.
    pub fn fail(&self, why: impl Into<String>) {
        self.turn(State::Failed(why.into()));
    }

    pub(crate) fn drain(&self) {
        self.turn(State::Draining);
    }

    /// What it says now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Whether calls are taken now.
    pub fn is_ready(&self) -> bool {
        *self.state.borrow() == State::Ready
    }

    /// Every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Waits until calls are taken.
    ///
    /// # Errors
    /// The reason, when the service failed or drains before that.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let mut states = self.subscribe();
        let settled = |state: &State| !matches!(state, State::Starting | State::Waiting(_));
        match &*states.wait_for(settled).await? {
            State::Failed(why) => anyhow::bail!("{why}"),
            State::Draining => anyhow::bail!("the service was stopped before it was ready"),
            State::Starting | State::Waiting(_) | State::Ready => Ok(()),
        }
    }

    /// A drain is final, and a failure gives way only to it.
    fn turn(&self, next: State) {
        self.state.send_if_modified(|state| {
            let held = match state {
                State::Draining => true,
                State::Failed(_) => next != State::Draining,
                State::Starting | State::Ready | State::Waiting(_) => false,
            };
            if held || *state == next {
                return false;
            }
            *state = next;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_final_and_a_failure_nearly() {
        let readiness = Readiness::default();
        readiness.set_waiting("no vae");
        assert!(!readiness.is_ready());
        readiness.set_ready();
        assert!(readiness.is_ready());
        readiness.fail("broken");
        readiness.set_ready();
        assert_eq!(readiness.state(), State::Failed("broken".into()));
        readiness.drain();
        readiness.set_ready();
        assert_eq!(readiness.state(), State::Draining);
    }

    #[tokio::test]
    async fn waiting_ends_with_ready_or_the_reason() {
        let good = Readiness::default();
        let waiter = tokio::spawn({
            let good = good.clone();
            async move { good.ready().await }
        });
        good.set_waiting("soon");
        good.set_ready();
        waiter.await.unwrap().unwrap();

        let bad = Readiness::default();
        bad.fail("no such file: model.ckpt");
        assert_eq!(bad.ready().await.unwrap_err().to_string(), "no such file: model.ckpt");
    }
}
