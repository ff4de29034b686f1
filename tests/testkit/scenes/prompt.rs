//! A scene's canonical prompt, written and read back.

use std::fmt;
use std::str::FromStr;

use super::{Arrangement, Colour, Fill, Land, Light, Object, Pattern, Relation, Scene, Shape, Size};

/// Numbers of like objects.
const NUMBERS: [(usize, &str); 3] = [(2, "two"), (3, "three"), (4, "four")];

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.size {
            write!(f, "{} ", size.word())?;
        }
        if let Some(pattern) = self.fill.pattern() {
            write!(f, "{} ", pattern.word())?;
        }
        write!(f, "{} ", self.colour.word())?;
        if let Some(second) = self.fill.second() {
            write!(f, "and {} ", second.word())?;
        }
        write!(f, "{}", self.shape.word())
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.arrangement {
            Arrangement::Single(object) => write!(f, "{}", WithArticle(object))?,
            Arrangement::Pair { first, relation, second } => {
                write!(f, "{} {} {}", WithArticle(first), relation.word(), WithArticle(second))?;
            }
            Arrangement::Row { object, count } => {
                let number = NUMBERS.iter().find(|(number, _)| number == count).ok_or(fmt::Error)?.1;
                write!(f, "{number} {object}s")?;
            }
            Arrangement::List(objects) => {
                let (last, others) = objects.split_last().ok_or(fmt::Error)?;
                let others: Vec<String> = others.iter().map(|object| WithArticle(object).to_string()).collect();
                write!(f, "{} and {}", others.join(", "), WithArticle(last))?;
            }
            Arrangement::Inside { inner, outer } => {
                write!(f, "{} inside {}", WithArticle(inner), WithArticle(outer))?;
            }
            Arrangement::Landscape { light, light_colour, land, land_colour } => {
                let ground = format!("{} {}", land_colour.word(), land.word());
                let ground = if *land == Land::Sea { WithArticle(ground).to_string() } else { ground };
                let light = WithArticle(format!("{} {}", light_colour.word(), light.word()));
                return write!(f, "{light} over {ground} under {} sky", WithArticle(self.background.word()));
            }
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
        let mut words = Words::of(prompt);
        let scene = if words.tell_of_a_landscape() { words.landscape()? } else { words.scene()? };
        if words.left.is_empty() { Ok(scene) } else { Err(words.error("the end")) }
    }
}

/// The words of a prompt that are still to be read. A comma is one of its own.
struct Words<'a> {
    prompt: &'a str,
    left: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn of(prompt: &'a str) -> Self {
        let parts = prompt.split_whitespace().flat_map(|word| match word.strip_suffix(',') {
            Some(word) => vec![word, ","],
            None => vec![word],
        });
        Self { prompt, left: parts.collect() }
    }

    /// "a COLOUR sun over"; a moon alone is a shape, too.
    fn tell_of_a_landscape(&self) -> bool {
        matches!(self.left[..], [_, _, light, "over", ..] if Light::ALL.iter().any(|known| known.word() == light))
    }

    fn landscape(&mut self) -> Result<Scene, PromptError> {
        self.article()?;
        let light_colour = self.colour()?;
        let light = self.take("a light", |word| Light::ALL.into_iter().find(|light| light.word() == word))?;
        self.exactly("over", "the word over")?;
        let article = self.take_if(|word| matches!(word, "a" | "an").then_some(())).is_some();
        let land_colour = self.colour()?;
        let land = self.take("a land", |word| {
            Land::ALL.into_iter().find(|land| land.word() == word && (*land == Land::Sea) == article)
        })?;
        self.exactly("under", "the word under")?;
        self.article()?;
        let background = self.colour()?;
        self.exactly("sky", "the word sky")?;
        Ok(Scene { arrangement: Arrangement::Landscape { light, light_colour, land, land_colour }, background })
    }

    fn scene(&mut self) -> Result<Scene, PromptError> {
        let number = |word: &str| NUMBERS.iter().find(|(_, name)| *name == word).map(|(count, _)| *count);
        let arrangement = if let Some(count) = self.take_if(number) {
            Arrangement::Row { object: self.object(count)?, count }
        } else {
            let first = self.one()?;
            if self.take_if(|word| (word == "inside").then_some(())).is_some() {
                Arrangement::Inside { inner: first, outer: self.one()? }
            } else if let Some(relation) = self.relation()? {
                Arrangement::Pair { first, relation, second: self.one()? }
            } else {
                self.list(first)?
            }
        };
        self.exactly("on", "a relation or the word on")?;
        self.article()?;
        let background = self.colour()?;
        self.exactly("background", "the word background")?;
        Ok(Scene { arrangement, background })
    }

    /// The rest of a list that begins with an object, or that object alone.
    fn list(&mut self, first: Object) -> Result<Arrangement, PromptError> {
        let mut objects = vec![first];
        while self.take_if(|word| (word == ",").then_some(())).is_some() {
            objects.push(self.one()?);
        }
        if objects.len() == 1 {
            return Ok(Arrangement::Single(first));
        }
        self.exactly("and", "the word and")?;
        objects.push(self.one()?);
        if objects.len() <= 4 { Ok(Arrangement::List(objects)) } else { Err(self.error("four objects at most")) }
    }

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

    /// One object with its article.
    fn one(&mut self) -> Result<Object, PromptError> {
        self.article()?;
        self.object(1)
    }

    /// Size, fill, colours and shape, the shape in the plural when there are several.
    fn object(&mut self, count: usize) -> Result<Object, PromptError> {
        let size = self.take_if(|word| Size::ALL.into_iter().find(|size| size.word() == word));
        let pattern = self.take_if(|word| Pattern::ALL.into_iter().find(|pattern| pattern.word() == word));
        let colour = self.colour()?;
        let fill = match pattern {
            None => Fill::Plain,
            Some(Pattern::Outlined) => Fill::Outlined,
            Some(two) => {
                self.exactly("and", "the word and")?;
                let second = self.colour()?;
                if two == Pattern::Striped { Fill::Striped(second) } else { Fill::Dotted(second) }
            }
        };
        let shape = self.take("a shape", |word| {
            let singular = if count == 1 { word } else { word.strip_suffix('s')? };
            Shape::ALL.into_iter().find(|shape| shape.word() == singular)
        })?;
        Ok(Object { size, fill, colour, shape })
    }

    /// A relation, or nothing where the prompt goes on with something else.
    fn relation(&mut self) -> Result<Option<Relation>, PromptError> {
        let relation = self
            .take_if(|word| Relation::ALL.into_iter().find(|relation| relation.word().split(' ').next() == Some(word)));
        if matches!(relation, Some(Relation::LeftOf | Relation::RightOf)) {
            self.exactly("of", "the word of")?;
        }
        Ok(relation)
    }
}

#[cfg(test)]
mod tests;
