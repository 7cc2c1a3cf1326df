//! An audit for the terminal: what to know before believing a judge's number.
//!
//! Owns the text. Names come from files of others: nothing that a terminal acts on passes.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use tribunal_audit::{
    AuditDocument, Paired,
    document::{ByPolicy, CorrectedScore, IntervalLevel, Measures},
    metric::agreement::Measure,
};
use tribunal_collector::{TextStyle, sanitize_line};

use crate::calibration;

/// Lines of the lists that may be long; the files have all of them.
const SHOWN: usize = 10;

/// The summary.
pub(super) fn summary(paired: &Paired, document: &AuditDocument, style: TextStyle) -> String {
    let mut text = String::new();
    header(&mut text, document);
    overall(&mut text, &document.overall);
    scopes(&mut text, document);
    bias(&mut text, document);
    corrected(&mut text, document);
    others(&mut text, document);
    worst(&mut text, document, style);
    let missing = paired.submissions.len() - document.pairs;
    if missing > 0 {
        let _ = writeln!(text, "note: {missing} submissions have no label");
    }
    for note in &document.notes {
        let _ = writeln!(text, "note: {}", sanitize_line(note));
    }
    text
}

fn header(text: &mut String, document: &AuditDocument) {
    let judge = &document.judge;
    let model = judge.model.as_ref().filter(|model| **model != judge.name);
    let model = model.map_or_else(String::new, |model| format!(" ({model})"));
    if judge.simulated {
        text.push_str("SIMULATED JUDGE: no model has read the submissions\n");
    }
    let _ = writeln!(
        text,
        "judge {}{}: {} labelled leaves of {} submissions, {} papers; coverage {}",
        sanitize_line(&judge.name),
        sanitize_line(&model),
        document.leaves,
        document.pairs,
        document.papers,
        number(document.coverage),
    );
    for (name, hash) in [("judge", &judge.judge_hash), ("prompt", &judge.prompt_hash)] {
        if let Some(hash) = hash {
            let _ = writeln!(text, "{name} hash {}", &hash[..hash.len().min(16)]);
        }
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn put(text: &mut String, title: &str, table: &Table) {
    let _ = writeln!(text, "\n{title}\n{}", table.trim_fmt());
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn interval(measures: &Measures, measure: Measure, level: IntervalLevel) -> String {
    let intervals = measures.intervals.get(measure.name());
    let found = intervals.into_iter().flatten().find(|interval| interval.level == level);
    found.map_or_else(
        || "-".to_owned(),
        |interval| format!("{:.3}..{:.3} {}", interval.low, interval.high, interval.method),
    )
}

fn overall(text: &mut String, overall: &ByPolicy) {
    let mut rows = table(&["measure", "dropped", "by leaf, 95%", "by paper, 95%", "as fail"]);
    for measure in Measure::ALL {
        rows.add_row([
            measure.name().to_owned(),
            number(overall.dropped.value(measure)),
            interval(&overall.dropped, measure, IntervalLevel::Leaf),
            interval(&overall.dropped, measure, IntervalLevel::Paper),
            number(overall.counted_as_fail.value(measure)),
        ]);
    }
    put(text, "agreement; leaves without a verdict dropped, and counted as fail", &rows);
    let Measures { tp, fn_, fp, tn, .. } = &overall.dropped;
    let _ = writeln!(text, "both pass {tp}, human alone {fn_}, judge alone {fp}, both fail {tn}");
}

fn scopes(text: &mut String, document: &AuditDocument) {
    let header = ["", "leaves", "missing", "accuracy", "f1", "sensitivity", "specificity"];
    let mut rows = table(&header);
    let mut row = |name: &str, dropped: &Measures, all: u64| {
        rows.add_row([
            sanitize_line(name),
            all.to_string(),
            (all - dropped.num_samples).to_string(),
            number(dropped.accuracy),
            number(dropped.f1),
            number(dropped.sensitivity),
            number(dropped.specificity),
        ]);
    };
    for (kind, scopes) in [
        ("category", &document.by_category),
        ("paper", &document.by_paper),
        ("system", &document.by_system),
    ] {
        for (name, found) in scopes.iter().take(SHOWN) {
            let all = found.counted_as_fail.num_samples;
            row(&format!("{kind} {name}"), &found.dropped, all);
        }
    }
    row("mean over papers", &document.paper_mean, document.paper_mean.num_samples);
    for (name, baseline) in &document.baselines {
        row(&format!("baseline {name}"), baseline, baseline.num_samples);
    }
    put(text, "by scope; leaves without a verdict dropped", &rows);
    for (kind, scopes) in [("papers", &document.by_paper), ("systems", &document.by_system)] {
        if scopes.len() > SHOWN {
            let _ = writeln!(text, "and {} more {kind} in audit.json", scopes.len() - SHOWN);
        }
    }
}

fn bias(text: &mut String, document: &AuditDocument) {
    let mut rows = table(&["score of", "human", "judge", "bias", "95%"]);
    let roots = document.root_bias.iter().filter(|bias| bias.node == "root");
    for bias in roots.clone().take(SHOWN) {
        let shown = match bias.bias {
            Some(bias) => format!("{bias:+.4}"),
            None => format!("{:+.4}..{:+.4}", bias.lower, bias.upper),
        };
        rows.add_row([
            sanitize_line(&bias.submission),
            format!("{:.4}", bias.human),
            number(bias.judge),
            shown,
            format!("{:+.4}..{:+.4}", bias.low, bias.high),
        ]);
    }
    put(text, "score error, judge minus human", &rows);
    let roots = roots.count();
    if roots > SHOWN {
        let _ = writeln!(text, "and {} more submissions in audit.json", roots - SHOWN);
    }
}

fn corrected(text: &mut String, document: &AuditDocument) {
    text.push_str("\nmean score corrected for the judge's error\n");
    for (name, score) in
        [("Rogan-Gladen", &document.corrected.rogan_gladen), ("PPI++", &document.corrected.ppi)]
    {
        let _ = match score {
            CorrectedScore::Estimate(found) => writeln!(
                text,
                "{name}: {:.4} ({:.4}..{:.4}), raw {:.4}; assumes that {}",
                found.estimate,
                found.low,
                found.high,
                found.raw,
                sanitize_line(&found.assumptions.join("; ")),
            ),
            CorrectedScore::Refused { refused } => {
                writeln!(text, "{name}: refused: {}", sanitize_line(refused))
            }
        };
    }
}

fn others(text: &mut String, document: &AuditDocument) {
    if !document.tests.is_empty() {
        let mut rows = table(&["test", "scope", "first", "second", "p", "p Holm", "reading"]);
        for test in &document.tests {
            rows.add_row([
                test.name.to_owned(),
                sanitize_line(&test.scope),
                test.first_better.to_string(),
                test.second_better.to_string(),
                format!("{:.4}", test.p),
                number(test.p_holm),
                test.reading.clone(),
            ]);
        }
        put(
            text,
            "two judges; first and second are leaves or papers where only it is right",
            &rows,
        );
    }
    if let Some(found) = &document.reliability {
        let _ = writeln!(
            text,
            "\nrepeats: {} leaves, flip rate {:.4}, Fleiss kappa {}, unanimous {:.4}",
            found.leaves,
            found.flip_rate,
            number(found.fleiss_kappa),
            found.unanimous,
        );
        for root in &found.roots {
            let enough = root.samples_for_one_point.map_or("-".to_owned(), |n| n.to_string());
            let _ = writeln!(
                text,
                "  {}: root variance {}, {enough} samples for a standard error of 0.01",
                sanitize_line(&root.submission),
                root.variance.map_or("-".to_owned(), |variance| format!("{variance:.6}")),
            );
        }
    }
    if let Some(sending) = &document.escalation {
        let _ = writeln!(text, "\nescalation: {}", calibration::sending(sending));
    }
    if let Some(found) = &document.calibration {
        let _ = writeln!(
            text,
            "\nconfidence ({}): ECE {}, Brier {}, AUROC {} over {} leaves",
            found.source,
            number(found.ece),
            number(found.brier),
            number(found.auroc),
            found.leaves,
        );
    }
    let plan = &document.plan;
    if let Some(effect) = plan.smallest_effect {
        let clustered = plan.smallest_effect_clustered;
        let clustered = clustered.map_or_else(String::new, |by| format!(" ({by:.3} by paper)"));
        let _ = writeln!(
            text,
            "\n{} labels detect a difference of {effect:.3}{clustered} between two judges",
            plan.labels,
        );
        for more in &plan.more_labels {
            let _ = writeln!(
                text,
                "{} more: accuracy to ±{:.3}, differences of {}",
                more.labels,
                more.half_width,
                more.smallest_effect.map_or_else(String::new, |by| format!("{by:.3}")),
            );
        }
    }
}

fn worst(text: &mut String, document: &AuditDocument, style: TextStyle) {
    if document.disagreements.is_empty() {
        return;
    }
    let mut rows = table(&["worst disagreements", "leaf", "moves", "human", "judge"]);
    for one in document.disagreements.iter().take(SHOWN) {
        rows.add_row([
            sanitize_line(&one.submission),
            format!("#{} {}", one.index, sanitize_line(&one.id)),
            format!("{:.4}", one.weight * (one.judge - one.human).abs()),
            one.human.to_string(),
            one.judge.to_string(),
        ]);
    }
    rows.set_width(style.width);
    put(text, &format!("{} disagreements", document.disagreements.len()), &rows);
}
