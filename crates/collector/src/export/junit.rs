//! `junit.xml`: a leaf a test case, for continuous integration.
//!
//! Owns the translation to JUnit's format as Jenkins, GitLab and GitHub's actions read it: a leaf of
//! score 1 passes, one below fails with the judge's explanation, one without a score is an error
//! with its reason. What XML 1.0 cannot hold is left out: criteria and replies come from others.

use std::io::{self, Write};

use tribunal_core::Outcome;

use super::{Context, Format, LeafRecord, file::AtomicFile, file::WholeFile};

/// Characters of a criterion in a case's name, at most.
const MAX_NAME: usize = 200;

struct JUnit {
    out: AtomicFile,
}

pub(super) fn open<'c>(
    context: Context<'c>,
    mut out: AtomicFile,
) -> io::Result<Box<dyn Format + Send + 'c>> {
    let collected = context.collected;
    let leaves = || collected.rubric.leaves().map(|(index, _)| collected.outcome(index));
    let failures = leaves().filter(|outcome| outcome.score().is_some_and(|s| s < 1.0)).count();
    let errors = leaves().filter(|outcome| outcome.score().is_none()).count();
    let run = &collected.record.run;
    let simulated = if collected.simulated() { " (simulated)" } else { "" };
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{}\"",
        leaves().count(),
        // Milliseconds of any run are far below 2^53.
        collected.totals.wall_ms as f64 / 1000.0
    );
    let suite = escaped(&format!("{}{simulated}, run {}", run.model, run.id));
    let now = context.now.strftime("%Y-%m-%dT%H:%M:%S");
    write!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"tribunal\" {counts}>\n\
         <testsuite name=\"{suite}\" {counts} skipped=\"0\" timestamp=\"{now}\">\n"
    )?;
    Ok(Box::new(JUnit { out }))
}

// === impl JUnit ===

impl Format for JUnit {
    fn node(&mut self, _index: usize, leaf: Option<&LeafRecord<'_>>) -> io::Result<()> {
        let Some(leaf) = leaf else { return Ok(()) };
        let node = leaf.node;
        let criterion: String = node.requirements.chars().take(MAX_NAME).collect();
        let name = match node.leaf_index() {
            Some(index) => format!("#{index} {criterion}"),
            None => criterion,
        };
        let class = node.category.map_or("", |category| category.name());
        let (name, class) = (escaped(&name), escaped(class));
        write!(self.out, "<testcase name=\"{name}\" classname=\"{class}\"")?;
        let explanation = escaped(&leaf.explanation());
        match leaf.outcome {
            Outcome::Graded { score } if score >= 1.0 => self.out.write_all(b"/>\n"),
            Outcome::Graded { score } => writeln!(
                self.out,
                "><failure message=\"score {score}\" type=\"score\">{explanation}</failure></testcase>"
            ),
            Outcome::Ungraded { reason } => writeln!(
                self.out,
                "><error message=\"not graded\" type=\"{reason}\">{explanation}</error></testcase>"
            ),
        }
    }

    fn finish(mut self: Box<Self>) -> io::Result<WholeFile> {
        self.out.write_all(b"</testsuite>\n</testsuites>\n")?;
        self.out.finish()
    }
}

/// The text in an attribute or element: markup escaped, characters that XML 1.0 (section 2.2) does
/// not allow left out.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // An attribute's line breaks would become spaces.
            '\n' => safe.push_str("&#10;"),
            '\r' => safe.push_str("&#13;"),
            '\t' => safe.push_str("&#9;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_no_markup() {
        assert_eq!(escaped("a<b>&\"c\"\u{1b}[1m\n"), "a&lt;b&gt;&amp;&quot;c&quot;[1m&#10;");
        assert_eq!(escaped("]]></failure>é\u{0}"), "]]&gt;&lt;/failure&gt;é");
    }
}
