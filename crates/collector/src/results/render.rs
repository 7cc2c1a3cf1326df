//! Tables of results as text: for terminals, Markdown, CSV and LaTeX.
//!
//! Owns columns, cells and escaping. For people scores are percentages with one decimal, as the
//! published tables have them; in CSV they are in [0, 1] with all their digits. Agents and papers
//! are named by others: nothing of theirs is markup.

use std::collections::BTreeSet;

use comfy_table::{
    Cell, CellAlignment, ContentArrangement, Table,
    presets::{ASCII_FULL_CONDENSED, UTF8_FULL_CONDENSED},
};
use tribunal_core::Category;

use super::{By, CorrectedScore, Estimate, ResultsRow, ResultsTable, system_name};
use crate::text::{TextStyle, sanitize_line};

/// What every text says of a simulated judge's scores.
const SIMULATED: &str =
    "SIMULATED JUDGE: no model has read the submissions; these scores say nothing about them";

/// How an estimate is written.
#[derive(Clone, Copy)]
struct Notation {
    plus_minus: &'static str,
    nothing: &'static str,
}

const UNICODE: Notation = Notation { plus_minus: " ± ", nothing: "–" };
const ASCII: Notation = Notation { plus_minus: " +- ", nothing: "-" };
const LATEX: Notation = Notation { plus_minus: r" $\pm$ ", nothing: "--" };

/// A column of labels: its heading, and a row's text in it.
type Column = (&'static str, fn(&ResultsRow) -> String);

/// The table for a terminal, its notes below.
pub fn text(table: &ResultsTable, style: TextStyle) -> String {
    let notation = if style.unicode { UNICODE } else { ASCII };
    let mut drawn = Table::new();
    drawn.load_style(if style.unicode { UTF8_FULL_CONDENSED } else { ASCII_FULL_CONDENSED });
    if style.colour {
        drawn.enforce_styling();
    } else {
        drawn.force_no_tty();
    }
    drawn.set_width(style.width).set_content_arrangement(ContentArrangement::Dynamic);
    let (headings, rows) = cells(table, notation, sanitize_line);
    let labels = labels(table).len();
    drawn.set_header(headings);
    for row in rows {
        let cell = |(i, text): (usize, String)| {
            let cell = Cell::new(text);
            if i < labels { cell } else { cell.set_alignment(CellAlignment::Right) }
        };
        drawn.add_row(row.into_iter().enumerate().map(cell));
    }
    let mut text = String::new();
    if table.simulated {
        text.push_str(&format!("*** {SIMULATED} ***\n"));
    }
    text.push_str(&drawn.trim_fmt());
    text.push('\n');
    for line in remarks(table) {
        text.push_str(&sanitize_line(&line));
        text.push('\n');
    }
    text
}

/// A table's cells as people read them, for whoever escapes and lays them out.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Cells {
    /// The columns' headings.
    pub headings: Vec<String>,
    /// How many columns, from the left, are labels and not numbers.
    pub labels: usize,
    /// The rows, a text a column.
    pub rows: Vec<Vec<String>>,
}

/// The cells of the table.
pub fn table_cells(table: &ResultsTable) -> Cells {
    let (headings, rows) = cells(table, UNICODE, sanitize_line);
    Cells { headings, labels: labels(table).len(), rows }
}

/// The table in GitHub's Markdown, its notes as a list.
pub fn markdown(table: &ResultsTable) -> String {
    let (headings, rows) = cells(table, UNICODE, markdown_escape);
    let labels = labels(table).len();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(headings.clone());
    let rule = |i| if i < labels { "---".to_owned() } else { "---:".to_owned() };
    text.push_str(&line((0..headings.len()).map(rule).collect()));
    for row in rows {
        text.push_str(&line(row));
    }
    text.push('\n');
    if table.simulated {
        text.push_str(&format!("**{SIMULATED}**\n\n"));
    }
    for remark in remarks(table) {
        text.push_str(&format!("- {}\n", markdown_escape(&remark)));
    }
    text
}

