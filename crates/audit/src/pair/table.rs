//! Tables of verdicts, a row a leaf, such as DevAI's.
//!
//! Owns the mapping of columns and what a cell may say. Every leaf of a submission weighs the
//! same, unless a column says otherwise.

use std::collections::{BTreeMap, HashMap};

use super::{Leaf, PairError, Paired, Submission};
use crate::tree::LeafGrade;

/// Which columns mean what; several joined by `+` are one name, or several graders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    item: Vec<String>,
    group: Vec<String>,
    system: Vec<String>,
    category: Vec<String>,
    human: Vec<String>,
    judge: Vec<String>,
    weight: Vec<String>,
}

/// Where the columns stand in a file.
struct Places {
    item: Vec<usize>,
    group: Vec<usize>,
    system: Vec<usize>,
    category: Vec<usize>,
    human: Vec<usize>,
    judge: Vec<usize>,
    weight: Vec<usize>,
}

// === impl Columns ===

impl Columns {
    /// Reads `item=agent+task,group=task,human=human,judge=verdict`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words: a name that is unknown or stands twice, or one of item, human and
    /// judge missing.
    pub fn parse(text: &str) -> Result<Columns, String> {
        let mut columns = Columns::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not NAME=COLUMN[+COLUMN…]"))?;
            let slot = match name.trim() {
                "item" => &mut columns.item,
                "group" => &mut columns.group,
                "system" => &mut columns.system,
                "category" => &mut columns.category,
                "human" => &mut columns.human,
                "judge" => &mut columns.judge,
                "weight" => &mut columns.weight,
                other => {
                    return Err(format!(
                        "`{other}` is none of item, group, system, category, human, judge, weight"
                    ));
                }
            };
            if !slot.is_empty() {
                return Err(format!("`{}` stands twice", name.trim()));
            }
            *slot = value.split('+').map(|column| column.trim().to_owned()).collect();
        }
        for (name, slot) in
            [("item", &columns.item), ("human", &columns.human), ("judge", &columns.judge)]
        {
            if slot.is_empty() {
                return Err(format!("no column for `{name}`; give {name}=COLUMN"));
            }
        }
        Ok(columns)
    }

    fn places(&self, file: &str, header: &csv::StringRecord) -> Result<Places, PairError> {
        let place = |columns: &[String]| {
            columns
                .iter()
                .map(|column| {
                    header.iter().position(|name| name.trim() == column).ok_or_else(|| {
                        let known: Vec<&str> = header.iter().collect();
                        let known = known.join(", ");
                        let message = format!("no column `{column}`; there are {known}");
                        PairError::Table { file: file.to_owned(), row: Some(1), message }
                    })
                })
                .collect::<Result<Vec<usize>, PairError>>()
        };
        Ok(Places {
            item: place(&self.item)?,
            group: place(&self.group)?,
            system: place(&self.system)?,
            category: place(&self.category)?,
            human: place(&self.human)?,
            judge: place(&self.judge)?,
            weight: place(&self.weight)?,
        })
    }
}

/// Reads a table and adds its rows.
///
/// # Errors
///
/// [`PairError::Table`] with the line: not CSV, a column missing, a cell that is no verdict, an
/// item that occurs twice, no rows.
pub fn read_table(
    file: &str,
    bytes: &[u8],
    columns: &Columns,
    paired: &mut Paired,
) -> Result<(), PairError> {
    let failed = |row: Option<u64>, message: String| PairError::Table {
        file: file.to_owned(),
        row,
        message,
    };
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(|error| failed(Some(1), error.to_string()))?.clone();
    let places = columns.places(file, &header)?;
    let first = paired.leaves.len();
    let mut submissions: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut seen: HashMap<String, u64> = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map(csv::Position::line);
            failed(line, error.to_string())
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |at: &usize| record.get(*at).unwrap_or_default().trim();
        let joined = |at: &[usize]| at.iter().map(cell).collect::<Vec<_>>().join("/");
        let grades = |at: &[usize]| {
            at.iter()
                .map(|at| {
                    let score = verdict(cell(at)).ok_or_else(|| {
                        let column = header.get(*at).unwrap_or_default();
                        let message = format!(
                            "`{}` in `{column}` is no verdict: 0, 1, a number between, true, \
                             false, pass, fail, or nothing",
                            cell(at)
                        );
                        failed(Some(line), message)
                    })?;
                    Ok(LeafGrade { score, ..LeafGrade::default() })
                })
                .collect::<Result<Vec<LeafGrade>, PairError>>()
        };
        let id = joined(&places.item);
        if let Some(before) = seen.insert(id.clone(), line) {
            return Err(failed(
                Some(line),
                format!("the item `{id}` stood on line {before} already; add columns to item="),
            ));
        }
        let weight = match places.weight.first() {
            None => 1.0,
            Some(at) => {
                cell(at).parse().ok().filter(|w: &f64| w.is_finite() && *w >= 0.0).ok_or_else(
                    || failed(Some(line), format!("`{}` is no weight: a number from 0", cell(at))),
                )?
            }
        };
        let (group, system) = (joined(&places.group), joined(&places.system));
        let (humans, judge) = (grades(&places.human)?, grades(&places.judge)?);
        let next = paired.submissions.len();
        let key = (group.clone(), system.clone());
        let submission = *submissions.entry(key).or_insert(next);
        if submission == next {
            let paper = if group.is_empty() { file.to_owned() } else { group };
            let name = if system.is_empty() { paper.clone() } else { format!("{paper}/{system}") };
            let system = Some(system).filter(|system| !system.is_empty());
            paired.submissions.push(Submission { name, paper, system, first_level: Vec::new() });
        }
        paired.leaves.push(Leaf {
            submission,
            index: (paired.leaves.len() - first) as u32,
            id,
            requirements: String::new(),
            category: joined(&places.category),
            weight,
            first_level: None,
            humans,
            judges: vec![judge],
            pi: None,
        });
    }
    if paired.leaves.len() == first {
        return Err(failed(None, "no rows".to_owned()));
    }
    let mut totals: HashMap<usize, f64> = HashMap::new();
    for leaf in &paired.leaves[first..] {
        *totals.entry(leaf.submission).or_default() += leaf.weight;
    }
    for leaf in &mut paired.leaves[first..] {
        let total = totals[&leaf.submission];
        leaf.weight = if total > 0.0 { leaf.weight / total } else { 0.0 };
    }
    Ok(())
}

/// A cell's verdict: `Some(None)` for an empty one, `None` for what is no verdict.
pub fn verdict(cell: &str) -> Option<Option<f64>> {
    match cell.to_ascii_lowercase().as_str() {
        "" | "na" | "n/a" | "null" | "none" => Some(None),
        "true" | "yes" | "pass" | "passed" => Some(Some(1.0)),
        "false" | "no" | "fail" | "failed" => Some(Some(0.0)),
        text => text.parse().ok().filter(|score| (0.0..=1.0).contains(score)).map(Some),
    }
}
