//! The folders that PaperBench leaves behind: `<group>/<run>/submissions/<time>/…`.
//!
//! Owns reading paper, agent, seed and hours from their names. A run is named
//! `<paper>_<uuid>`, a group ends in `_<agent>`, a time is `2025-02-10T01-27-39-UTC`, with
//! `_step_N` behind it or not (openai/frontier-evals, `paperbench/utils.py`, `metrics.py`,
//! `nano/utils.py`).

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use jiff::civil::DateTime;
use tribunal_collector::results::Labels;

use super::pattern::Pattern;

/// The form of a snapshot's time, without its zone.
const TIME: &str = "%Y-%m-%dT%H-%M-%S";

/// A run's folder, and what its place says.
#[derive(Clone, Debug)]
struct RunFolder {
    path: PathBuf,
    labels: Labels,
}

/// A snapshot of a run.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The folder of its time; the run's own folder where it has no times.
    pub(crate) path: PathBuf,
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// What it is of; `elapsed_hours` only where hours were asked for.
    pub(crate) labels: Labels,
}

/// The snapshots below `root`, a folder of groups or of runs: for each of `hours` the one that is
/// nearest to it, counted from the run's first, or the last one alone. Empty where no run is.
///
/// # Errors
///
/// A folder cannot be read.
pub(crate) fn snapshots(root: &Path, hours: &[f64]) -> io::Result<Vec<Snapshot>> {
    let mut snapshots = Vec::new();
    for run in runs(root)? {
        let times = times(&run.path)?;
        let Some((_, last)) = times.last() else {
            let RunFolder { path, labels } = run;
            snapshots.push(Snapshot { run: path.clone(), path, labels });
            continue;
        };
        let snapshot = |path: &PathBuf, elapsed_hours: Option<f64>| Snapshot {
            path: path.clone(),
            run: run.path.clone(),
            labels: Labels { elapsed_hours, ..run.labels.clone() },
        };
        if hours.is_empty() {
            snapshots.push(snapshot(last, None));
        }
        for wanted in hours {
            let distance = |elapsed: f64| (elapsed - wanted).abs();
            let nearest = times.iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)));
            snapshots.extend(nearest.map(|(_, path)| snapshot(path, Some(*wanted))));
        }
    }
    Ok(snapshots)
}

/// The runs below `root`, seeds numbered by agent and paper in the order of their paths.
fn runs(root: &Path) -> io::Result<Vec<RunFolder>> {
    let mut runs = Vec::new();
    for pattern in ["*/*", "*"] {
        let found = Pattern::parse(pattern).map_err(io::Error::other)?.find(root)?;
        let is_run =
            |path: &Path| path.join("submissions").is_dir() || path.join("grade.json").is_file();
        runs.extend(found.into_iter().map(|found| found.path).filter(|path| is_run(path)));
        if !runs.is_empty() {
            break;
        }
    }
    let mut seeds: BTreeMap<(String, String), u32> = BTreeMap::new();
    let folder = |path: PathBuf| {
        let name = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).map(|name| name.to_string_lossy());
            name.unwrap_or_default().into_owned()
        };
        let absolute = path.canonicalize().unwrap_or_else(|_| path.clone());
        let (run, group) = (name(Some(&absolute)), name(absolute.parent()));
        let paper = run.rsplit_once('_').map_or(run.as_str(), |(paper, _)| paper).to_owned();
        let agent = group.rsplit_once('_').map_or(group.as_str(), |(_, agent)| agent).to_owned();
        let seed = seeds.entry((agent.clone(), paper.clone())).or_default();
        *seed += 1;
        let labels = Labels { paper, agent, seed: seed.to_string(), ..Labels::default() };
        RunFolder { path, labels }
    };
    Ok(runs.into_iter().map(folder).collect())
}

/// The folders of a run's snapshots with their hours since the first, in order of time.
fn times(run: &Path) -> io::Result<Vec<(f64, PathBuf)>> {
    let found = Pattern::parse("submissions/{time}").map_err(io::Error::other)?.find(run)?;
    let mut times: Vec<(DateTime, PathBuf)> = found
        .into_iter()
        .filter(|found| found.path.is_dir())
        .filter_map(|found| Some((time(found.captures.get("time")?)?, found.path)))
        .collect();
    times.sort();
    let Some(first) = times.first().map(|(time, _)| *time) else { return Ok(Vec::new()) };
    let hours = |time: DateTime| time.duration_since(first).as_secs_f64() / 3600.0;
    Ok(times.into_iter().map(|(time, path)| (hours(time), path)).collect())
}

fn time(name: &str) -> Option<DateTime> {
    let name = name.split("_step_").next()?;
    // The zone is UTC or GMT, which are the same; only differences matter.
    let (stamp, _zone) = name.rsplit_once('-')?;
    DateTime::strptime(TIME, stamp).ok()
}

/// The first of these files that stands in the folder; a name may hold `*`.
///
/// # Errors
///
/// The folder cannot be read.
pub(crate) fn first_of(dir: &Path, names: &[&str]) -> io::Result<Option<PathBuf>> {
    for name in names {
        let found = Pattern::parse(name).map_err(io::Error::other)?.find(dir)?;
        if let Some(found) = found.into_iter().find(|found| found.path.is_file()) {
            return Ok(Some(found.path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn labels_come_from_the_names_of_folders() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path();
        let group = "2025-02-10T00-00-00-UTC_run-group_basic-agent";
        for (run, times) in [
            ("fre_0d6a", vec!["2025-02-10T01-00-00-GMT", "2025-02-10T02-00-20-GMT_step_9"]),
            ("fre_1d6a", vec!["2025-02-10T03-00-00-UTC", "2025-02-10T06-10-00-UTC"]),
        ] {
            for time in times {
                let dir = root.join(group).join(run).join("submissions").join(time);
                fs::create_dir_all(dir).expect("made");
            }
        }
        let shown = |snapshots: Vec<Snapshot>| -> Vec<String> {
            let show = |s: &Snapshot| {
                format!("{} <- {}", s.labels, s.path.file_name().unwrap().to_string_lossy())
            };
            snapshots.iter().map(show).collect()
        };
        let last = shown(snapshots(root, &[]).expect("readable"));
        assert_eq!(
            last,
            [
                "basic-agent on fre, seed 1 <- 2025-02-10T02-00-20-GMT_step_9",
                "basic-agent on fre, seed 2 <- 2025-02-10T06-10-00-UTC"
            ]
        );
        let at = shown(snapshots(&root.join(group), &[1.0, 3.0]).expect("readable"));
        assert_eq!(
            at,
            [
                "basic-agent on fre, seed 1, 1 h <- 2025-02-10T02-00-20-GMT_step_9",
                "basic-agent on fre, seed 1, 3 h <- 2025-02-10T02-00-20-GMT_step_9",
                "basic-agent on fre, seed 2, 1 h <- 2025-02-10T03-00-00-UTC",
                "basic-agent on fre, seed 2, 3 h <- 2025-02-10T06-10-00-UTC"
            ]
        );
        assert!(snapshots(&root.join("none"), &[]).expect("readable").is_empty());
    }
}
