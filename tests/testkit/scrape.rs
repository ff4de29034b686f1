//! What Prometheus would read from a service's HTTP port.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Gets `path`: the status code and the body.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub async fn http_get(addr: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr).await.with_context(|| format!("connecting to {addr}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a code")?;
    Ok((code, body.to_owned()))
}

/// A page in the Prometheus text format, version 0.0.4.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// What `# HELP` and `# TYPE` say, by metric.
    pub families: BTreeMap<String, Family>,
    /// The samples, in their order.
    pub samples: Vec<Sample>,
}

/// A metric's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// `# HELP`.
    pub help: Option<String>,
    /// `# TYPE`: counter, gauge or histogram.
    pub kind: Option<String>,
}

/// One line that is no comment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name; of a histogram with `_bucket`, `_sum` or `_count`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Scrape {
    /// Reads a page.
    ///
    /// # Errors
    /// The first line that is not in the format.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let comment = |keyword| line.strip_prefix(keyword).and_then(|rest: &str| rest.split_once(' '));
            if let Some((name, help)) = comment("# HELP ") {
                scrape.families.entry(name.into()).or_default().help = Some(help.into());
            } else if let Some((name, kind)) = comment("# TYPE ") {
                scrape.families.entry(name.into()).or_default().kind = Some(kind.into());
            } else if !line.starts_with('#') {
                scrape.samples.push(sample(line).with_context(|| format!("a line that is no sample: {line}"))?);
            }
        }
        Ok(scrape)
    }

    /// The sum of the samples that have this name and all of these labels, whatever others they have; 0 when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether there is a sample with this name and all of these labels.
    #[must_use]
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        let fits = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
        };
        self.samples.iter().filter(move |sample| sample.name == name).filter(fits)
    }
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample { name: series.into(), labels: BTreeMap::new(), value });
    };
    Some(Sample { name: name.into(), labels: labels(rest.strip_suffix('}')?)?, value })
}

/// `label="value",…` with `\\`, `\"` and `\n` escaped in values.
fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    letter => letter,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = after[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = "# HELP a_total What a is\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\", z\"} 2\na_total{x=\"2\"} 3\n\nb 1e-3\n";
        let scrape = Scrape::parse(page).unwrap();
        let family = Family { help: Some("What a is".into()), kind: Some("counter".into()) };
        assert_eq!(scrape.families["a_total"], family);
        assert_eq!(scrape.sum("a_total", &[]), 5.0);
        assert_eq!(scrape.sum("a_total", &[("y", "q\", z")]), 2.0);
        assert!(scrape.has("b", &[]) && !scrape.has("b", &[("x", "1")]));
        assert!(Scrape::parse("no sample").is_err());
    }
}
