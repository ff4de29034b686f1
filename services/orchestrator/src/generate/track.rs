//! How far a picture has got, over all tries: what the client was told, and where the next try begins. A plain struct.

use darkroom_proto::v1::Checkpoint;

/// Where the next try begins, and what that means for the work done so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Resume {
    /// `None`: from the start.
    pub(crate) from: Option<Checkpoint>,
    /// Evaluations that are not done again.
    pub(crate) saved_evaluations: u32,
    /// Steps that were told to be done and will be done again.
    pub(crate) repeated_steps: u32,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Track {
    attempt: u32,
    latest: Option<Checkpoint>,
    /// The evaluation that the running try began at.
    began_at: u32,
    /// The last step that any try has done.
    done: u32,
    /// Steps that are covered by the latest checkpoint.
    covered: u32,
    /// Steps that the running try had behind it when it began, and has now.
    began_with: u32,
    reached: u32,
}

impl Track {
    /// The number of the try that runs, from 0.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The last step that any try has done.
    pub(crate) fn done(&self) -> u32 {
        self.done
    }

    /// A step is done. Says whether it is news: steps never go back or come twice, however often they are computed.
    pub(crate) fn step(&mut self, step: u32) -> bool {
        let news = step > self.done;
        self.reached = step;
        self.done = self.done.max(step);
        news
    }

    /// A checkpoint came. It is kept in place of the one before, unless it is no further.
    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) {
        if self.latest.as_ref().is_none_or(|latest| checkpoint.evaluation > latest.evaluation) {
            // A step whose event comes after the checkpoint of its last evaluation counts as uncovered until the next.
            self.covered = self.done;
            self.latest = Some(checkpoint);
        }
    }

    /// Whether the next try begins further on than the running one did.
    pub(crate) fn got_further(&self) -> bool {
        self.evaluation() > self.began_at
    }

    /// The next try: from the latest checkpoint, or `afresh`, when workers cannot go on from it.
    pub(crate) fn next(&mut self, afresh: bool) -> Resume {
        self.attempt += 1;
        if afresh {
            self.latest = None;
            self.covered = 0;
        }
        self.began_at = self.evaluation();
        self.began_with = self.covered;
        self.reached = self.covered;
        let repeated_steps = self.done - self.covered;
        Resume { from: self.latest.clone(), saved_evaluations: self.began_at, repeated_steps }
    }

    /// The step that the running try does first, from 1.
    pub(crate) fn first_step(&self) -> u32 {
        self.began_with + 1
    }

    /// Steps that the running try has done.
    pub(crate) fn steps_here(&self) -> u32 {
        self.reached.saturating_sub(self.began_with)
    }

    /// Bytes of the tensors that are kept.
    pub(crate) fn bytes(&self) -> usize {
        let states = self.latest.iter().flat_map(|latest| &latest.states);
        states.filter_map(|state| state.tensor.as_ref()).map(|tensor| tensor.data.len()).sum()
    }

    fn evaluation(&self) -> u32 {
        self.latest.as_ref().map_or(0, |latest| latest.evaluation)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(evaluation: u32) -> Checkpoint {
        Checkpoint { evaluation, ..Checkpoint::default() }
    }

    #[test]
    fn a_try_begins_at_the_latest_checkpoint() {
        let mut track = Track::default();
        for (step, evaluation) in [(1, 1), (2, 2), (3, 3)] {
            assert!(track.step(step));
            track.checkpoint(at(evaluation));
        }
        assert!(track.step(4));
        track.checkpoint(at(2));
        assert!(track.got_further());
        assert_eq!((track.first_step(), track.steps_here()), (1, 4));
        let resume = track.next(false);
        assert_eq!(resume, Resume { from: Some(at(3)), saved_evaluations: 3, repeated_steps: 1 });
        assert_eq!(track.attempt(), 1);
        // Step 4 is done again and not told again.
        assert!(!track.step(4));
        assert!(track.step(5));
        assert_eq!((track.first_step(), track.steps_here()), (4, 2));
        assert!(!track.got_further());
    }

    #[test]
    fn afresh_repeats_everything() {
        let mut track = Track::default();
        track.step(1);
        track.checkpoint(at(1));
        track.step(2);
        assert_eq!(track.next(true), Resume { from: None, saved_evaluations: 0, repeated_steps: 2 });
        assert!(!track.step(2) && track.step(3));
    }

    proptest! {
        /// Whatever comes in whatever order: told steps only grow, and a try never begins before one that ended.
        #[test]
        fn nothing_goes_back(events in prop::collection::vec((0u8..3, 1u32..30), 0..200)) {
            let (mut track, mut told, mut began) = (Track::default(), 0, 0);
            for (kind, number) in events {
                match kind {
                    0 => {
                        let news = track.step(number);
                        prop_assert_eq!(news, number > told);
                        told = told.max(number);
                    }
                    1 => track.checkpoint(at(number)),
                    _ => {
                        let attempt = track.attempt();
                        let resume = track.next(false);
                        prop_assert_eq!(track.attempt(), attempt + 1);
                        prop_assert!(resume.saved_evaluations >= began);
                        began = resume.saved_evaluations;
                    }
                }
            }
        }
    }
}
