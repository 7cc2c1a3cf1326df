//! Manifests: which submissions, or graded trees, belong together, and what they are of.
//!
//! Owns the two formats, TOML and CSV, and how a row with placeholders or one of PaperBench's
//! layouts becomes many. Every problem is found before anything is done, and all are told at
//! once. Relative paths start at the manifest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use tribunal_collector::results::Labels;

use super::{
    paperbench,
    pattern::{self, Captures, Match, Pattern},
};

/// The keys of a row.
const KEYS: [&str; 17] = [
    "rubric",
    "submission",
    "graded",
    "paper",
    "addendum",
    "judge_addendum",
    "papers",
    "paper_id",
    "agent",
    "scaffold",
    "seed",
    "elapsed_hours",
    "code_only",
    "resources_provided",
    "disqualified",
    "missing",
    "layout",
];

/// The key of a layout's hours: a list.
const HOURS: &str = "hours";

/// Names of a snapshot's archive, the reproduced one first.
const ARCHIVES: [&str; 4] = [
    "submission_executed.tar.gz",
    "submission_executed*.tar.gz",
    "submission.tar.gz",
    "submission*.tar.gz",
];

/// What a submission that is not there counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missing {
    /// Every leaf is 0.
    Zero,
    /// It is left out, and its seed incomplete.
    Exclude,
}

/// One tree.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Where the manifest has it.
    pub(crate) at: String,
    /// What it is of.
    pub(crate) labels: Labels,
    /// The rubric's file.
    pub(crate) rubric: Option<PathBuf>,
    /// The submission.
    pub(crate) submission: Option<PathBuf>,
    /// The graded tree's file.
    pub(crate) graded: Option<PathBuf>,
    /// The paper's file.
    pub(crate) paper: Option<PathBuf>,
    /// The authors' clarifications.
    pub(crate) addendum: Option<PathBuf>,
    /// Hints for the judge alone.
    pub(crate) judge_addendum: Option<PathBuf>,
    /// Only Code Development leaves count.
    pub(crate) code_only: bool,
    /// Leaves of Dataset and Model Acquisition weigh 0.
    pub(crate) resources_provided: bool,
    /// Every leaf counts as 0.
    pub(crate) disqualified: bool,
    /// What it counts as where the submission is not there; a mistake where nothing is said.
    pub(crate) missing: Option<Missing>,
}

/// A manifest as read.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// Its rows, in its order.
    pub(crate) rows: Vec<Row>,
    /// What is wrong with it, each with its place.
    pub(crate) problems: Vec<String>,
}

/// A row as written: values as text.
type RawRow = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(default)]
    defaults: toml::Table,
    #[serde(default)]
    row: Vec<Spanned<toml::Table>>,
}

/// The manifest in the making.
struct Reader<'m> {
    dir: &'m Path,
    rows: Vec<Row>,
    problems: Vec<String>,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a manifest; what is wrong with rows stands in [`Manifest::problems`].
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no TOML or CSV at all.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Manifest> {
        let name = path.display();
        let text = fs::read_to_string(path)
            .with_context(|| format!("the manifest {name} cannot be read"))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        let mut reader = Reader { dir, rows: Vec::new(), problems: Vec::new() };
        let raw = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => toml_rows(&text, path, &mut reader.problems)?,
            Some("csv") => csv_rows(&text, path, &mut reader.problems)?,
            _ => bail!("the manifest {name} is neither .toml nor .csv"),
        };
        if raw.is_empty() && reader.problems.is_empty() {
            reader.problems.push(format!("{name}: no row; give [[row]] tables, or lines"));
        }
        for (at, row) in raw {
            reader.expand(&at, row);
        }
        let Reader { rows, problems, .. } = reader;
        Ok(Manifest { rows, problems })
    }
}