/// The table as `tabular` with booktabs' rules, its notes below in a smaller size.
pub fn latex(table: &ResultsTable) -> String {
    let (headings, rows) = cells(table, LATEX, latex_escape);
    let labels = labels(table).len();
    let columns: String = (0..headings.len()).map(|i| if i < labels { 'l' } else { 'r' }).collect();
    let line = |cells: &[String]| format!("{} \\\\\n", cells.join(" & "));
    let mut text = format!("% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{columns}}}\n");
    text.push_str("\\toprule\n");
    text.push_str(&line(&headings));
    text.push_str("\\midrule\n");
    for row in &rows {
        text.push_str(&line(row));
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    if table.simulated {
        text.push_str(&format!("\n\\textbf{{{SIMULATED}}}\n"));
    }
    for remark in remarks(table) {
        text.push_str(&format!("\n{{\\footnotesize {}}}\n", latex_escape(&remark)));
    }
    text
}

/// The table as CSV, one line a row, scores in [0, 1], nothing where there is none.
///
/// # Errors
///
/// None that memory does not give.
pub fn csv(table: &ResultsTable) -> Result<String, csv::Error> {
    let categories = categories(table);
    let mut out = csv::Writer::from_writer(Vec::new());
    let mut header: Vec<String> =
        ["agent", "scaffold", "paper", "category", "elapsed_hours", "seeds", "complete_seeds"]
            .map(str::to_owned)
            .to_vec();
    let estimate = |name: &str| {
        ["", "_se", "_lower", "_upper"].map(|suffix| format!("{name}{suffix}")).to_vec()
    };
    header.push("papers".to_owned());
    header.extend(estimate("score"));
    for category in &categories {
        header.extend(estimate(&category.name().to_lowercase().replace(' ', "_")));
    }
    out.write_record(&header)?;
    for row in &table.rows {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
        let numbers = |of: Option<&Estimate>| {
            let of = of.copied().unwrap_or_default();
            [of.mean, of.se, of.lower, of.upper].map(number).to_vec()
        };
        let mut record = vec![
            text(&row.agent),
            text(&row.scaffold),
            text(&row.paper),
            row.category.map_or_else(String::new, |category| category.to_string()),
            number(row.elapsed_hours),
            row.seeds.to_string(),
            row.score.seeds.to_string(),
            row.score.papers.to_string(),
        ];
        record.extend(numbers(Some(&row.score)));
        for category in &categories {
            record.extend(numbers(row.by_category.get(category).and_then(Option::as_ref)));
        }
        out.write_record(&record)?;
    }
    let bytes = out.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What stands below a table, a line each: what its numbers are, where curves come to rest, and
/// the notes by kind.
pub fn remarks(table: &ResultsTable) -> Vec<String> {
    let over = match table.papers.len() {
        1 => format!("the paper {}", table.papers[0]),
        papers => format!("{papers} papers"),
    };
    let mut lines = vec![format!(
        "Percent; mean and standard error (s/sqrt(k)) over complete seeds of the mean over {over}; no \
         standard error of one seed; [lower, upper] where leaves are missing"
    )];
    for row in &table.rows {
        if let (Some(plateau), Some(agent)) = (&row.plateau, &row.agent) {
            let system = system_name(agent, row.scaffold.as_deref());
            lines.push(format!("{system}: {}", plateau.finding));
        }
    }
    lines.extend(table.notes.iter().map(|note| format!("{}: {}", note.kind.name(), note.message)));
    lines
}

/// The columns of labels that tell the table's rows apart.
fn labels(table: &ResultsTable) -> Vec<Column> {
    let any = |has: fn(&ResultsRow) -> bool| table.rows.iter().any(has);
    let mut columns: Vec<Column> = Vec::new();
    if table.by == By::Paper {
        columns.push(("paper", |row| row.paper.clone().unwrap_or_default()));
    }
    if any(|row| row.agent.is_some()) {
        columns.push(("agent", |row| row.agent.clone().unwrap_or_default()));
    }
    if table.by == By::Scaffold || any(|row| row.scaffold.is_some()) {
        columns.push(("scaffold", |row| row.scaffold.clone().unwrap_or_default()));
    }
    match table.by {
        By::Category => columns.push(("requirement type", |row| {
            row.category.map_or_else(String::new, |category| category.to_string())
        })),
        By::Elapsed => columns.push(("hours", |row| {
            row.elapsed_hours.map_or_else(String::new, |hours| hours.to_string())
        })),
        By::Agent | By::Scaffold | By::Paper => {}
    }
    columns
}

/// The requirement types that have a column, in the order of all tables.
fn categories(table: &ResultsTable) -> BTreeSet<Category> {
    let of_row = |row: &ResultsRow| {
        let some = row.by_category.iter().filter(|(_, estimate)| estimate.is_some());
        some.map(|(category, _)| *category).collect::<Vec<_>>()
    };
    table.rows.iter().flat_map(of_row).collect()
}

/// Headings and cells, labels first, `escape` applied to what is not a number.
fn cells(
    table: &ResultsTable,
    notation: Notation,
    escape: impl Fn(&str) -> String,
) -> (Vec<String>, Vec<Vec<String>>) {
    let (labels, categories) = (labels(table), categories(table));
    let mut headings: Vec<String> = labels.iter().map(|(name, _)| (*name).to_owned()).collect();
    headings.push("score".to_owned());
    let is_corrected = table.rows.iter().any(|row| row.corrected.is_some());
    if is_corrected {
        headings.push("corrected (95%)".to_owned());
    }
    headings.extend(categories.iter().map(|category| category.name().to_owned()));
    headings.push("seeds".to_owned());
    let row = |row: &ResultsRow| {
        let mut cells: Vec<String> = labels.iter().map(|(_, text)| escape(&text(row))).collect();
        cells.push(notation.estimate(Some(&row.score)));
        if is_corrected {
            cells.push(notation.corrected(row.corrected.as_ref()));
        }
        for category in &categories {
            let estimate = row.by_category.get(category).and_then(Option::as_ref);
            cells.push(notation.estimate(estimate));
        }
        let (complete, all) = (row.score.seeds, row.seeds);
        let seeds = if complete == all { all.to_string() } else { format!("{complete} of {all}") };
        cells.push(seeds);
        cells
    };
    (headings, table.rows.iter().map(row).collect())
}

fn markdown_escape(text: &str) -> String {
    let mut safe = String::new();
    for c in sanitize_line(text).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => safe.extend(['\\', c]),
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            c => safe.push(c),
        }
    }
    safe
}

