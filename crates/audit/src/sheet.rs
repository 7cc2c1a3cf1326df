//! Labelling sheets: which leaves a human should look at next, and what came back.
//!
//! Owns the draw, the sheet's columns and reading it back. Each leaf is drawn on its own with
//! probability πᵢ = min(1, c·wᵢ·√p_err); the sheet keeps πᵢ, without which what the labels say
//! would be biased. The judge's verdict is not on it: who labels must not be led.

use std::collections::{BTreeMap, HashMap};

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    metric::label::inclusion,
    pair::{Consensus, Leaf, PairError, Paired, table::verdict},
    tree::LeafGrade,
};

/// The chance of an error where nothing is known of a judge.
const UNKNOWN: f64 = 0.2;
/// No leaf is so sure, nor so doubtful, that it is never or always drawn for that alone.
const DOUBT: (f64, f64) = (0.02, 0.5);

/// A sheet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sheet {
    /// The seed of the draw.
    pub seed: u64,
    /// How many labels were asked for; about as many leaves are drawn.
    pub budget: u64,
    /// The leaves that were drawn.
    pub leaves: Vec<Row>,
}

/// A leaf to be labelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The submission.
    pub submission: String,
    /// 0-based leaf index.
    pub index: u32,
    /// The leaf's id.
    pub id: String,
    /// The requirement type.
    pub category: String,
    /// Its share of the root.
    pub weight: f64,
    /// The probability with which it was drawn.
    pub pi: f64,
    /// The criterion.
    pub requirements: String,
    /// The human's grade: empty until there is one, then 0, 1, pass or fail.
    #[serde(default)]
    pub human: String,
    /// Why.
    #[serde(default)]
    pub explanation: String,
}

/// The columns of a sheet as CSV, in order.
const COLUMNS: [&str; 9] = [
    "submission",
    "index",
    "id",
    "category",
    "weight",
    "pi",
    "requirements",
    "human",
    "explanation",
];

/// The column that may be left out.
const OPTIONAL: &str = "explanation";

/// Characters of a wrong value that are shown.
const SHOWN: usize = 40;

/// The chance that the first judge errs on each leaf: from labels of its category and verdict where
/// there are some, else from the judge's own confidence.
fn error_chances(paired: &Paired) -> Vec<f64> {
    let mut counts: BTreeMap<(&str, bool), (f64, f64)> = BTreeMap::new();
    for leaf in &paired.leaves {
        if let (Some(human), Some(judge)) = (leaf.human().pass(), leaf.judge(0).pass()) {
            let (wrong, all) = counts.entry((&leaf.category, judge)).or_default();
            *wrong += f64::from(human != judge);
            *all += 1.0;
        }
    }
    let chance = |leaf: &Leaf| {
        let Some(judge) = leaf.judge(0).pass() else { return DOUBT.1 };
        let stated = leaf.judges[0].iter().find_map(|sample| sample.confidence);
        let prior = stated.map_or(UNKNOWN, |confidence| 1.0 - confidence);
        let (wrong, all) =
            counts.get(&(leaf.category.as_str(), judge)).copied().unwrap_or_default();
        // The prior is worth two labels.
        ((wrong + 2.0 * prior) / (all + 2.0)).clamp(DOUBT.0, DOUBT.1)
    };
    paired.leaves.iter().map(chance).collect()
}

/// Draws about `budget` of the leaves that nobody has labelled yet.
pub fn draw(paired: &Paired, budget: u64, seed: u64) -> Sheet {
    let chances = error_chances(paired);
    let open: Vec<(&Leaf, f64)> = paired
        .leaves
        .iter()
        .zip(chances)
        .filter(|(leaf, _)| {
            leaf.human() == Consensus::Missing && leaf.judges.iter().any(|s| !s.is_empty())
        })
        .collect();
    let weights: Vec<f64> = open.iter().map(|(leaf, _)| leaf.weight).collect();
    let doubts: Vec<f64> = open.iter().map(|(_, chance)| *chance).collect();
    let pi = inclusion(&weights, &doubts, budget as f64);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    // 53 random bits make a number in [0, 1).
    let mut uniform = || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let leaves = open
        .iter()
        .zip(pi)
        .filter(|(_, pi)| uniform() < *pi)
        .map(|((leaf, _), pi)| Row {
            submission: paired.submission(leaf).name.clone(),
            index: leaf.index,
            id: leaf.id.clone(),
            category: leaf.category.clone(),
            weight: leaf.weight,
            pi,
            requirements: leaf.requirements.clone(),
            human: String::new(),
            explanation: String::new(),
        })
        .collect();
    Sheet { seed, budget, leaves }
}

// === impl Sheet ===

