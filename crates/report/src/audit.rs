//! `audit.html`: what an audit found, as one self-contained page.
//!
//! Owns which tables stand on it and in which order. Every number is the document's.

use minijinja::Value;
use serde::Serialize;
use tribunal_audit::{
    AuditDocument,
    document::{ByPolicy, CorrectedScore, IntervalLevel, Measures, NamedInterval},
    metric::agreement::Measure,
};

use crate::{
    page::{Connect, Page, PageError, Rendered, visible},
    plot::{self, Point},
};

#[derive(Serialize)]
struct Context<'d> {
    audit: &'d AuditDocument,
    measures: Vec<MeasureRow>,
    scopes: Vec<ScopeRow<'d>>,
    corrected: Vec<CorrectedRow<'d>>,
    /// Cost against F1, of the numbers in the table of judges.
    plot: Option<Value>,
}

/// A measure over all leaves.
#[derive(Serialize)]
struct MeasureRow {
    name: &'static str,
    dropped: Option<f64>,
    counted_as_fail: Option<f64>,
    leaf: Option<NamedInterval>,
    paper: Vec<NamedInterval>,
}

/// The measures of some of the leaves.
#[derive(Serialize)]
struct ScopeRow<'d> {
    kind: &'static str,
    name: &'d str,
    leaves: u64,
    missing: u64,
    dropped: &'d Measures,
    f1_counted: Option<f64>,
}

#[derive(Serialize)]
struct CorrectedRow<'d> {
    name: &'static str,
    score: &'d CorrectedScore,
}

/// The page.
///
/// # Errors
///
/// The template fails, which is a fault of this program.
pub fn audit_page(document: &AuditDocument) -> Result<Rendered, PageError> {
    let page = Page {
        template: "audit.html",
        title: &format!("Audit of {}", document.judge.name),
        styles: &[include_str!("../assets/plot.css"), include_str!("../assets/audit.css")],
        scripts: &[include_str!("../assets/audit.js")],
        data: Some(visible(serde_json::to_value(&document.disagreements)?).to_string()),
        connect: Connect::Nowhere,
    };
    let measures = Measure::ALL.map(|measure| measure_row(document, measure)).into();
    page.render(Context {
        audit: document,
        measures,
        scopes: scopes(document),
        corrected: vec![
            CorrectedRow { name: "Rogan–Gladen", score: &document.corrected.rogan_gladen },
            CorrectedRow { name: "PPI++", score: &document.corrected.ppi },
        ],
        plot: plot(document).map(Value::from_safe_string),
    })
}

fn measure_row(document: &AuditDocument, measure: Measure) -> MeasureRow {
    let ByPolicy { dropped, counted_as_fail } = &document.overall;
    let intervals = dropped.intervals.get(measure.name()).map(Vec::as_slice).unwrap_or_default();
    let of = |level: IntervalLevel| intervals.iter().filter(move |found| found.level == level);
    MeasureRow {
        name: measure.name(),
        dropped: dropped.value(measure),
        counted_as_fail: counted_as_fail.value(measure),
        leaf: of(IntervalLevel::Leaf).next().cloned(),
        paper: of(IntervalLevel::Paper).cloned().collect(),
    }
}

fn scopes(document: &AuditDocument) -> Vec<ScopeRow<'_>> {
    let groups = [
        ("category", &document.by_category),
        ("paper", &document.by_paper),
        ("system", &document.by_system),
    ];
    let mut rows = Vec::new();
    for (kind, scopes) in groups {
        for (name, found) in scopes {
            let leaves = found.counted_as_fail.num_samples;
            let missing = leaves - found.dropped.num_samples;
            let (dropped, f1_counted) = (&found.dropped, found.counted_as_fail.f1);
            rows.push(ScopeRow { kind, name, leaves, missing, dropped, f1_counted });
        }
    }
    let alone = |kind, name, dropped: &'_ Measures| (kind, name, dropped.num_samples);
    for (kind, name, dropped) in std::iter::once(("mean", "over papers", &document.paper_mean))
        .chain(document.baselines.iter().map(|(name, found)| ("baseline", name.as_str(), found)))
    {
        let (kind, name, leaves) = alone(kind, name, dropped);
        rows.push(ScopeRow { kind, name, leaves, missing: 0, dropped, f1_counted: None });
    }
    rows
}

/// The judges whose cost and F1 are known; `None` below two.
fn plot(document: &AuditDocument) -> Option<String> {
    let costs = document.comparison.iter().flat_map(|comparison| &comparison.cost);
    let point = |judge: &str, x, y| Point { name: judge.to_owned(), x, y };
    let points: Vec<Point> =
        costs.filter_map(|of| Some(point(&of.judge, of.cost_usd?, of.f1?))).collect();
    (points.len() > 1).then(|| plot::scatter("Cost against F1", "US dollars", "F1", &points))
}

#[cfg(test)]
mod tests {
    use tribunal_audit::{
        AuditOptions, LeafGrade, Paired, audit,
        pair::{Leaf, Submission},
    };

    use super::*;

    const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\u{202e}\"'<b>";

    fn paired(leaves: u32, text: &str) -> Paired {
        let grade = |score: f64, words: &str| LeafGrade {
            score: Some(score),
            explanation: words.to_owned(),
            confidence: None,
        };
        let leaf = |index: u32| Leaf {
            submission: 0,
            index,
            id: format!("{text}{index}"),
            requirements: text.to_owned(),
            category: "Code Development".to_owned(),
            weight: 1.0 / f64::from(leaves),
            first_level: None,
            humans: vec![grade(f64::from(index % 2), text)],
            judges: vec![vec![grade(f64::from(index % 3 % 2), text)]],
            pi: None,
        };
        Paired {
            submissions: vec![Submission {
                name: text.to_owned(),
                paper: text.to_owned(),
                system: Some(text.to_owned()),
                first_level: Vec::new(),
            }],
            leaves: (0..leaves).map(leaf).collect(),
            judges: vec![text.to_owned()],
            notes: vec![text.to_owned()],
        }
    }

    #[test]
    fn hostile_markup_does_nothing() {
        let document = audit(&paired(60, HOSTILE), &AuditOptions::default());
        let made = audit_page(&document).unwrap();
        assert!(!made.html.contains("<img"), "an element of somebody else");
        assert!(!made.html.contains('\u{202e}'), "text turned round");
        assert_eq!(made.html.matches("<script").count(), 2, "data and code");
        assert!(made.html.contains("&lt;img src=x onerror=alert(1)&gt;"));
        let outside = ["http://", "https://", "src=\"", "url("];
        for reference in outside {
            assert!(!made.html.contains(reference), "{reference}");
        }
    }

    #[test]
    fn the_page_says_what_the_document_says() {
        let document = audit(&paired(60, "rice"), &AuditOptions::default());
        let made = audit_page(&document).unwrap().html;
        let accuracy = format!("{:.4}", document.overall.dropped.accuracy.unwrap());
        assert!(made.contains(&accuracy) && made.contains("Signed score error"));
        assert!(made.contains("refused") || made.contains("this proves nothing"));
    }
}
