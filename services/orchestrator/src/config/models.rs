//! Several models side by side: the tables that name them, and what each table makes of the lists of workers.
//!
//! A stage's process holds one model, so every model has denoisers of its own. Text encoders and VAEs may serve several, where those
//! models have the same weights in that part: they are listed for each of them, or above for all, and run with the files of any of them.
//! Nothing but the operator's list says that the weights are the same; a denoiser does not know those of its neighbours.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::Config;
use crate::selection::Accepted;
use crate::stages::Stage;

/// Characters of a name.
const MAX_NAME: usize = 128;

/// One `[[model]]` of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// As its denoisers tell it, and requests name it: the name of the model's folder or file.
    pub name: String,
    /// Its own denoisers.
    pub denoisers: Vec<String>,
    /// Absent: those of the configuration's own list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_encoders: Option<Vec<String>>,
    /// Absent: those of the configuration's own list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vaes: Option<Vec<String>>,
}

impl ModelTable {
    /// Reads an inline table.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let table = text.parse::<toml::Value>().map_err(|error| error.message().to_owned())?;
        let table: Self = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        if table.name.is_empty() || table.name.chars().count() > MAX_NAME {
            return Err(format!("name must have 1 to {MAX_NAME} characters"));
        }
        Ok(table)
    }
}

/// What one line of workers is made of.
#[derive(Debug, Clone)]
pub(crate) struct LineConfig {
    /// `None` without tables: whatever its workers run.
    pub(crate) name: Option<String>,
    pub(crate) text_encoders: Vec<String>,
    pub(crate) denoisers: Vec<String>,
    pub(crate) vaes: Vec<String>,
    /// The names that its workers may tell.
    pub(crate) accepted: Accepted,
}

impl LineConfig {
    /// The stages' lists, with the keys that the file has for them.
    pub(crate) fn lists(&self) -> [(Stage, &'static str, &[String]); 3] {
        [
            (Stage::TextEncoder, "text_encoders", &self.text_encoders),
            (Stage::Denoiser, "denoisers", &self.denoisers),
            (Stage::Vae, "vaes", &self.vaes),
        ]
    }
}

impl Config {
    /// A line for each table, in their order; one that serves whatever its workers run where there are none.
    ///
    /// # Errors
    /// When tables contradict each other, or what stands beside them.
    pub(crate) fn lines(&self) -> anyhow::Result<Vec<LineConfig>> {
        if self.model.is_empty() {
            return Ok(vec![LineConfig {
                name: None,
                text_encoders: self.text_encoders.clone(),
                denoisers: self.denoisers.clone(),
                vaes: self.vaes.clone(),
                accepted: Accepted::anything(),
            }]);
        }
        ensure!(
            self.denoisers == Self::default().denoisers,
            "denoisers: {} cannot be given beside [[model]] tables, which name their own",
            self.denoisers.join(",")
        );
        let (mut names, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for table in &self.model {
            let ModelTable { name, denoisers, .. } = table;
            ensure!(names.insert(name), "model: the name {name:?} stands there twice");
            for denoiser in denoisers.iter().collect::<BTreeSet<_>>() {
                ensure!(
                    taken.insert(denoiser),
                    "model {name:?}: denoisers: {denoiser} is another model's; it holds one"
                );
            }
        }
        Ok(self.model.iter().map(|table| self.line(table)).collect())
    }

    fn line(&self, table: &ModelTable) -> LineConfig {
        let [text_encoders, vaes] = [self.text_encoders_of(table), self.vaes_of(table)].map(<[String]>::to_vec);
        let accepted = Accepted::named([
            self.sharing(&text_encoders, Self::text_encoders_of),
            BTreeSet::from([table.name.clone()]),
            self.sharing(&vaes, Self::vaes_of),
        ]);
        let (name, denoisers) = (Some(table.name.clone()), table.denoisers.clone());
        LineConfig { name, text_encoders, denoisers, vaes, accepted }
    }

    /// The models whose list has something in common with this one.
    fn sharing<'a>(&'a self, list: &[String], of: fn(&'a Self, &'a ModelTable) -> &'a [String]) -> BTreeSet<String> {
        let shares = |table: &&'a ModelTable| of(self, table).iter().any(|entry| list.contains(entry));
        self.model.iter().filter(shares).map(|table| table.name.clone()).collect()
    }

    fn text_encoders_of<'a>(&'a self, table: &'a ModelTable) -> &'a [String] {
        table.text_encoders.as_ref().unwrap_or(&self.text_encoders)
    }

