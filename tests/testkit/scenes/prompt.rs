//! A scene's canonical prompt, written and read back.

use std::fmt;
use std::str::FromStr;

use super::{Arrangement, Colour, Object, Relation, Scene, Shape, Size};

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.size {
            write!(f, "{} ", size.word())?;
        }
        write!(f, "{} {}", self.colour.word(), self.shape.word())
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arrangement {
            Arrangement::Single(object) => write!(f, "{}", WithArticle(object))?,
            Arrangement::Pair { first, relation, second } => {
                write!(f, "{} {} {}", WithArticle(first), relation.words(), WithArticle(second))?;
            }
            Arrangement::Row { object, count } => write!(f, "{} {object}s", if count == 2 { "two" } else { "three" })?,
        }
        write!(f, " on {} background", WithArticle(self.background.word()))
    }
}

/// Puts "a" or "an" before what it holds.
struct WithArticle<T>(T);

impl<T: fmt::Display> fmt::Display for WithArticle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phrase = self.0.to_string();
        let article = if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        write!(f, "{article} {phrase}")
    }
}

/// A prompt that is not of the canonical form.
#[derive(Debug, PartialEq, Eq)]
pub struct PromptError {
    prompt: String,
    expected: &'static str,
    found: Option<String>,
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or("the end");
        write!(f, "\"{}\" is not of the pocket model's grammar: expected {}, found {found}", self.prompt, self.expected)
    }
}

impl std::error::Error for PromptError {}

impl FromStr for Scene {
    type Err = PromptError;

    fn from_str(prompt: &str) -> Result<Self, Self::Err> {
        let mut words = Words { prompt, left: prompt.split_whitespace().collect() };
        let arrangement = if let Some(count) = words.take_if(|word| match word {
            "two" => Some(2),
            "three" => Some(3),
            _ => None,
        }) {
            Arrangement::Row { object: words.object(count)?, count }
        } else {
            words.article()?;
            let first = words.object(1)?;
            match words.relation()? {
                None => Arrangement::Single(first),
                Some(relation) => {
                    words.article()?;
                    Arrangement::Pair { first, relation, second: words.object(1)? }
                }
            }
        };
        words.exactly("on", "a relation or the word on")?;
        words.article()?;
        let background = words.colour()?;
        words.exactly("background", "the word background")?;
        if words.left.is_empty() { Ok(Scene { arrangement, background }) } else { Err(words.error("the end")) }
    }
}

/// The words of a prompt that are still to be read.
struct Words<'a> {
    prompt: &'a str,
    left: Vec<&'a str>,
}

impl Words<'_> {
    fn error(&self, expected: &'static str) -> PromptError {
        PromptError {
            prompt: self.prompt.to_owned(),
            expected,
            found: self.left.first().map(|word| format!("\"{word}\"")),
        }
    }

    /// Reads the next word if `meaning` knows it.
    fn take_if<T>(&mut self, meaning: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = meaning(self.left.first()?)?;
        self.left.remove(0);
        Some(value)
    }

    fn take<T>(&mut self, expected: &'static str, meaning: impl Fn(&str) -> Option<T>) -> Result<T, PromptError> {
        self.take_if(meaning).ok_or_else(|| self.error(expected))
    }

    fn exactly(&mut self, word: &str, expected: &'static str) -> Result<(), PromptError> {
        self.take(expected, |found| (found == word).then_some(()))
    }

    fn article(&mut self) -> Result<(), PromptError> {
        self.take("a or an", |word| matches!(word, "a" | "an").then_some(()))
    }

    fn colour(&mut self) -> Result<Colour, PromptError> {
        self.take("a colour", |word| Colour::ALL.into_iter().find(|colour| colour.word() == word))
    }

    /// Size, colour and shape, the shape in the plural when there are several.
    fn object(&mut self, count: usize) -> Result<Object, PromptError> {
        let size = self.take_if(|word| Size::ALL.into_iter().find(|size| size.word() == word));
        let colour = self.colour()?;
        let shape = self.take("a shape", |word| {
            let singular = if count == 1 { word } else { word.strip_suffix('s')? };
            Shape::ALL.into_iter().find(|shape| shape.word() == singular)
        })?;
        Ok(Object { size, colour, shape })
    }

    /// A relation, or nothing where the prompt goes on with something else.
    fn relation(&mut self) -> Result<Option<Relation>, PromptError> {
        let relation = self.take_if(|word| {
            Relation::ALL.into_iter().find(|relation| relation.words().split(' ').next() == Some(word))
        });
        if matches!(relation, Some(Relation::LeftOf | Relation::RightOf)) {
            self.exactly("of", "the word of")?;
        }
        Ok(relation)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::scenes::draw;

    #[test]
    fn prompts_read_as_people_write_them() {
        let text = "an orange star right of a small blue heart on a white background";
        let scene: Scene = text.parse().unwrap();
        let star = Object { size: None, colour: Colour::Orange, shape: Shape::Star };
        let heart = Object { size: Some(Size::Small), colour: Colour::Blue, shape: Shape::Heart };
        assert_eq!(scene.in_reading_order(), [heart, star]);
        assert_eq!(scene.to_string(), text);
        let row: Scene = "three red hearts on an orange background".parse().unwrap();
        assert_eq!(row.in_reading_order().len(), 3);
    }

    #[test]
    fn every_drawn_scene_survives_its_prompt() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..500 {
            let scene = draw::scene(&mut rng);
            assert_eq!(scene.to_string().parse(), Ok(scene));
        }
    }

    #[test]
    fn other_prompts_are_refused_with_what_was_expected() {
        for (prompt, expected) in [
            ("a cat", "expected a colour, found \"cat\""),
            ("a red circle", "expected a relation or the word on, found the end"),
            ("a red circle left a blue star on a white background", "expected the word of, found \"a\""),
            ("two red circle on a white background", "expected a shape, found \"circle\""),
            ("a red circle on a white background please", "expected the end, found \"please\""),
        ] {
            let message = prompt.parse::<Scene>().unwrap_err().to_string();
            assert!(message.ends_with(expected), "{message}");
        }
    }
}
