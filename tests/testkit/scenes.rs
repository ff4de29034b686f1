//! The scenes that the pocket model was trained on, as values: what a prompt of its grammar asks for.
//!
//! The grammar has three kinds of picture, all on a plain background: one object, two objects with a relation, and two or
//! three alike. [`Scene`] prints as its canonical prompt and is read back from it; [`draw`] draws scenes at random,
//! [`render`] paints them as they should look, and [`crate::judge`] compares a picture with one.

pub mod draw;
pub mod outline;
mod prompt;
pub mod render;

pub use prompt::PromptError;

/// Width and height of the pictures that the pocket model makes, in pixels.
pub const SIDE: u32 = 128;

/// A colour that the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Colour {
    Red,
    Green,
    Blue,
    Yellow,
    Orange,
    Purple,
    White,
    Black,
    Gray,
}

impl Colour {
    /// Every colour.
    pub const ALL: [Self; 9] = [
        Self::Red,
        Self::Green,
        Self::Blue,
        Self::Yellow,
        Self::Orange,
        Self::Purple,
        Self::White,
        Self::Black,
        Self::Gray,
    ];

    /// The word for it in a prompt.
    pub fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Orange => "orange",
            Self::Purple => "purple",
            Self::White => "white",
            Self::Black => "black",
            Self::Gray => "gray",
        }
    }

    /// The one RGB value that it has in the training pictures.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [220, 38, 38],
            Self::Green => [40, 160, 70],
            Self::Blue => [40, 80, 215],
            Self::Yellow => [250, 220, 50],
            Self::Orange => [250, 135, 25],
            Self::Purple => [145, 60, 185],
            Self::White => [255, 255, 255],
            Self::Black => [15, 15, 15],
            Self::Gray => [130, 130, 130],
        }
    }
}

/// A shape that the model knows. Its geometry is in [`outline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Heart,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 5] = [Self::Circle, Self::Square, Self::Triangle, Self::Star, Self::Heart];

    /// The word for it in a prompt, in the singular; the plural adds an s.
    pub fn word(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Heart => "heart",
        }
    }
}

/// A size that a prompt can ask for. Without one an object is of middle size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Size {
    Small,
    Large,
}

impl Size {
    /// Every size.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// The word for it in a prompt.
    pub fn word(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// Where the first of two objects is, seen from the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

impl Relation {
    /// Every relation.
    pub const ALL: [Self; 4] = [Self::LeftOf, Self::RightOf, Self::Above, Self::Below];

    /// The words for it in a prompt.
    pub fn words(self) -> &'static str {
        match self {
            Self::LeftOf => "left of",
            Self::RightOf => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// The line along which the two objects stand.
    pub fn axis(self) -> Axis {
        match self {
            Self::LeftOf | Self::RightOf => Axis::Horizontal,
            Self::Above | Self::Below => Axis::Vertical,
        }
    }

    /// Whether the object that the prompt names first also comes first from the left or from the top.
    pub fn first_comes_first(self) -> bool {
        matches!(self, Self::LeftOf | Self::Above)
    }
}

/// The line along which a scene's objects stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Axis {
    Horizontal,
    Vertical,
}

/// One object of a scene, as a prompt describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Object {
    pub size: Option<Size>,
    pub colour: Colour,
    pub shape: Shape,
}

/// The objects of a scene and how they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Arrangement {
    /// One object in the middle.
    Single(Object),
    /// Two objects, the first one left of, right of, above or below the second.
    Pair { first: Object, relation: Relation, second: Object },
    /// Two or three like objects in a row.
    Row { object: Object, count: usize },
}

/// What one prompt of the grammar asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Scene {
    pub arrangement: Arrangement,
    pub background: Colour,
}

impl Scene {
    /// The objects from left to right, or from top to bottom for a vertical relation.
    pub fn in_reading_order(&self) -> Vec<Object> {
        match self.arrangement {
            Arrangement::Single(object) => vec![object],
            Arrangement::Pair { first, relation, second } if relation.first_comes_first() => vec![first, second],
            Arrangement::Pair { first, second, .. } => vec![second, first],
            Arrangement::Row { object, count } => vec![object; count],
        }
    }

    /// The line along which the objects stand.
    pub fn axis(&self) -> Axis {
        match self.arrangement {
            Arrangement::Pair { relation, .. } => relation.axis(),
            Arrangement::Single(_) | Arrangement::Row { .. } => Axis::Horizontal,
        }
    }
}