    fn vaes_of<'a>(&'a self, table: &'a ModelTable) -> &'a [String] {
        table.vaes.as_ref().unwrap_or(&self.vaes)
    }
}

/// With the model that an error is about.
pub(crate) fn about<T>(name: Option<&str>, result: anyhow::Result<T>) -> anyhow::Result<T> {
    match name {
        Some(name) => result.with_context(|| format!("model {name:?}")),
        None => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> ModelTable {
        ModelTable::parse(text).unwrap()
    }

    fn of(tables: &[&str]) -> Config {
        let text_encoders = vec!["t:1".into()];
        Config { model: tables.iter().map(|text| table(text)).collect(), text_encoders, ..Config::default() }
    }

    fn refusal(config: &Config) -> String {
        format!("{:#}", config.lines().unwrap_err())
    }

    #[test]
    fn without_tables_there_is_one_line_of_the_top_lists_for_whatever_they_run() {
        let config = Config { denoisers: vec!["d:1".into()], ..Config::default() };
        let lines = config.lines().unwrap();
        let [LineConfig { name: None, denoisers, vaes, .. }] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((denoisers, vaes), (&config.denoisers, &config.vaes));
    }

    #[test]
    fn tables_take_the_top_lists_where_they_have_none() {
        let config = of(&[
            r#"{ name = "a", denoisers = ["d:1"] }"#,
            r#"{ name = "b", denoisers = ["d:2", "dns:///d:3"], vaes = ["v:1"] }"#,
        ]);
        let lines = config.lines().unwrap();
        let lists: Vec<_> = lines.iter().map(|line| (line.text_encoders.join(","), line.vaes.join(","))).collect();
        let lists: Vec<_> = lists.iter().map(|(texts, vaes)| (texts.as_str(), vaes.as_str())).collect();
        assert_eq!(lists, [("t:1", "127.0.0.1:7002"), ("t:1", "v:1")]);
        assert_eq!(lines[1].denoisers, ["d:2", "dns:///d:3"]);
    }

    #[test]
    fn workers_of_a_list_run_one_of_the_models_that_it_is_for() {
        let config = of(&[
            r#"{ name = "a", denoisers = ["d:1"] }"#,
            r#"{ name = "b", denoisers = ["d:2"], vaes = ["v:1", "v:2"] }"#,
            r#"{ name = "c", denoisers = ["d:3"], vaes = ["v:2"], text_encoders = ["t:2"] }"#,
        ]);
        let accepted = config.lines().unwrap().into_iter().map(|line| format!("{:?}", line.accepted));
        let expected = [
            r#"Accepted(Some([{"a", "b"}, {"a"}, {"a"}]))"#,
            r#"Accepted(Some([{"a", "b"}, {"b"}, {"b", "c"}]))"#,
            r#"Accepted(Some([{"c"}, {"c"}, {"b", "c"}]))"#,
        ];
        assert_eq!(accepted.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let one = r#"{ name = "a", denoisers = ["d:1"] }"#;
        let twice = of(&[one, r#"{ name = "a", denoisers = ["d:2"] }"#]);
        assert_eq!(refusal(&twice), r#"model: the name "a" stands there twice"#);
        let shared = of(&[one, r#"{ name = "b", denoisers = ["d:1"] }"#]);
        assert_eq!(refusal(&shared), r#"model "b": denoisers: d:1 is another model's; it holds one"#);
        let beside = Config { denoisers: vec!["d:9".into()], ..of(&[one]) };
        assert_eq!(refusal(&beside), "denoisers: d:9 cannot be given beside [[model]] tables, which name their own");
    }

    #[test]
    fn a_table_that_is_none_is_refused_by_its_field() {
        for (text, wrong) in [
            (r#"{ denoisers = ["d:1"] }"#, "missing field `name`"),
            (r#"{ name = "a" }"#, "missing field `denoisers`"),
            (r#"{ name = "", denoisers = ["d:1"] }"#, "name must have 1 to 128 characters"),
            (r#"{ name = "a", denoisers = ["d:1"], vae = ["v:1"] }"#, "unknown field `vae`"),
            (r#"{ name = "a", denoisers = "d:1" }"#, "invalid type: string \"d:1\", expected a sequence"),
        ] {
            let error = ModelTable::parse(text).unwrap_err();
            assert!(error.starts_with(wrong), "{text}: {error}");
        }
    }
}
