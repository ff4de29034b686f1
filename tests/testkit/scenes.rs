//! The scenes that the pocket model was trained on, as values: what a prompt of its grammar asks for.
//!
//! `deploy/models/pocket/README.md` has the grammar. [`Scene`] prints as its canonical prompt and is read back from it;
//! [`draw`] draws scenes at random, [`render`] paints them as they should look, [`unseen`] tells which of them training left out, and
//! [`crate::judge`] compares a picture with one.

pub mod draw;
pub mod outline;
mod prompt;
pub mod render;
pub mod unseen;
mod words;

pub use prompt::PromptError;
pub use words::{Axis, Colour, Land, Light, Pattern, Relation, Shape, Size};

/// Width and height of the pictures that the pocket model makes, in pixels.
pub const SIDE: u32 = 128;

/// How an object's inside looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Of its colour.
    #[default]
    Plain,
    /// The background's: only the outline has its colour.
    Outlined,
    /// Stripes of its colour and of this one.
    Striped(Colour),
    /// Its colour with dots of this one.
    Dotted(Colour),
}

impl Fill {
    /// The word for it, if it has one.
    pub fn pattern(self) -> Option<Pattern> {
        match self {
            Self::Plain => None,
            Self::Outlined => Some(Pattern::Outlined),
            Self::Striped(_) => Some(Pattern::Striped),
            Self::Dotted(_) => Some(Pattern::Dotted),
        }
    }

    /// The colour that it adds to the object's own.
    pub fn second(self) -> Option<Colour> {
        match self {
            Self::Striped(second) | Self::Dotted(second) => Some(second),
            Self::Plain | Self::Outlined => None,
        }
    }
}

/// One object of a scene, as a prompt describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Object {
    pub size: Option<Size>,
    pub fill: Fill,
    pub colour: Colour,
    pub shape: Shape,
}

impl Object {
    /// An object of middle size and one colour.
    pub fn plain(colour: Colour, shape: Shape) -> Self {
        Self { size: None, fill: Fill::Plain, colour, shape }
    }
}

/// The objects of a scene and how they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Arrangement {
    /// One object in the middle.
    Single(Object),
    /// Two objects, the first one left of, right of, above or below the second.
    Pair { first: Object, relation: Relation, second: Object },
    /// Two or three like objects in a row, or four in a square.
    Row { object: Object, count: usize },
    /// Three objects in a row or four in a square, from left to right and from top to bottom.
    List(Vec<Object>),
    /// An object in a larger one.
    Inside { inner: Object, outer: Object },
    /// A light in the sky, which is the scene's background, over some land.
    Landscape { light: Light, light_colour: Colour, land: Land, land_colour: Colour },
}

/// What one prompt of the grammar asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Scene {
    pub arrangement: Arrangement,
    pub background: Colour,
}

impl Scene {
    /// The objects from left to right, or from top to bottom; the inner one before the outer one.
    pub fn in_reading_order(&self) -> Vec<Object> {
        match &self.arrangement {
            Arrangement::Single(object) => vec![*object],
            Arrangement::Pair { first, relation, second } if relation.first_comes_first() => vec![*first, *second],
            Arrangement::Pair { first, second, .. } => vec![*second, *first],
            Arrangement::Row { object, count } => vec![*object; *count],
            Arrangement::List(objects) => objects.clone(),
            Arrangement::Inside { inner, outer } => vec![*inner, *outer],
            Arrangement::Landscape { light, light_colour, .. } => vec![Object::plain(*light_colour, light.shape())],
        }
    }

    /// How the objects stand.
    pub fn axis(&self) -> Axis {
        match &self.arrangement {
            Arrangement::Pair { relation, .. } => relation.axis(),
            Arrangement::Row { count: 4, .. } => Axis::Square,
            Arrangement::List(objects) if objects.len() == 4 => Axis::Square,
            _ => Axis::Horizontal,
        }
    }
}