fn toml_rows(
    text: &str,
    path: &Path,
    problems: &mut Vec<String>,
) -> anyhow::Result<Vec<(String, RawRow)>> {
    let name = path.display();
    let raw: RawManifest =
        toml::from_str(text).with_context(|| format!("the manifest {name} cannot be read"))?;
    let mut fields = |at: &str, table: toml::Table| {
        let mut row = RawRow::new();
        for (key, value) in table {
            match scalar(&key, &value) {
                Ok(text) => drop(row.insert(key, text)),
                Err(problem) => problems.push(format!("{at}: {problem}")),
            }
        }
        row
    };
    let defaults = fields(&format!("{name}: [defaults]"), raw.defaults);
    let mut rows = Vec::new();
    for spanned in raw.row {
        let before = &text[..spanned.span().start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let at = format!("{name}:{line}");
        let mut row = defaults.clone();
        row.extend(fields(&at, spanned.into_inner()));
        rows.push((at, row));
    }
    Ok(rows)
}

/// A value of TOML as a cell of CSV would have it.
fn scalar(key: &str, value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(value) => Ok(value.to_string()),
        toml::Value::Array(values) if key == HOURS => {
            let values: Result<Vec<String>, String> =
                values.iter().map(|value| scalar("", value)).collect();
            Ok(values?.join(" "))
        }
        _ => Err(format!("`{key}` must be text, a number, true or false")),
    }
}

fn csv_rows(
    text: &str,
    path: &Path,
    problems: &mut Vec<String>,
) -> anyhow::Result<Vec<(String, RawRow)>> {
    let name = path.display();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let headers = reader.headers().with_context(|| format!("the manifest {name}"))?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                problems.push(format!("{name}: {error}"));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let cells = headers.iter().zip(record.iter()).filter(|(_, value)| !value.is_empty());
        let row = cells.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        rows.push((format!("{name}:{line}"), row));
    }
    Ok(rows)
}

// === impl Reader ===

