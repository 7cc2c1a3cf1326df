//! How much of a criterion's terms stands in the evidence, and where.
//!
//! Owns the index over a text's files, and the match. Terms are [`super::terms`]. The index is built once for a text
//! and asked thousands of times, so a question costs look-ups of its own terms alone.

use std::collections::{BTreeSet, HashMap, HashSet};

use tribunal_core::Category;

use crate::{
    question::{Element, ElementKind, Question},
    verdict::terms::for_each_term,
};

/// Coverage from which on the criterion counts as met.
pub(crate) const THRESHOLD: f64 = 0.5;

/// Lines remembered of each term, by kind of file: enough to find good ones, few enough that a
/// term that stands everywhere costs no more than a rare one.
const MAX_LINES: usize = 32;

/// Terms that lines are looked for by, the rarest of those that are there.
const MAX_QUOTE_TERMS: usize = 12;

/// Longest quote, bytes.
const MAX_QUOTE: usize = 240;

/// The files and logs of one text, by term.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    files: Vec<File>,
    lines: Vec<Line>,
    terms: HashMap<Box<str>, [Posting; Kind::COUNT]>,
    /// Number of files of each kind.
    counts: [u32; Kind::COUNT],
}

/// Which files speak for which category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Document,
    Table,
    Log,
}

#[derive(Debug)]
struct File {
    path: String,
}

#[derive(Debug)]
struct Line {
    file: u32,
    /// 1-based.
    number: u32,
    text: Box<str>,
}

/// Where a term stands, among the files of one kind.
#[derive(Debug, Default)]
struct Posting {
    files: u32,
    lines: Vec<u32>,
}

/// A line of the evidence, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) file: String,
    /// 1-based.
    pub(crate) line: u32,
    pub(crate) text: String,
}

/// How a criterion meets the evidence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Match {
    /// Weight of the terms that are there over the weight of all, in [0, 1]; 0 where the
    /// criterion has no term.
    pub(crate) coverage: f64,
    /// At most two, best first; none where no term is there.
    pub(crate) quotes: Vec<Quote>,
}

// === impl Evidence ===

impl Evidence {
    /// The index over these files.
    pub(crate) fn index(elements: &[Element<'_>]) -> Evidence {
        let mut evidence = Evidence::default();
        for element in elements {
            evidence.add(element);
        }
        evidence
    }

    fn add(&mut self, element: &Element<'_>) {
        let kind = Kind::of(element);
        let file = self.files.len() as u32;
        self.files.push(File { path: element.path.clone() });
        self.counts[kind as usize] += 1;
        let mut seen: HashSet<Box<str>> = HashSet::new();
        for_each_term(&element.path, |term| {
            seen.insert(term.into());
        });
        for (number, text) in (1..).zip(element.body.lines()) {
            let text = quotable(text);
            let line = self.lines.len() as u32;
            let mut any = false;
            for_each_term(text, |term| {
                any = true;
                if !seen.contains(term) {
                    seen.insert(term.into());
                }
                let postings = match self.terms.get_mut(term) {
                    Some(postings) => postings,
                    None => self.terms.entry(term.into()).or_default(),
                };
                let lines = &mut postings[kind as usize].lines;
                if lines.len() < MAX_LINES && lines.last() != Some(&line) {
                    lines.push(line);
                }
            });
            if any {
                self.lines.push(Line { file, number, text: text.into() });
            }
        }
        for term in seen {
            self.terms.entry(term).or_default()[kind as usize].files += 1;
        }
    }
}

// === impl Kind ===

impl Kind {
    const COUNT: usize = 4;
    const ALL: [Kind; Kind::COUNT] = [Kind::Code, Kind::Document, Kind::Table, Kind::Log];

    fn of(element: &Element<'_>) -> Kind {
        if element.kind == ElementKind::Log {
            return Kind::Log;
        }
        let extension = match element.path.rsplit_once('.') {
            Some((_, extension)) => extension.to_ascii_lowercase(),
            None => String::new(),
        };
        match extension.as_str() {
            "csv" | "tsv" | "json" | "jsonl" | "psv" | "xlsx" => Kind::Table,
            "md" | "txt" | "rst" | "html" | "tex" => Kind::Document,
            _ => Kind::Code,
        }
    }

