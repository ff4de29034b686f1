//! What varies over a grid: one or two settings with several values each, and what the cell at a place is made with.

use std::fmt;

use clap::ArgMatches;
use darkroom_client::GenerateRequest;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Cells of a grid.
const MOST_CELLS: usize = 256;
/// Cells in a row where one setting alone varies and nothing else was said.
const USUAL_COLUMNS: usize = 16;

/// One value of a setting that may vary.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Setting {
    Scale(f64),
    Sampler(String),
    Steps(u32),
    Seed(u64),
    Strength(f64),
}

/// A setting with several values.
#[derive(Debug, Clone, PartialEq)]
struct Axis {
    flag: &'static str,
    values: Vec<Setting>,
}

/// What the cells of a grid are made with, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    across: Axis,
    down: Option<Axis>,
    columns: usize,
}

impl Plan {
    /// The flags that were given several values: the first makes the columns, the second the rows. `columns` breaks the single row of
    /// one flag; 0 leaves that to the plan.
    ///
    /// # Errors
    /// When it is not one or two flags, or their values make too many cells.
    pub(super) fn new(matches: &ArgMatches, columns: usize) -> Result<Self, Failure> {
        let mut axes = Vec::from_iter([
            axis(matches, "scale", "--scale", Setting::Scale),
            axis(matches, "sampler", "--sampler", Setting::Sampler),
            axis(matches, "steps", "--steps", Setting::Steps),
            axis(matches, "seed", "--seed", Setting::Seed),
            axis(matches, "strength", "--strength", Setting::Strength),
        ]);
        axes.retain(|(_, axis)| axis.values.len() > 1);
        axes.sort_by_key(|(place, _)| *place);
        let mut axes = axes.into_iter().map(|(_, axis)| axis);
        let Some(across) = axes.next() else {
            let why = "nothing varies: give --scale, --sampler, --steps, --seed or --strength several values, such as \
                       --scale 1.5,3,7.5";
            return Err(Failure::Usage(why.into()));
        };
        let down = axes.next();
        let rest: Vec<&str> = axes.map(|axis| axis.flag).collect();
        if let (Some(down), false) = (&down, rest.is_empty()) {
            let why = "a grid has columns and rows, so two flags may have several values";
            return Err(Failure::Usage(format!("{}, {} and {}: {why}", across.flag, down.flag, rest.join(" and "))));
        }
        let columns = match (&down, columns) {
            (Some(_), 1..) => {
                return Err(Failure::Usage("--n-rows: the second flag with several values makes the rows".into()));
            }
            (Some(_), 0) => across.values.len(),
            (None, 0) => across.values.len().min(USUAL_COLUMNS),
            (None, columns) => across.values.len().min(columns),
        };
        let plan = Self { across, down, columns };
        match plan.cells() {
            ..=MOST_CELLS => Ok(plan),
            cells => {
                let flags = plan.axes().map(|axis| axis.flag).collect::<Vec<_>>().join(" and ");
                Err(Failure::Usage(format!("{flags}: {cells} pictures in a grid, at most {MOST_CELLS} are allowed")))
            }
        }
    }

    /// How many pictures a grid has.
    pub(crate) fn cells(&self) -> usize {
        self.axes().map(|axis| axis.values.len()).product()
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn rows(&self) -> usize {
        self.cells().div_ceil(self.columns)
    }

    /// What one cell is made with, in the order of the flags.
    pub(crate) fn cell(&self, cell: usize) -> Vec<Setting> {
        let (row, column) = match &self.down {
            Some(_) => (cell / self.columns, cell % self.columns),
            None => (0, cell),
        };
        let down = self.down.as_ref().and_then(|axis| axis.values.get(row));
        self.across.values.get(column).into_iter().chain(down).cloned().collect()
    }

    /// What stands above the cell; with two axes only above the first row.
    pub(super) fn above(&self, cell: usize) -> Option<&Setting> {
        if self.down.is_some() && cell >= self.columns { None } else { self.across.values.get(cell) }
    }

    /// What stands at the left of the rows; nothing with one axis.
    pub(super) fn beside(&self) -> &[Setting] {
        self.down.as_ref().map_or(&[], |axis| &axis.values)
    }

    /// The values of all samplers that will be asked for by an axis.
    pub(super) fn samplers(&self) -> impl Iterator<Item = &str> {
        self.axes().flat_map(|axis| &axis.values).filter_map(|setting| match setting {
            Setting::Sampler(name) => Some(name.as_str()),
            _ => None,
        })
    }

    fn axes(&self) -> impl Iterator<Item = &Axis> {
        std::iter::once(&self.across).chain(&self.down)
    }
}

/// The values of a flag and where on the command line the first of them stood.
fn axis<T>(matches: &ArgMatches, id: &str, flag: &'static str, setting: impl Fn(T) -> Setting) -> (Option<usize>, Axis)
where
    T: Clone + Send + Sync + 'static,
{
    let values = matches.get_many::<T>(id).into_iter().flatten().cloned().map(setting).collect();
    let place = matches.indices_of(id).and_then(|mut places| places.next());
    (place, Axis { flag, values })
}

impl Setting {
    /// The request with this value in place of what it had.
    pub(crate) fn set(&self, request: GenerateRequest) -> GenerateRequest {
        match self {
            Self::Scale(scale) => request.guidance_scale(*scale),
            Self::Sampler(name) => request.sampler(name),
            Self::Steps(steps) => request.num_inference_steps(*steps),
            Self::Seed(seed) => request.seed(*seed),
            Self::Strength(strength) => request.strength(*strength),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Scale(_) => "scale",
            Self::Sampler(_) => "sampler",
            Self::Steps(_) => "steps",
            Self::Seed(_) => "seed",
            Self::Strength(_) => "strength",
        }
    }

    /// The value alone, for labels without room.
    pub(super) fn value(&self) -> String {
        match self {
            Self::Scale(number) | Self::Strength(number) => number.to_string(),
            Self::Sampler(name) => name.clone(),
            Self::Steps(number) => number.to_string(),
            Self::Seed(number) => number.to_string(),
        }
    }

    /// All of them as an object: `{"scale": 1.5, "seed": 42}`.
    pub(crate) fn object(settings: &[Self]) -> Value {
        let entries = settings.iter().map(|setting| {
            let value = match setting {
                Self::Scale(number) | Self::Strength(number) => json!(number),
                Self::Sampler(name) => json!(name),
                Self::Steps(number) => json!(number),
                Self::Seed(number) => json!(number),
            };
            (setting.name().to_owned(), value)
        });
        Value::Object(entries.collect::<Map<_, _>>())
    }
}

/// As the grid's labels say it: `scale 1.5`, but a sampler's name alone.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sampler(name) => f.write_str(name),
            _ => write!(f, "{} {}", self.name(), self.value()),
        }
    }
}

/// What varies, for people: `across scale 1.5, 2, 3; down sampler plms, ddim`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (axis, way) in self.axes().zip(["across", "; down"]) {
            let name = axis.values.first().map_or("", Setting::name);
            let values: Vec<String> = axis.values.iter().map(Setting::value).collect();
            write!(f, "{way} {name} {}", values.join(", "))?;
        }
        Ok(())
    }
}
