//! What is done to a decoded picture before it leaves: the safety checker looks at it, then it is signed.
//!
//! In the reference's order, so that the checker sees what was decoded. A picture that is blacked out stays black in every pixel: there
//! is nothing to sign.

use darkroom_engine::ModelError;
use darkroom_models::source::{ModelSource, SafetySource};
use darkroom_models::stage::{ComputeOptions, Identity, SafetyModel, load_safety_checker};
use darkroom_proto::v1::{SafetyPolicy, SafetyVerdict};

use crate::config::{Config, Policy, Switch};
use crate::picture::Picture;
use crate::watermark;

/// The operator's wishes, and the checker where one runs.
pub(crate) struct Finishing {
    watermark: bool,
    checker: Option<Checker>,
}

struct Checker {
    model: Box<dyn SafetyModel>,
    blocks: bool,
}

/// What the edge tells of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FinishingFacts {
    pub(crate) watermark: bool,
    pub(crate) policy: SafetyPolicy,
    /// Empty where no checker runs.
    pub(crate) safety_revision: String,
}

/// A picture that may leave.
pub(crate) struct Finished {
    pub(crate) picture: Picture,
    pub(crate) verdict: SafetyVerdict,
    pub(crate) signed: bool,
}

impl Finishing {
    /// Loads the checker that the settings name, else the model's own.
    ///
    /// # Errors
    /// What is wrong with its files; a policy that needs a checker where there is none.
    pub(crate) fn open(config: &Config, model: &ModelSource, compute: &ComputeOptions) -> Result<Self, ModelError> {
        let source = match (config.safety_policy, &config.safety_checker) {
            (Some(Policy::Off), _) => None,
            (_, Some(path)) => Some(SafetySource::folder(path)?),
            (_, None) => SafetySource::of(model)?,
        };
        if let (None, Some(policy @ (Policy::Block | Policy::Mark))) = (&source, config.safety_policy) {
            return Err(format!(
                "safety_policy is {policy}, and {} brings no safety_checker: name one with safety_checker, or set safety_policy off",
                model.name()
            )
            .into());
        }
        let checker = match source {
            Some(source) => {
                let mut model = load_safety_checker(&source, compute)?;
                model.warm()?;
                Some(Checker { model, blocks: config.safety_policy != Some(Policy::Mark) })
            }
            None => None,
        };
        Ok(Self { watermark: config.watermark == Switch::On, checker })
    }

    pub(crate) fn facts(&self) -> FinishingFacts {
        let policy = match &self.checker {
            None => SafetyPolicy::Off,
            Some(checker) if checker.blocks => SafetyPolicy::Block,
            Some(_) => SafetyPolicy::Mark,
        };
        let revision = self.checker.as_ref().map(|checker| checker.model.identity().revision.clone());
        FinishingFacts { watermark: self.watermark, policy, safety_revision: revision.unwrap_or_default() }
    }

    /// Checks and signs a picture.
    ///
    /// # Errors
    /// When the checker cannot look at it: no picture passes unseen.
    pub(crate) fn finish(&mut self, mut picture: Picture) -> Result<Finished, ModelError> {
        let Picture { rgb, height, width } = &mut picture;
        let flagged = match &mut self.checker {
            Some(checker) => Some(checker.model.check(rgb, *height, *width)?.flagged()),
            None => None,
        };
        let verdict = match flagged {
            None => SafetyVerdict::NotChecked,
            Some(false) => SafetyVerdict::Passed,
            Some(true) => SafetyVerdict::Flagged,
        };
        let blocked = flagged == Some(true) && self.checker.as_ref().is_some_and(|checker| checker.blocks);
        if blocked {
            rgb.fill(0);
        }
        let signed = self.watermark && !blocked && watermark::embed(rgb, *width, *height, watermark::TEXT);
        Ok(Finished { picture, verdict, signed })
    }
}

impl FinishingFacts {
    /// The revision of an autoencoder whose pictures are finished so: another one wherever a picture or its verdict may be another.
    pub(crate) fn revision(&self, autoencoder: &Identity) -> String {
        let Self { watermark, policy, safety_revision } = self;
        match (watermark, policy) {
            (false, SafetyPolicy::Off) => autoencoder.revision.clone(),
            _ => autoencoder.revision_with(&format!("{watermark} {} {safety_revision}", policy.as_str_name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use darkroom_models::stage::{Device, Precision};

    use super::*;

    fn facts(watermark: bool, policy: SafetyPolicy, safety_revision: &str) -> FinishingFacts {
        FinishingFacts { watermark, policy, safety_revision: safety_revision.into() }
    }

    #[test]
    fn whoever_finishes_pictures_in_another_way_has_another_revision() {
        let own = Identity { revision: "abc".into(), precision: Precision::F32, device: Device::Cpu };
        assert_eq!(facts(false, SafetyPolicy::Off, "").revision(&own), "abc");
        let mut revisions = vec![
            facts(true, SafetyPolicy::Off, "").revision(&own),
            facts(false, SafetyPolicy::Mark, "1").revision(&own),
            facts(false, SafetyPolicy::Block, "1").revision(&own),
            facts(false, SafetyPolicy::Block, "2").revision(&own),
            facts(true, SafetyPolicy::Block, "2").revision(&own),
        ];
        assert_eq!(revisions[0], facts(true, SafetyPolicy::Off, "").revision(&own));
        revisions.sort();
        revisions.dedup();
        assert_eq!(revisions.len(), 5);
    }

    #[test]
    fn without_a_checker_a_picture_is_signed_where_that_is_wished() {
        for (watermark, side, signed) in [(true, 256, true), (true, 248, false), (false, 256, false)] {
            let plain = Picture { rgb: vec![120; side * side * 3], height: side, width: side };
            let finished = Finishing { watermark, checker: None }.finish(plain.clone()).unwrap();
            assert_eq!((finished.signed, finished.verdict), (signed, SafetyVerdict::NotChecked));
            assert_eq!(finished.picture.rgb != plain.rgb, signed);
        }
    }
}
