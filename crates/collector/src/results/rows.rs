//! Which trees make which row.
//!
//! Owns grouping, completeness of seeds, the choice among snapshots, and the notes about all that
//! is left out. The arithmetic is `aggregate`'s.

use std::collections::{BTreeMap, BTreeSet};

use tribunal_core::{Category, Score};

use super::{
    By, Entry, Estimate, Labels, Note, NoteKind, Plateau, ResultsError, ResultsOptions, ResultsRow,
    ResultsTable, SeedMean, Standing,
    aggregate::{estimate, seed_mean},
    system_name,
};

/// Labels listed in one error, at most.
const MAX_LISTED: usize = 20;

/// An agent with its scaffold.
type System = (String, Option<String>);

/// What each seed of a row must have: an agent's tree of a paper.
type Cell = (System, String);

/// For each seed, the tree that counts in each cell.
type Seeds<'e> = BTreeMap<String, BTreeMap<Cell, &'e Entry>>;

struct Builder<'e> {
    entries: &'e [Entry],
    papers: BTreeSet<String>,
    notes: BTreeSet<Note>,
}

/// Makes the table.
pub(super) fn table(
    entries: Vec<Entry>,
    options: &ResultsOptions,
    notes: Vec<Note>,
) -> Result<ResultsTable, ResultsError> {
    let mut notes: BTreeSet<Note> = notes.into_iter().collect();
    let entries = in_split(entries, options, &mut notes);
    let entries = if options.code_only { code_only(entries, &mut notes) } else { entries };
    let entries = number_seeds(entries);
    if entries.is_empty() {
        let why = if options.split.is_some() { ": none is of a paper of the split" } else { "" };
        return Err(ResultsError::Empty(why.to_owned()));
    }
    refuse_duplicates(&entries)?;
    let entries = best_of(entries, &options.best_of, &mut notes);
    if options.by == By::Elapsed && entries.iter().all(|e| e.labels.elapsed_hours.is_none()) {
        return Err(ResultsError::NoTimes);
    }
    let of_entries = || entries.iter().map(|entry| entry.labels.paper.clone()).collect();
    let papers = options.split.clone().unwrap_or_else(of_entries);
    let mut builder = Builder { entries: &entries, papers, notes };
    builder.note_entries();
    let mut rows = match options.by {
        By::Agent | By::Category => builder.by_agent(),
        By::Scaffold => builder.by_scaffold(),
        By::Paper => builder.by_paper(),
        By::Elapsed => builder.by_elapsed(),
    };
    if matches!(options.by, By::Agent | By::Scaffold) {
        let key = |row: &ResultsRow| row.score.mean.or(row.score.lower).unwrap_or(-1.0);
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
    }
    if options.by == By::Category {
        rows = rows.iter().flat_map(per_category).collect();
    }
    let Builder { papers, notes, .. } = builder;
    let simulated = entries.iter().any(|entry| entry.simulated);
    let (papers, notes) = (papers.into_iter().collect(), notes.into_iter().collect());
    Ok(ResultsTable { by: options.by, papers, simulated, rows, notes })
}

/// The entries of the split's papers.
fn in_split(
    entries: Vec<Entry>,
    options: &ResultsOptions,
    notes: &mut BTreeSet<Note>,
) -> Vec<Entry> {
    let Some(split) = &options.split else { return entries };
    let (kept, left): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| split.contains(&entry.labels.paper));
    let papers: BTreeSet<&str> = left.iter().map(|entry| entry.labels.paper.as_str()).collect();
    if !papers.is_empty() {
        let papers: Vec<&str> = papers.into_iter().collect();
        let trees =
            if left.len() == 1 { "1 tree".to_owned() } else { format!("{} trees", left.len()) };
        let message = format!("of papers outside the split: {} ({trees})", papers.join(", "));
        notes.insert(Note::new(NoteKind::Excluded, message));
    }
    kept
}

/// The entries with only their Code Development leaves.
fn code_only(entries: Vec<Entry>, notes: &mut BTreeSet<Note>) -> Vec<Entry> {
    let only = |entry: Entry| {
        let (labels, source) = (entry.labels.clone(), entry.source.clone());
        let code = entry.code_only();
        if code.is_none() {
            let message = format!("{labels}: no Code Development leaf ({source})");
            notes.insert(Note::new(NoteKind::Excluded, message));
        }
        code
    };
    entries.into_iter().filter_map(only).collect()
}

