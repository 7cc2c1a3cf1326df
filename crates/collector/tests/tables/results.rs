//! Tables of results: seeds, papers, snapshots, and everything that is named below.

use std::collections::BTreeSet;

use tribunal_collector::{
    TextStyle,
    results::{
        By, Entry, NoteKind, ResultsError, ResultsOptions, ResultsTable, Standing, plot, render,
    },
};
use tribunal_core::{Category, Score};

use crate::support::{at, close, data, entry, split, table};

fn notes(table: &ResultsTable, kind: NoteKind) -> Vec<&str> {
    let of_kind = table.notes.iter().filter(|note| note.kind == kind);
    of_kind.map(|note| note.message.as_str()).collect()
}

fn by(by: By) -> ResultsOptions {
    ResultsOptions { by, ..ResultsOptions::default() }
}

#[test]
fn a_leaderboard_row_is_the_mean_over_seeds_of_the_mean_over_papers() {
    // Twenty papers, three seeds. Papers lie 0.05 above and below their seed's mean in turn, so
    // that the seeds' means are 0.230, 0.250, 0.252. By hand: mean 0.244, deviations -0.014,
    // 0.006, 0.008, squares 296e-6, s^2 = 148e-6, s/sqrt(3) = 0.0070238: "24.4 ± 0.7", as the
    // leaderboard has o1-high with the IterativeAgent. Pooling all 60 trees would give 0.0067.
    let means = [0.230, 0.250, 0.252];
    let mut entries = Vec::new();
    for (seed, mean) in means.into_iter().enumerate() {
        for paper in 0..20 {
            let score = if paper % 2 == 0 { mean + 0.05 } else { mean - 0.05 };
            entries.push(entry("o1-high", &format!("p{paper:02}"), &seed.to_string(), score, None));
        }
    }
    let table = table(entries, &by(By::Agent));
    let row = &table.rows[0];
    close(row.score.mean, 0.244);
    close(row.score.se, (148e-6_f64 / 3.0).sqrt());
    assert_eq!((row.score.seeds, row.score.papers, row.seeds), (3, 20, 3));
    assert!(
        render::text(&table, TextStyle { unicode: true, ..TextStyle::PLAIN })
            .contains("24.4 ± 0.7")
    );
    assert!(render::latex(&table).contains(r"24.4 $\pm$ 0.7"));
    assert!(render::csv(&table).expect("csv").contains("o1-high,,,,,3,3,20,0.244"));
}

#[test]
fn incomplete_seeds_are_left_out_and_named() {
    let entries = vec![
        entry("a", "x", "1", 0.4, Some(0.6)),
        entry("a", "y", "1", 0.2, None),
        entry("a", "x", "2", 0.9, Some(0.9)),
        entry("b", "x", "1", 0.1, Some(0.1)),
    ];
    let table = table(entries.clone(), &by(By::Agent));
    let [a, b] = &table.rows[..] else { panic!("{table:?}") };
    close(a.score.mean, 0.3);
    assert_eq!((a.score.se, a.score.seeds, a.seeds), (None, 1, 2));
    // Paper y asks for no code: its column is paper x alone.
    let code = a.by_category[&Category::CodeDevelopment].expect("of x");
    close(code.mean, 0.6);
    assert_eq!(code.papers, 1);
    assert_eq!((b.score.mean, b.score.lower, b.score.seeds, b.seeds), (None, None, 0, 1));
    let incomplete = ["a, seed 2: lacks y", "b, seed 1: lacks y"];
    assert_eq!(notes(&table, NoteKind::IncompleteSeed), incomplete);
    let lacking = "y: no Code Development leaf, left out of that column";
    assert_eq!(notes(&table, NoteKind::NoCategory), [lacking]);

    // A split makes them complete: two seeds of paper x.
    let options = ResultsOptions { split: split(&["x"]), ..by(By::Agent) };
    let table = self::table(entries.clone(), &options);
    close(table.rows[0].score.mean, 0.65);
    close(table.rows[0].score.se, 0.25);
    assert_eq!(notes(&table, NoteKind::Excluded), ["of papers outside the split: y (1 tree)"]);
    // A paper of the split that nobody has makes every seed incomplete.
    let options = ResultsOptions { split: split(&["x", "z"]), ..by(By::Agent) };
    let table = self::table(entries.clone(), &options);
    assert!(table.rows.iter().all(|row| row.score.mean.is_none()));
    let options = ResultsOptions { split: split(&["z"]), ..by(By::Agent) };
    let none = ResultsTable::new(entries, &options, Vec::new());
    assert!(matches!(none, Err(ResultsError::Empty(_))));
}