fn latex_escape(text: &str) -> String {
    let mut safe = String::new();
    for c in sanitize_line(text).chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => safe.extend(['\\', c]),
            '\\' => safe.push_str(r"\textbackslash{}"),
            '~' => safe.push_str(r"\textasciitilde{}"),
            '^' => safe.push_str(r"\textasciicircum{}"),
            c => safe.push(c),
        }
    }
    safe
}

// === impl Notation ===

impl Notation {
    /// A corrected score with its interval, in percent.
    fn corrected(self, corrected: Option<&CorrectedScore>) -> String {
        let percent = |value: f64| format!("{:.1}", value * 100.0);
        match corrected {
            Some(CorrectedScore::Estimate { estimate, low, high }) => {
                format!("{} [{}, {}]", percent(*estimate), percent(*low), percent(*high))
            }
            Some(CorrectedScore::Refused { .. }) | None => self.nothing.to_owned(),
        }
    }

    /// An estimate in percent.
    fn estimate(self, estimate: Option<&Estimate>) -> String {
        let percent = |value: f64| format!("{:.1}", value * 100.0);
        let Some(estimate) = estimate else { return self.nothing.to_owned() };
        match (estimate.mean, estimate.se, estimate.lower, estimate.upper) {
            (Some(mean), Some(se), _, _) => {
                format!("{}{}{}", percent(mean), self.plus_minus, percent(se))
            }
            (Some(mean), None, _, _) => percent(mean),
            (None, _, Some(lower), Some(upper)) => {
                format!("[{}, {}]", percent(lower), percent(upper))
            }
            _ => self.nothing.to_owned(),
        }
    }
}