impl Sheet {
    /// The sheet as CSV.
    ///
    /// # Errors
    ///
    /// Never, in memory; the writer's type has one.
    pub fn to_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut out = csv::Writer::from_writer(Vec::new());
        if self.leaves.is_empty() {
            out.write_record(COLUMNS)?;
        }
        for row in &self.leaves {
            out.serialize(row)?;
        }
        out.into_inner().map_err(|error| error.into_error().into())
    }

    /// The rows of a sheet, as CSV or JSON.
    ///
    /// # Errors
    ///
    /// [`PairError::Table`]: it is neither, a value is of the wrong type, or one is missing. Says which
    /// entry, by its line or its place in the list, and what is expected.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Vec<Row>, PairError> {
        let failed = |row: Option<u64>, message: String| PairError::Table {
            file: file.to_owned(),
            row,
            message,
        };
        if matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
            let sheet: Value = serde_json::from_slice(bytes)
                .map_err(|error| failed(Some(error.line() as u64), error.to_string()))?;
            let leaves = sheet.get("leaves").and_then(Value::as_array).ok_or_else(|| {
                let wanted =
                    "no list `leaves`; expected a sheet as `tribunal audit --next` wrote it";
                failed(None, wanted.to_owned())
            })?;
            let row = |(at, entry): (usize, &Value)| {
                json_row(entry).map_err(|wrong| failed(None, format!("leaves[{at}]: {wrong}")))
            };
            return leaves.iter().enumerate().map(row).collect();
        }
        let mut reader = csv::Reader::from_reader(bytes);
        let header = reader.headers().map_err(|error| failed(Some(1), error.to_string()))?.clone();
        let is_there =
            |column: &str| column == OPTIONAL || header.iter().any(|name| name == column);
        if let Some(column) = COLUMNS.into_iter().find(|column| !is_there(column)) {
            let message = format!("no column `{column}`; expected {}", COLUMNS.join(", "));
            return Err(failed(Some(1), message));
        }
        reader
            .deserialize()
            .map(|row| {
                row.map_err(|error: csv::Error| {
                    failed(error.position().map(csv::Position::line), cell(&error, &header))
                })
            })
            .collect()
    }
}

/// What a field of an entry is to hold.
fn expected(field: &str) -> &'static str {
    match field {
        "index" => "the leaf's number, from 0",
        "weight" => "the leaf's share of the root, a number",
        "pi" => "the probability of its draw, a number",
        "human" => "the text 0, 1, pass or fail, or an empty one where nobody has looked",
        _ => "text",
    }
}

/// What is wrong with a cell.
fn cell(error: &csv::Error, header: &csv::StringRecord) -> String {
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else { return error.to_string() };
    let column = err.field().and_then(|at| header.get(usize::try_from(at).ok()?));
    match column {
        Some(column) => format!("`{column}`: {}; expected {}", err.kind(), expected(column)),
        None => err.to_string(),
    }
}

/// An entry of a sheet as JSON.
fn json_row(entry: &Value) -> Result<Row, String> {
    let wrong = |field: &str| {
        let expected = expected(field);
        match entry.get(field) {
            Some(found) => {
                let found: String = found.to_string().chars().take(SHOWN).collect();
                format!("`{field}` is {found}; expected {expected}")
            }
            None => format!("`{field}` is missing; expected {expected}"),
        }
    };
    let text = |field: &str| {
        let text = entry.get(field).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| wrong(field))
    };
    let number = |field: &str| entry.get(field).and_then(Value::as_f64).ok_or_else(|| wrong(field));
    let index = entry.get("index").and_then(Value::as_u64);
    let index = index.and_then(|index| u32::try_from(index).ok());
    Ok(Row {
        submission: text("submission")?,
        index: index.ok_or_else(|| wrong("index"))?,
        id: text("id")?,
        category: text("category")?,
        weight: number("weight")?,
        pi: number("pi")?,
        requirements: text("requirements")?,
        human: text("human")?,
        explanation: match entry.get(OPTIONAL) {
            Some(_) => text(OPTIONAL)?,
            None => String::new(),
        },
    })
}

/// Gives the leaves the labels of these rows, with their probabilities; returns how many.
///
/// Rows that nobody filled in are taken to be missing at random: the others' probabilities are
/// lowered by the share that came back, and a note says so.
///
/// # Errors
///
/// [`PairError::Table`]: a row is of no leaf, or holds no verdict or probability. Says which one by its
/// number and its leaf: a criterion of several lines makes lines say nothing.
pub fn label(paired: &mut Paired, file: &str, rows: &[Row]) -> Result<usize, PairError> {
    let failed = |at: usize, message: String| {
        let Row { submission, index, id, .. } = &rows[at];
        let message = format!("entry {}, leaf #{index} {id} of {submission}: {message}", at + 1);
        PairError::Table { file: file.to_owned(), row: None, message }
    };
    let places: HashMap<(String, u32), usize> = paired
        .leaves
        .iter()
        .enumerate()
        .map(|(at, leaf)| ((paired.submission(leaf).name.clone(), leaf.index), at))
        .collect();
    let filled = rows.iter().filter(|row| !row.human.trim().is_empty()).count();
    let came_back = filled as f64 / rows.len().max(1) as f64;
    for (at, row) in rows.iter().enumerate() {
        let place = places.get(&(row.submission.clone(), row.index));
        let place = place.copied().filter(|place| paired.leaves[*place].id == row.id);
        let place = place.ok_or_else(|| {
            failed(
                at,
                "the judge's work has no leaf like this; is it that judge's sheet?".to_owned(),
            )
        })?;
        if !(row.pi > 0.0 && row.pi <= 1.0) {
            let wrong = format!("`pi` is {}; expected a probability above 0", row.pi);
            return Err(failed(at, wrong));
        }
        let score = verdict(row.human.trim()).ok_or_else(|| {
            let wrong =
                format!("`human`: `{}` is no grade; expected 0, 1, pass or fail", row.human);
            failed(at, wrong)
        })?;
        if score.is_some() {
            let explanation = row.explanation.clone();
            let leaf = &mut paired.leaves[place];
            leaf.humans.push(LeafGrade { score, explanation, confidence: None });
            leaf.pi = Some(row.pi * came_back);
        }
    }
    if filled < rows.len() {
        paired.notes.push(format!(
            "{} of {} drawn leaves have no label yet; they are taken to be missing at random",
            rows.len() - filled,
            rows.len()
        ));
    }
    paired.notes.push(
        "labels were drawn with unequal chances: agreement is that of the drawn leaves, and only \
         the corrected score is one of all leaves"
            .to_owned(),
    );
    Ok(filled)
}