#[test]
fn missing_leaves_give_bounds_and_disqualified_trees_nothing() {
    let whole = entry("a", "x", "1", 0.5, Some(0.5));
    let partly =
        Score { score: None, lower: 0.2, upper: 0.6, coverage: 0.6, leaves: 10, ungraded: 4 };
    let incomplete = Entry { root: partly, ..entry("a", "x", "2", 0.0, Some(0.5)) };
    let table = table(vec![whole.clone(), incomplete], &by(By::Agent));
    let score = table.rows[0].score;
    assert_eq!((score.mean, score.se), (None, None));
    close(score.lower, 0.35);
    close(score.upper, 0.55);
    assert_eq!(notes(&table, NoteKind::IncompleteTree).len(), 1);
    assert!(!table.is_complete());
    assert!(render::text(&table, TextStyle::PLAIN).contains("[35.0, 55.0]"));

    let out = entry("a", "x", "2", 0.9, Some(0.9)).counted_zero(Standing::Disqualified);
    let table = self::table(vec![whole, out], &by(By::Agent));
    close(table.rows[0].score.mean, 0.25);
    close(table.rows[0].by_category[&Category::CodeDevelopment].expect("of x").mean, 0.25);
    assert_eq!(notes(&table, NoteKind::Disqualified).len(), 1);
    assert_eq!(table.lowest(), table.rows[0].score.lower);
}

#[test]
fn rows_by_paper_category_scaffold_and_code_only() {
    let scaffold = |entry: Entry, name: &str| {
        let mut entry = entry;
        entry.labels.scaffold = Some(name.to_owned());
        entry
    };
    let entries = vec![
        scaffold(entry("a", "x", "1", 0.4, Some(0.8)), "basic"),
        scaffold(entry("a", "x", "2", 0.6, Some(1.0)), "basic"),
        scaffold(entry("b", "x", "1", 0.0, Some(0.2)), "basic"),
        scaffold(entry("b", "x", "2", 0.2, Some(0.4)), "basic"),
        scaffold(entry("b", "x", "1", 0.8, Some(0.8)), "iterative"),
    ];
    let table = table(entries.clone(), &by(By::Scaffold));
    let scaffolds: Vec<_> = table.rows.iter().map(|row| row.scaffold.as_deref()).collect();
    assert_eq!(scaffolds, [Some("iterative"), Some("basic")], "the best first");
    // Seed 1: (0.4 + 0.0) / 2, seed 2: (0.6 + 0.2) / 2.
    close(table.rows[1].score.mean, 0.3);
    close(table.rows[1].score.se, 0.1);

    let table = self::table(entries.clone(), &by(By::Paper));
    assert_eq!(table.rows.len(), 3);
    close(table.rows[0].score.mean, 0.5);
    assert_eq!(table.rows[0].paper.as_deref(), Some("x"));

    let table = self::table(entries.clone(), &by(By::Category));
    assert!(table.rows.iter().all(|row| row.category == Some(Category::CodeDevelopment)));
    close(table.rows[0].score.mean, 0.9);

    let options = ResultsOptions { code_only: true, ..by(By::Agent) };
    let table = self::table(entries, &options);
    close(table.rows[0].score.mean, 0.9);
}

#[test]
fn a_curve_takes_the_last_snapshot_until_each_time() {
    let entries = vec![
        at(entry("a", "x", "1", 0.1, None), 1.0),
        at(entry("a", "x", "1", 0.3, None), 6.0),
        at(entry("a", "x", "2", 0.2, None), 1.0),
        at(entry("a", "x", "2", 0.2, None), 3.0),
        entry("human", "x", "1", 0.7, None),
    ];
    let table = table(entries.clone(), &by(By::Elapsed));
    let shown: Vec<_> = table.rows.iter().map(|row| (row.elapsed_hours, row.score.mean)).collect();
    let expected = [(Some(1.0), 0.15), (Some(3.0), 0.15), (Some(6.0), 0.25), (None, 0.7)];
    assert_eq!(shown.len(), expected.len());
    for ((hours, mean), (at, score)) in shown.into_iter().zip(expected) {
        assert_eq!(hours, at);
        close(mean, score);
    }
    let carried = notes(&table, NoteKind::CarriedForward);
    let expected =
        ["a on x, seed 1, 1 h: stands for 3 h too", "a on x, seed 2, 3 h: stands for 6 h too"];
    assert_eq!(carried, expected);
    let plateau = table.rows[2].plateau.as_ref().expect("the last row of the curve");
    // Seed 1 rises by 0.2 and seed 2 by 0: mean 0.1, standard error 0.1, within noise.
    assert_eq!(plateau.hours, Some(1.0));
    assert!(table.rows[0].plateau.is_none() && table.rows[3].plateau.is_none());

    // By agent, the last snapshot counts.
    let table = self::table(entries, &by(By::Agent));
    close(table.rows[1].score.mean, 0.25);
    let none = ResultsTable::new(vec![entry("a", "x", "1", 0.1, None)], &by(By::Elapsed), vec![]);
    assert_eq!(none, Err(ResultsError::NoTimes));
}

