//! The words of the pocket model's grammar, each a value.

/// An enumeration whose variants have a word in prompts.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names say it")]
        pub enum $name { $($variant),* }

        impl $name {
            /// Every one of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            /// What a prompt calls it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

words! {
    /// A colour that the model knows.
    Colour {
        Red = "red",
        Green = "green",
        Blue = "blue",
        Yellow = "yellow",
        Orange = "orange",
        Purple = "purple",
        White = "white",
        Black = "black",
        Gray = "gray",
    }
}

impl Colour {
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

words! {
    /// A shape that the model knows, in the singular; the plural adds an s. Its geometry is in [`super::outline`].
    Shape {
        Circle = "circle",
        Square = "square",
        Triangle = "triangle",
        Star = "star",
        Heart = "heart",
        Ring = "ring",
        Moon = "moon",
        Diamond = "diamond",
        Arrow = "arrow",
        House = "house",
        Tree = "tree",
    }
}

impl Shape {
    /// The shapes of the model's first edition, which most of its prompts are made of.
    pub const BASIC: [Self; 5] = [Self::Circle, Self::Square, Self::Triangle, Self::Star, Self::Heart];
    /// Shapes with room for a pattern or an outline.
    pub const ROOMY: [Self; 7] =
        [Self::Circle, Self::Square, Self::Triangle, Self::Star, Self::Heart, Self::Diamond, Self::House];
    /// Shapes that hold another one.
    pub const OUTER: [Self; 4] = [Self::Circle, Self::Square, Self::Heart, Self::Diamond];
}

words! {
    /// A size that a prompt can ask for. Without one an object is of middle size.
    Size { Small = "small", Large = "large" }
}

words! {
    /// Where the first of two objects is, seen from the second.
    Relation { LeftOf = "left of", RightOf = "right of", Above = "above", Below = "below" }
}

impl Relation {
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

/// How a scene's objects stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// From left to right.
    Horizontal,
    /// From top to bottom.
    Vertical,
    /// Two by two.
    Square,
}

words! {
    /// How an object looks that is not of one plain colour.
    Pattern { Outlined = "outlined", Striped = "striped", Dotted = "dotted" }
}

words! {
    /// What shines in a landscape.
    Light { Sun = "sun", Moon = "moon" }
}

impl Light {
    /// What it looks like.
    pub fn shape(self) -> Shape {
        match self {
            Self::Sun => Shape::Circle,
            Self::Moon => Shape::Moon,
        }
    }
}

words! {
    /// What a landscape shows below its sky.
    Land { Hills = "hills", Mountains = "mountains", Sea = "sea" }
}