    /// Whether a file of this kind speaks for the category: a log does not say what was written,
    /// and code does not say what came out.
    fn counts_for(self, category: Option<Category>) -> bool {
        match category {
            Some(Category::CodeDevelopment) => self != Kind::Log,
            Some(Category::ResultAnalysis) => self != Kind::Code,
            Some(Category::CodeExecution | Category::Subtree) | None => true,
        }
    }
}

/// The match of a criterion with all that its prompt shows.
pub(crate) fn best_match<'a>(
    question: &Question,
    shown: impl Iterator<Item = &'a Evidence>,
) -> Match {
    let shown: Vec<&Evidence> = shown.filter(|evidence| !evidence.files.is_empty()).collect();
    let kinds: Vec<usize> = Kind::ALL
        .into_iter()
        .filter(|kind| kind.counts_for(question.category))
        .map(|kind| kind as usize)
        .collect();
    let files: u32 =
        shown.iter().flat_map(|evidence| kinds.iter().map(|kind| evidence.counts[*kind])).sum();
    let mut terms: BTreeSet<Box<str>> = BTreeSet::new();
    for_each_term(&question.requirement, |term| {
        terms.insert(term.into());
    });

    let (mut total, mut present) = (0.0, 0.0);
    let mut there: Vec<(f64, Vec<(u32, &Posting)>)> = Vec::new();
    for term in &terms {
        let found: Vec<(u32, &Posting)> = (0..)
            .zip(&shown)
            .filter_map(|(n, evidence)| Some((n, evidence.terms.get(term)?)))
            .flat_map(|(n, postings)| kinds.iter().map(move |kind| (n, &postings[*kind])))
            .collect();
        let with: u32 = found.iter().map(|(_, posting)| posting.files).sum();
        // A term that is nowhere weighs as much as one that is in a single file.
        let rarity = f64::from(files + 1) / f64::from(with.max(1) + 1);
        let weight = 1.0 + rarity.max(1.0).ln();
        total += weight;
        if with > 0 {
            present += weight;
            there.push((weight, found));
        }
    }
    there.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut hits: Vec<((u32, u32), f64)> = Vec::new();
    for (weight, found) in there.into_iter().take(MAX_QUOTE_TERMS) {
        for (n, posting) in found {
            hits.extend(posting.lines.iter().map(|line| ((n, *line), weight)));
        }
    }
    Match {
        coverage: if total > 0.0 { present / total } else { 0.0 },
        quotes: quotes(&shown, hits),
    }
}

/// The best line, and the second best if it is nearly as good.
fn quotes(shown: &[&Evidence], mut hits: Vec<((u32, u32), f64)>) -> Vec<Quote> {
    hits.sort_by_key(|(line, _)| *line);
    let mut lines: Vec<((u32, u32), f64)> = Vec::new();
    for (line, weight) in hits {
        match lines.last_mut() {
            Some((last, sum)) if *last == line => *sum += weight,
            _ => lines.push((line, weight)),
        }
    }
    // Stable, so that the first of equals stays first.
    lines.sort_by(|a, b| b.1.total_cmp(&a.1));
    let enough = lines.first().map_or(0.0, |best| best.1 * 0.7);
    lines
        .into_iter()
        .take(2)
        .filter(|(_, weight)| *weight >= enough)
        .map(|((n, line), _)| {
            let evidence = shown[n as usize];
            let line = &evidence.lines[line as usize];
            Quote {
                file: evidence.files[line.file as usize].path.clone(),
                line: line.number,
                text: line.text.clone().into(),
            }
        })
        .collect()
}

/// The part of a line that is indexed and may be quoted.
fn quotable(line: &str) -> &str {
    let line = line.trim();
    if line.len() <= MAX_QUOTE {
        return line;
    }
    let end = (0..=MAX_QUOTE).rev().find(|end| line.is_char_boundary(*end));
    line[..end.unwrap_or(0)].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::elements;

    const SHOWN: &str = "<file path=\"src/train.py\">\nimport torch\n\ndef gaussianNoise(x):\n    \
                         return x + torch.randn_like(x)\n</file>\n<file path=\"out/scores.csv\">\n\
                         method,accuracy\nours,0.91\n</file>\n<log>\nEpoch 3 finished\n</log>\n";

    fn ask(category: Category, text: &str) -> Match {
        let question = Question { category: Some(category), ..Question::of_text(text) };
        best_match(&question, [&Evidence::index(&elements(SHOWN))].into_iter())
    }

    #[test]
    fn quotes_lines_that_stand_in_the_file() {
        let found = ask(Category::CodeDevelopment, "Gaussian noise has been implemented");
        assert!(found.coverage >= THRESHOLD, "{found:?}");
        let quote = &found.quotes[0];
        assert_eq!((quote.file.as_str(), quote.line), ("src/train.py", 3));
        assert_eq!(quote.text, "def gaussianNoise(x):");
    }

    #[test]
    fn what_is_nowhere_has_no_quote() {
        let nothing = Match { coverage: 0.0, quotes: Vec::new() };
        assert_eq!(ask(Category::CodeDevelopment, "Bayesian quadrature"), nothing);
        assert_eq!(ask(Category::CodeDevelopment, "the, of; a"), nothing);
        let question = Question::of_text("Gaussian noise");
        assert_eq!(best_match(&question, std::iter::empty()), nothing);
    }

    #[test]
    fn each_category_looks_into_its_own_files() {
        assert_eq!(ask(Category::ResultAnalysis, "Gaussian noise").coverage, 0.0);
        assert_eq!(ask(Category::CodeDevelopment, "finished").coverage, 0.0);
        assert_eq!(ask(Category::CodeExecution, "finished epoch").coverage, 1.0);
        let accuracy = ask(Category::ResultAnalysis, "accuracy of ours");
        assert_eq!(accuracy.coverage, 1.0);
        assert_eq!(accuracy.quotes[0].file, "out/scores.csv");
    }

    #[test]
    fn rare_terms_weigh_more() {
        let mut text = String::new();
        for n in 0..20 {
            text += &format!("<file path=\"f{n}.py\">\ncommon\n</file>\n");
        }
        text += "<file path=\"g.py\">\nunusual\n</file>\n";
        let evidence = Evidence::index(&elements(&text));
        let coverage =
            |text: &str| best_match(&Question::of_text(text), [&evidence].into_iter()).coverage;
        assert!(coverage("common absent") < 0.5);
        assert_eq!(coverage("unusual absent"), 0.5);
    }
}
