//! Tables and trees for people.

use tribunal_collector::{TextStyle, closing_table, score_table, scored_tree};
use tribunal_core::{Prices, RunState, run::GradeOptions};
use tribunal_store::Store;

use crate::support::{Answer, example, mixed_run, start};

#[tokio::test]
async fn a_scored_tree_line_by_line() {
    let collected = mixed_run(false).await.collect().await;
    let drawn = scored_tree(&collected, TextStyle::PLAIN, None);
    let expected = "\
score       share
0.19..0.62 100.0%  group root
0.75..1.00  25.0%  |- group left
1.0000      18.8%  |  |- + criterion a
0.00..1.00   6.2%  |  `- ? criterion b [refused]
0.00..0.50  75.0%  |- group right
0.0000      37.5%  |  |- x criterion c
0.00..1.00  37.5%  |  `- ? criterion d [bad_request]
0.00..1.00   0.0%  `- ? criterion e [pending]
";
    assert_eq!(drawn, expected);
    let shallow = scored_tree(&collected, TextStyle::PLAIN, Some(2));
    let expected = "\
score       share
0.19..0.62 100.0%  group root
0.75..1.00  25.0%  |- group left (2 below)
0.00..0.50  75.0%  |- group right (2 below)
0.00..1.00   0.0%  `- ? criterion e [pending]
";
    assert_eq!(shallow, expected);
    let unicode = TextStyle { unicode: true, ..TextStyle::PLAIN };
    let drawn = scored_tree(&collected, unicode, None);
    assert!(drawn.contains("│  ├─ ✓ criterion a"), "{drawn}");
}

#[tokio::test]
async fn long_criteria_are_cut_to_the_width() {
    let mut rubric = example();
    rubric["sub_tasks"][2]["requirements"] = "a criterion of many words\n".repeat(20).into();
    let run = start(&rubric, GradeOptions::default(), false).await;
    let collected = run.collect().await;
    for width in [60, 80] {
        let style = TextStyle { width, ..TextStyle::PLAIN };
        for line in scored_tree(&collected, style, None).lines() {
            assert!(line.chars().count() <= usize::from(width), "{line}");
        }
        for line in closing_table(&collected, style).lines().filter(|l| !l.starts_with("***")) {
            assert!(line.chars().count() <= usize::from(width), "{line}");
        }
    }
}

#[tokio::test]
async fn the_closing_table_of_a_mixed_run() {
    let run = mixed_run(true).await;
    let table = closing_table(&run.collect().await, TextStyle::PLAIN);
    let loud: Vec<&str> = table.lines().filter(|line| line.starts_with("***")).collect();
    assert_eq!(loud.len(), 2, "{table}");
    assert!(loud[0].contains("SIMULATED JUDGE"), "{table}");
    let gap = "INCOMPLETE: 3 of 5 leaves are not graded; the score lies between 0.1875 and 0.6250";
    assert!(loud[1].contains(gap), "{table}");
    for words in [
        "root",
        "0.1875",
        "56.2%",
        "Code Development",
        "0.2500",
        "1. group left",
        "3. criterion e",
        "2 graded, 1 by rule, 0 reused; 1 refused; 1 bad_request; 1 pending",
        "2 judge, 0 rank, 0 repair; 0 rejected, 1 failed",
        "3,000 in (60.0% cached), 150 out",
        "2.5 s",
        "test judge (simulated), model model-1",
        "incomplete",
    ] {
        assert!(table.contains(words), "{words}:\n{table}");
    }
    assert!(table.is_ascii(), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");

    assert!(!table.contains("cost"), "{table}");
    let mut collected = run.collect().await;
    collected.set_prices(Some(Prices {
        input: 5.0,
        cached_input: 1.0,
        output: 30.0,
        batch_factor: 1.0,
    }));
    assert!(closing_table(&collected, TextStyle::PLAIN).contains("$0.0123"), "{table}");
    assert_eq!(collected.document(None).cost_usd, Some(0.0123));

    run.store.control(&run.id, RunState::Paused, "401: wrong key").await.expect("paused");
    let table = closing_table(&run.collect().await, TextStyle::PLAIN);
    assert!(table.contains("PAUSED: 3 of 5"), "{table}");
    assert!(table.contains("(401: wrong key)"), "{table}");
}

#[tokio::test]
async fn a_complete_run_is_not_loud() {
    let run = start(&example(), GradeOptions::default(), false).await;
    run.answer(|_| Answer::Score(1.0)).await;
    let collected = run.collect().await;
    let table = closing_table(&collected, TextStyle::PLAIN);
    assert!(!table.contains("***"), "{table}");
    assert!(table.contains("1.0000"), "{table}");
    let style = TextStyle { unicode: true, colour: true, width: 100 };
    let scores = score_table(collected.summary(), collected.rubric(), false, style);
    assert!(scores.contains('\u{1b}'), "{scores}");
    assert!(scores.contains('│'), "{scores}");
}