/// Gives trees without a seed the numbers 1, 2, … among those labelled alike.
fn number_seeds(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| a.source.cmp(&b.source));
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for entry in entries.iter_mut().filter(|entry| entry.labels.seed.is_empty()) {
        let count = counts.entry(entry.labels.to_string()).or_default();
        *count += 1;
        entry.labels.seed = count.to_string();
    }
    entries
}

fn refuse_duplicates(entries: &[Entry]) -> Result<(), ResultsError> {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for entry in entries {
        alike.entry(entry.labels.to_string()).or_default().push(&entry.source);
    }
    let lines: Vec<String> = alike
        .iter()
        .filter(|(_, sources)| sources.len() > 1)
        .map(|(labels, sources)| format!("  {labels}: {}", sources.join(", ")))
        .take(MAX_LISTED)
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(ResultsError::Duplicates(lines.join("\n"))) }
}

/// Leaves the best seed of each paper and time of these agents, as one seed.
fn best_of(
    entries: Vec<Entry>,
    agents: &BTreeSet<String>,
    notes: &mut BTreeSet<Note>,
) -> Vec<Entry> {
    let (chosen, mut rest): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| agents.contains(&entry.labels.agent));
    let mut best: BTreeMap<String, (Entry, usize)> = BTreeMap::new();
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for entry in chosen {
        let agent = entry.labels.agent.clone();
        let labels = Labels { seed: "best".to_owned(), ..entry.labels.clone() };
        let entry = Entry { labels, ..entry };
        let of_cell = best.entry(entry.labels.to_string()).or_insert_with(|| (entry.clone(), 0));
        of_cell.1 += 1;
        if entry.root.lower > of_cell.0.root.lower {
            of_cell.0 = entry;
        }
        let most = most.entry(agent).or_default();
        *most = (*most).max(of_cell.1);
    }
    for agent in agents {
        let message = match most.get(agent) {
            Some(most) => format!("{agent}: the best of up to {most} seeds of each paper counts"),
            None => format!("{agent}: no tree of this agent"),
        };
        notes.insert(Note::new(NoteKind::BestOf, message));
    }
    rest.extend(best.into_values().map(|(entry, _)| entry));
    rest
}

/// A row for each requirement type of a row by agent.
fn per_category(row: &ResultsRow) -> Vec<ResultsRow> {
    let of_category = |(category, estimate): (&Category, &Option<Estimate>)| {
        let score = (*estimate)?;
        let category = Some(*category);
        let none = BTreeMap::new();
        Some(ResultsRow { category, score, by_category: none, ..row.clone() })
    };
    let rows = row.by_category.iter().filter_map(of_category);
    // The means of seeds are those of the whole score.
    rows.map(|row| ResultsRow { per_seed: BTreeMap::new(), ..row }).collect()
}

// === impl Builder ===

impl<'e> Builder<'e> {
    fn note(&mut self, kind: NoteKind, message: String) {
        self.notes.insert(Note::new(kind, message));
    }

    /// Notes about single trees, whatever the rows are.
    fn note_entries(&mut self) {
        let mut leaves: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for entry in self.entries {
            let (labels, source) = (&entry.labels, &entry.source);
            match entry.standing {
                Standing::Graded if entry.root.ungraded > 0 => {
                    let (missing, all) = (entry.root.ungraded, entry.root.leaves);
                    let message =
                        format!("{labels}: {missing} of {all} leaves not graded ({source})");
                    self.note(NoteKind::IncompleteTree, message);
                }
                Standing::Graded => {}
                Standing::Disqualified => {
                    self.note(NoteKind::Disqualified, format!("{labels}: counts as 0 ({source})"));
                }
                Standing::Missing => {
                    let message = format!("{labels}: no submission, counts as 0 ({source})");
                    self.note(NoteKind::MissingCountsZero, message);
                }
            }
            leaves.entry(&labels.paper).or_default().insert(entry.root.leaves);
        }
        for (paper, counts) in leaves.into_iter().filter(|(_, counts)| counts.len() > 1) {
            let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
            let message = format!("{paper}: trees of {} leaves are compared", counts.join(" and "));
            self.note(NoteKind::UnlikeTrees, message);
        }
    }

