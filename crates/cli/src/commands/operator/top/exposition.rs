//! Metrics as a node tells them: the text format of Prometheus, version 0.0.4, read back into numbers.
//!
//! Always: what cannot be read is passed over, so that a newer node's metrics are no error.

use std::collections::BTreeMap;

/// Every sample, by its name and then by its labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples(BTreeMap<String, Vec<(Labels, f64)>>);

type Labels = BTreeMap<String, String>;

impl Samples {
    /// Reads what a node told.
    pub(crate) fn parse(text: &str) -> Samples {
        let mut samples = Samples::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, labels, value)) = parse_line(line) {
                samples.0.entry(name).or_default().push((labels, value));
            }
        }
        samples
    }

    /// The sum of the samples of that name whose labels `wanted` takes; `None` when the node has no such metric at all.
    pub(crate) fn sum_where(&self, name: &str, wanted: impl Fn(&dyn Fn(&str) -> String) -> bool) -> Option<f64> {
        let samples = self.0.get(name)?;
        let label = |labels: &Labels, name: &str| labels.get(name).cloned().unwrap_or_default();
        Some(samples.iter().filter(|(labels, _)| wanted(&|name| label(labels, name))).map(|(_, value)| value).sum())
    }

    /// A metric without labels.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.first().map(|(_, value)| *value)
    }

    /// The value with this label.
    pub(crate) fn labelled(&self, name: &str, label: &str, value: &str) -> Option<f64> {
        self.0.get(name)?.iter().find(|(labels, _)| labels.get(label).is_some_and(|found| found == value)).map(|(_, value)| *value)
    }

    /// All values of a metric, by one of its labels.
    pub(crate) fn by(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let samples = self.0.get(name).into_iter().flatten();
        samples.filter_map(|(labels, value)| Some((labels.get(label)?.clone(), *value))).collect()
    }
}

/// `name{label="value",…} number`.
fn parse_line(line: &str) -> Option<(String, Labels, f64)> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Labels::new(), rest),
    };
    // A time may follow the number.
    let value = value.split_whitespace().next()?.parse().ok()?;
    Some((name.to_owned(), labels, value))
}

/// The labels up to `}`, and what follows.
fn parse_labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, value) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()? {
                    (_, 'n') => text.push('\n'),
                    (_, other) => text.push(other),
                },
                (_, other) => text.push(other),
            }
        };
        labels.insert(name.to_owned(), text);
        rest = &value[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_label() {
        let samples = Samples::parse(
            "# HELP a Is.\n# TYPE a gauge\na 1.5\nb_total{k=\"x\",op=\"read\"} 2\nb_total{k=\"y \\\"z\\\\\\n\",op=\"read\"} 3\n\
             b_total{k=\"x\",op=\"write\"} 4 1700000000\nnan{quantile=\"0.99\"} NaN\nbroken{ 1\nbroken\n",
        );
        assert_eq!(samples.value("a"), Some(1.5));
        assert_eq!(samples.sum_where("b_total", |label| label("op") == "read"), Some(5.0));
        assert_eq!(samples.sum_where("b_total", |label| label("op") == "list"), Some(0.0));
        assert_eq!(samples.sum_where("absent", |_| true), None);
        assert_eq!(samples.labelled("b_total", "k", "y \"z\\\n"), Some(3.0));
        assert_eq!(samples.by("b_total", "op"), [("read".into(), 2.0), ("read".into(), 3.0), ("write".into(), 4.0)]);
        assert!(samples.labelled("nan", "quantile", "0.99").unwrap().is_nan());
        assert_eq!(samples.value("broken"), None);
    }
}
