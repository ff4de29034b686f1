//! `darkroom sweep`: the same picture over and over, with one or two settings varied, side by side on a labelled grid.

mod axis;
mod font;
mod sheet;
#[cfg(test)]
mod tests;

use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::failure::Failure;
use crate::txt2img::flags::Flags;
use crate::txt2img::init::{InitFlags, Recipe};
pub(crate) use axis::{Plan, Setting};
pub(crate) use sheet::Sheets;

/// The flags of `darkroom sweep`: those of `txt2img` and `img2img`, where five take several values.
#[derive(Debug)]
pub(crate) struct Sweep {
    pub(crate) parts: Parts,
    /// As the flags alone do not tell which values there were, and in what order.
    plan: Result<Plan, Failure>,
}

#[derive(Debug, Args)]
pub(crate) struct Parts {
    #[command(flatten, next_help_heading = "Picture to begin from")]
    init: Option<InitFlags>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// The flags that may vary, and how `--help` names their values.
const VARYING: [(&str, &str); 5] = [
    ("scale", "X[,X...]"),
    ("sampler", "NAME[,NAME...]"),
    ("steps", "N[,N...]"),
    ("seed", "N[,N...]"),
    ("strength", "X[,X...]"),
];
/// Flags of `txt2img` that have no meaning here, or say what a sweep does anyway.
const HIDDEN: [&str; 3] = ["n_samples", "n_iter", "fixed_code"];

impl Sweep {
    /// The flags that all commands have, and the rest.
    ///
    /// # Errors
    /// When the axes are none, too many or too long, another flag does not go with them, or the picture to begin from cannot be read.
    pub(crate) fn into_parts(self) -> Result<(Flags, Recipe), Failure> {
        let Parts { init, flags } = self.parts;
        let plan = self.plan?;
        let picture = &flags.picture;
        for (flag, count) in [("--n-samples", picture.n_samples), ("--n-iter", picture.n_iter)] {
            if count != 1 {
                return Err(Failure::Usage(format!("{flag}: a cell holds one picture; vary --seed for more")));
            }
        }
        if picture.variation_strength.is_some() && picture.variation_seed.is_none() {
            let why = "--variation-strength: cells are alike only with a --variation-seed, else each draws its own";
            return Err(Failure::Usage(why.into()));
        }
        plan.samplers().try_for_each(|sampler| picture.check_eta(Some(sampler)))?;
        let recipe = match init {
            Some(init) => Recipe::img2img(&init)?,
            None => Recipe::txt2img(),
        };
        Ok((flags, recipe.swept(plan)))
    }
}

impl Args for Sweep {
    fn augment_args(command: Command) -> Command {
        let command = Parts::augment_args(command)
            .mut_arg("init_img", |arg| arg.required(false))
            .mut_arg("strength", |arg| arg.requires("init_img"))
            .mut_arg("strength_way", |arg| arg.requires("init_img"))
            .mut_arg("n_rows", |arg| {
                arg.help("Pictures in a row of the grid where one setting varies; 0 or left out: all, up to 16")
            })
            .mut_arg("seed", |arg| arg.help("The seed of every picture"));
        let command = HIDDEN.iter().fold(command, |command, id| command.mut_arg(id, |arg| arg.hide(true)));
        VARYING.iter().fold(command, |command, (id, value)| {
            command.mut_arg(id, |arg| arg.action(ArgAction::Append).value_delimiter(',').num_args(1).value_name(*value))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Sweep {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        // Where a flag has several values, these take the first.
        let parts = Parts::from_arg_matches(matches)?;
        let plan = Plan::new(matches, parts.flags.output.n_rows as usize);
        Ok(Self { parts, plan })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