    fn systems(&self) -> BTreeSet<System> {
        self.entries.iter().map(Entry::system).collect()
    }

    /// The tree of each seed and paper of this system: the last snapshot until `hours`, or the
    /// very last one.
    fn seeds_of(&mut self, system: &System, hours: Option<f64>) -> Seeds<'e> {
        let entries = self.entries;
        let time = |entry: &Entry| entry.labels.elapsed_hours.unwrap_or(f64::INFINITY);
        let of_system = || entries.iter().filter(|entry| entry.system() == *system);
        let until = hours.unwrap_or(f64::INFINITY);
        let mut seeds: Seeds<'e> = BTreeMap::new();
        for entry in of_system().filter(|entry| time(entry) <= until) {
            let cells = seeds.entry(entry.labels.seed.clone()).or_default();
            let cell = (system.clone(), entry.labels.paper.clone());
            let counts = cells.entry(cell).or_insert(entry);
            if time(entry) > time(counts) {
                *counts = entry;
            }
        }
        // A seed that has nothing yet at this time is a seed all the same.
        for entry in of_system() {
            seeds.entry(entry.labels.seed.clone()).or_default();
        }
        let last = of_system().map(time).max_by(f64::total_cmp).unwrap_or(until).min(until);
        let earlier: Vec<String> = seeds
            .values()
            .flat_map(|cells| cells.values())
            .filter(|entry| time(entry) < last && last.is_finite())
            .map(|entry| format!("{}: stands for {last} h too", entry.labels))
            .collect();
        for message in earlier {
            self.note(NoteKind::CarriedForward, message);
        }
        seeds
    }

    /// The row of these seeds, each of which must have every one of these cells.
    fn row(&mut self, what: &str, seeds: &Seeds<'e>, cells: &BTreeSet<Cell>) -> ResultsRow {
        let mut complete: Seeds<'e> = BTreeMap::new();
        for (seed, has) in seeds {
            let lacks: Vec<String> = cells
                .iter()
                .filter(|cell| !has.contains_key(*cell))
                .map(|((agent, scaffold), paper)| {
                    let system = system_name(agent, scaffold.as_deref());
                    if what.starts_with(&system) {
                        paper.clone()
                    } else {
                        format!("{paper} of {system}")
                    }
                })
                .collect();
            if lacks.is_empty() {
                complete.insert(seed.clone(), has.clone());
            } else {
                let message = format!("{what}, seed {seed}: lacks {}", lacks.join(", "));
                self.note(NoteKind::IncompleteSeed, message);
            }
        }
        let over = |cells: &BTreeSet<&Cell>, score: &dyn Fn(&Entry) -> Option<Score>| {
            let of_seed = |(seed, has): (&String, &BTreeMap<Cell, &Entry>)| {
                let scores = cells.iter().filter_map(|cell| score(has.get(*cell)?));
                Some((seed.clone(), seed_mean(&scores.collect::<Vec<_>>())?))
            };
            complete.iter().filter_map(of_seed).collect::<BTreeMap<String, SeedMean>>()
        };
        let all: BTreeSet<&Cell> = cells.iter().collect();
        let per_seed = over(&all, &|entry| Some(entry.root));
        let mut by_category = BTreeMap::new();
        let mut lacking = BTreeSet::new();
        let entries = || complete.values().flat_map(|has| has.values());
        let categories: BTreeSet<Category> =
            entries().flat_map(|entry| entry.by_category.keys().copied()).collect();
        for category in categories {
            let score = |entry: &Entry| entry.by_category.get(&category).copied().flatten();
            let (with, without): (BTreeSet<&Cell>, BTreeSet<&Cell>) =
                all.iter().copied().partition(|cell| {
                    complete.values().all(|has| has.get(*cell).and_then(|e| score(e)).is_some())
                });
            let means = over(&with, &score);
            let estimate = Some(estimate(&means, with.len())).filter(|_| !with.is_empty());
            if estimate.is_some() {
                lacking.extend(without.iter().map(|(_, paper)| (paper.clone(), category)));
            }
            by_category.insert(category, estimate);
        }
        for (paper, category) in lacking {
            let message = format!("{paper}: no {category} leaf, left out of that column");
            self.note(NoteKind::NoCategory, message);
        }
        ResultsRow {
            agent: None,
            scaffold: None,
            paper: None,
            category: None,
            elapsed_hours: None,
            score: estimate(&per_seed, cells.len()),
            by_category,
            corrected: None,
            trees: complete
                .values()
                .flat_map(|has| cells.iter().filter_map(|cell| Some(has.get(cell)?.source.clone())))
                .collect(),
            seeds: seeds.len(),
            per_seed,
            plateau: None,
        }
    }

    fn cells(&self, system: &System) -> BTreeSet<Cell> {
        self.papers.iter().map(|paper| (system.clone(), paper.clone())).collect()
    }

    fn by_agent(&mut self) -> Vec<ResultsRow> {
        let systems = self.systems();
        let of_system = |system: System| {
            let what = system_name(&system.0, system.1.as_deref());
            let (seeds, cells) = (self.seeds_of(&system, None), self.cells(&system));
            let row = self.row(&what, &seeds, &cells);
            ResultsRow { agent: Some(system.0), scaffold: system.1, ..row }
        };
        systems.into_iter().map(of_system).collect()
    }

    fn by_scaffold(&mut self) -> Vec<ResultsRow> {
        let mut scaffolds: BTreeMap<Option<String>, Vec<System>> = BTreeMap::new();
        for system in self.systems() {
            scaffolds.entry(system.1.clone()).or_default().push(system);
        }
        let mut rows = Vec::new();
        for (scaffold, systems) in scaffolds {
            let mut seeds: Seeds<'e> = BTreeMap::new();
            let mut cells = BTreeSet::new();
            for system in &systems {
                for (seed, has) in self.seeds_of(system, None) {
                    seeds.entry(seed).or_default().extend(has);
                }
                cells.extend(self.cells(system));
            }
            let what = scaffold.as_deref().unwrap_or("no scaffold").to_owned();
            let row = self.row(&what, &seeds, &cells);
            rows.push(ResultsRow { scaffold, ..row });
        }
        rows
    }

    fn by_paper(&mut self) -> Vec<ResultsRow> {
        let mut rows = Vec::new();
        for system in self.systems() {
            let all = self.seeds_of(&system, None);
            for paper in self.papers.clone() {
                let cell = (system.clone(), paper.clone());
                let has = |(seed, has): (&String, &BTreeMap<Cell, &'e Entry>)| {
                    let entry = *has.get(&cell)?;
                    Some((seed.clone(), BTreeMap::from([(cell.clone(), entry)])))
                };
                let seeds: Seeds<'e> = all.iter().filter_map(has).collect();
                let what = system_name(&system.0, system.1.as_deref());
                let row = self.row(&what, &seeds, &BTreeSet::from([cell.clone()]));
                let (agent, scaffold) = system.clone();
                rows.push(ResultsRow { agent: Some(agent), scaffold, paper: Some(paper), ..row });
            }
        }
        rows.sort_by(|a, b| {
            (&a.paper, &a.agent, &a.scaffold).cmp(&(&b.paper, &b.agent, &b.scaffold))
        });
        rows
    }

    fn by_elapsed(&mut self) -> Vec<ResultsRow> {
        let mut rows = Vec::new();
        for system in self.systems() {
            let what = system_name(&system.0, system.1.as_deref());
            let of_system = self.entries.iter().filter(|entry| entry.system() == system);
            let mut times: Vec<f64> =
                of_system.filter_map(|entry| entry.labels.elapsed_hours).collect();
            times.sort_by(f64::total_cmp);
            times.dedup();
            let times: Vec<Option<f64>> = match times.is_empty() {
                true => vec![None],
                false => times.into_iter().map(Some).collect(),
            };
            let cells = self.cells(&system);
            let mut curve = Vec::new();
            for hours in times {
                let seeds = self.seeds_of(&system, hours);
                let at = hours.map_or_else(|| what.clone(), |hours| format!("{what} at {hours} h"));
                let row = self.row(&at, &seeds, &cells);
                let means = row.per_seed.iter();
                let means = means.filter_map(|(seed, of)| Some((seed.clone(), of.mean?)));
                curve.extend(hours.map(|hours| (hours, means.collect())));
                let (agent, scaffold) = system.clone();
                rows.push(ResultsRow { agent: Some(agent), scaffold, elapsed_hours: hours, ..row });
            }
            if let Some(last) = rows.last_mut() {
                last.plateau = Plateau::of(&curve);
            }
        }
        rows
    }
}