impl Reader<'_> {
    fn problem(&mut self, at: &str, problem: impl std::fmt::Display) {
        self.problems.push(format!("{at}: {problem}"));
    }

    /// Turns a written row into the rows that it stands for.
    fn expand(&mut self, at: &str, mut raw: RawRow) {
        let unknown = |key: &&String| key.as_str() != HOURS && !KEYS.contains(&key.as_str());
        let unknown: Vec<String> = raw.keys().filter(unknown).cloned().collect();
        for key in unknown {
            raw.remove(&key);
            self.problem(at, format!("no such key: `{key}`; the keys are {}", KEYS.join(", ")));
        }
        let hours = match raw.remove(HOURS).as_deref().map(numbers).transpose() {
            Ok(hours) => hours.unwrap_or_default(),
            Err(problem) => return self.problem(at, problem),
        };
        let subject = if raw.contains_key("submission") { "submission" } else { "graded" };
        let Some(named) = raw.get(subject).cloned() else {
            return self.problem(at, "neither `submission` nor `graded`");
        };
        let layout = raw.remove("layout");
        if !hours.is_empty() && layout.as_deref() != Some("paperbench-runs") {
            self.problem(at, "`hours` choose snapshots in the layout paperbench-runs alone");
        }
        let matches = match layout.as_deref() {
            None if pattern::is_pattern(&named) => self.matches(&named),
            None => {
                let path = self.dir.join(&named);
                Ok(vec![Match { path, captures: Captures::new() }])
            }
            Some("paperbench-submissions") => {
                self.matches(&format!("{named}/{{paper_id}}/{{agent}}"))
            }
            Some("paperbench-runs") => self.snapshots(&named, &hours),
            Some(other) => Err(format!(
                "no layout `{other}`; there are paperbench-submissions and paperbench-runs"
            )),
        };
        let matches = match matches {
            Ok(matches) => matches,
            Err(problem) => return self.problem(at, problem),
        };
        for found in matches {
            match self.row(at, &raw, subject, found) {
                Ok(row) => self.rows.push(row),
                Err(problem) => self.problem(at, problem),
            }
        }
    }

    fn matches(&self, named: &str) -> Result<Vec<Match>, String> {
        let found = Pattern::parse(named)?.find(self.dir);
        let found = found.map_err(|error| format!("`{named}` cannot be looked up: {error}"))?;
        if found.is_empty() { Err(format!("`{named}` matches nothing")) } else { Ok(found) }
    }

    fn snapshots(&self, root: &str, hours: &[f64]) -> Result<Vec<Match>, String> {
        let unread = |error| format!("`{root}` cannot be read: {error}");
        let snapshots = paperbench::snapshots(&self.dir.join(root), hours).map_err(unread)?;
        let mut matches = Vec::new();
        for snapshot in snapshots {
            let found = paperbench::first_of(&snapshot.path, &ARCHIVES).map_err(unread)?;
            let Labels { paper, agent, seed, elapsed_hours, .. } = snapshot.labels;
            let mut captures = Captures::from([
                ("paper_id".to_owned(), paper),
                ("agent".to_owned(), agent),
                ("seed".to_owned(), seed),
            ]);
            captures.extend(elapsed_hours.map(|at| ("elapsed_hours".to_owned(), at.to_string())));
            // Where nothing was submitted, the name that it would have.
            let path = found.unwrap_or_else(|| snapshot.path.join("submission.tar.gz"));
            matches.push(Match { path, captures });
        }
        if matches.is_empty() {
            return Err(format!("`{root}` holds no <group>/<run>/submissions/<time>"));
        }
        Ok(matches)
    }

    fn row(&self, at: &str, raw: &RawRow, subject: &str, found: Match) -> Result<Row, String> {
        let Match { path, captures } = found;
        let value = |key: &str| -> Result<Option<String>, String> {
            raw.get(key).map(|text| pattern::fill(text, &captures)).transpose()
        };
        let label = |key: &str| Ok::<_, String>(value(key)?.or_else(|| captures.get(key).cloned()));
        let file = |key: &str| Ok::<_, String>(value(key)?.map(|text| self.dir.join(text)));
        let flag = |key: &str| match value(key)?.as_deref() {
            None | Some("false" | "no" | "0") => Ok(false),
            Some("true" | "yes" | "1") => Ok(true),
            Some(other) => Err(format!("`{key}` is `{other}`, neither true nor false")),
        };
        let mut rubric = file("rubric")?;
        let (mut paper, mut addendum) = (file("paper")?, file("addendum")?);
        let mut judge_addendum = file("judge_addendum")?;
        let paper_id = label("paper_id")?;
        if let Some(papers) = file("papers")? {
            let Some(paper_id) = &paper_id else {
                return Err("`papers` needs `paper_id`, given or as {paper_id}".to_owned());
            };
            let dir = papers.join(paper_id);
            let beside = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
            rubric = rubric.or_else(|| Some(dir.join("rubric.json")));
            paper = paper.or_else(|| beside("paper.md"));
            addendum = addendum.or_else(|| beside("addendum.md"));
            judge_addendum = judge_addendum.or_else(|| beside("judge.addendum.md"));
        }
        let folder = rubric.as_deref().and_then(Path::parent).and_then(Path::file_name);
        let folder = folder.map(|name| name.to_string_lossy().into_owned());
        let Some(paper_id) = paper_id.or(folder).filter(|id| !id.is_empty()) else {
            return Err("no `paper_id`, and the rubric stands in no folder of that name".to_owned());
        };
        let hours = label("elapsed_hours")?.as_deref().map(numbers).transpose()?;
        let elapsed_hours = match hours.as_deref() {
            None => None,
            Some([hours]) => Some(*hours),
            Some(_) => return Err("`elapsed_hours` is one number".to_owned()),
        };
        let missing = match value("missing")?.as_deref() {
            None => None,
            Some("zero") => Some(Missing::Zero),
            Some("exclude") => Some(Missing::Exclude),
            Some(other) => return Err(format!("`missing` is `{other}`, neither zero nor exclude")),
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let is_graded = subject == "graded";
        Ok(Row {
            at: at.to_owned(),
            labels: Labels {
                paper: paper_id,
                agent: label("agent")?.or(name).unwrap_or_default(),
                scaffold: label("scaffold")?,
                seed: label("seed")?.unwrap_or_default(),
                elapsed_hours,
            },
            rubric,
            submission: Some(&path).filter(|_| !is_graded).cloned(),
            graded: Some(path).filter(|_| is_graded),
            paper,
            addendum,
            judge_addendum,
            code_only: flag("code_only")?,
            resources_provided: flag("resources_provided")?,
            disqualified: flag("disqualified")?,
            missing,
        })
    }
}

/// Numbers of hours, apart by spaces, commas or semicolons.
pub(crate) fn numbers(text: &str) -> Result<Vec<f64>, String> {
    let parts = text.split([' ', ',', ';']).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let number = part.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
            number.ok_or_else(|| format!("`{part}` is no number of hours"))
        })
        .collect()
}