#[test]
fn seeds_are_numbered_duplicates_refused_and_the_best_chosen() {
    let unlabelled = vec![entry("a", "x", "", 0.2, None), {
        let second = entry("a", "x", "", 0.4, None);
        Entry { source: "other.json".to_owned(), ..second }
    }];
    let table = table(unlabelled.clone(), &by(By::Agent));
    close(table.rows[0].score.mean, 0.3);
    assert_eq!(table.rows[0].seeds, 2);

    let twice = vec![entry("a", "x", "7", 0.2, None), entry("a", "x", "7", 0.3, None)];
    let refused = ResultsTable::new(twice, &by(By::Agent), Vec::new()).expect_err("alike");
    assert!(refused.to_string().contains("a on x, seed 7"), "{refused}");

    let best_of = BTreeSet::from(["a".to_owned()]);
    let table = self::table(unlabelled, &ResultsOptions { best_of, ..by(By::Agent) });
    close(table.rows[0].score.mean, 0.4);
    assert_eq!((table.rows[0].score.se, table.rows[0].seeds), (None, 1));
    assert_eq!(
        notes(&table, NoteKind::BestOf),
        ["a: the best of up to 2 seeds of each paper counts"]
    );
}

#[test]
fn hostile_names_are_text_everywhere() {
    let name = "<script>|$x_1$\u{1b}[31m\\end{tabular}";
    let entries = vec![
        at(entry(name, "x & y", "1", 0.5, Some(0.5)), 1.0),
        at(entry(name, "x & y", "1", 0.6, Some(0.6)), 3.0),
    ];
    for kind in By::ALL {
        let table = table(entries.clone(), &by(kind));
        let texts = [
            render::text(&table, TextStyle::PLAIN),
            render::markdown(&table),
            render::latex(&table),
            plot::svg(&table, None).expect("drawn"),
        ];
        for text in &texts {
            assert!(!text.contains('\u{1b}'), "{text}");
        }
        let [_, markdown, latex, svg] = &texts;
        assert!(!markdown.contains("<script>") && !svg.contains("<script>"), "{kind:?}");
        assert_eq!(latex.matches("\\end{tabular}").count(), 1, "{latex}");
        assert!(render::csv(&table).is_ok());
    }
}

#[test]
fn plots_show_every_agent_errors_and_the_human_line() {
    let mut entries = Vec::new();
    for (hours, scores) in [(1.0, [0.1, 0.2]), (3.0, [0.2, 0.3])] {
        for (seed, score) in scores.into_iter().enumerate() {
            entries.push(at(entry("agent-a", "x", &seed.to_string(), score, Some(score)), hours));
        }
    }
    entries.push(entry("human", "x", "1", 0.5, Some(0.6)));
    let curves = plot::svg(&table(entries.clone(), &by(By::Elapsed)), Some("human"));
    let curves = curves.expect("drawn");
    let bars = plot::svg(&table(entries, &by(By::Agent)), Some("human")).expect("drawn");
    for svg in [&curves, &bars] {
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("agent-a") && svg.contains("human"), "{svg}");
    }
    assert!(bars.contains("Code Development"));
    assert!(curves.contains("hours of work"));
}

#[test]
fn every_published_split_is_a_set_of_papers() {
    let Some(data) = data() else { return };
    let all = std::fs::read_to_string(data.join("paperbench/published/splits/all.txt"));
    let all = all.expect("readable");
    let papers: Vec<&str> = all.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let entries = papers.iter().map(|paper| entry("a", paper, "1", 0.5, None)).collect();
    let table = table(entries, &ResultsOptions { split: split(&papers), ..by(By::Agent) });
    assert_eq!((table.papers.len(), table.rows[0].score.papers), (20, 20));
}
