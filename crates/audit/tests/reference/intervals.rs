//! Intervals at the leaf and at the paper, reliability and calibration.

use tribunal_audit::metric::{
    LEVEL,
    agreement::{Confusion, Measure},
    calibration::{self, Stated},
    interval::{
        bootstrap::{Drawn, percentile, resample},
        cluster::{ClusterSum, clustered},
        jackknife::jackknife,
        wilson::wilson,
    },
    mean,
    reliability::{Votes, majority_accuracy, reliability, samples_for},
    variance,
};

use crate::support::{CLOSED, all_close, bits, close, entry, measure, numbers, row};

#[test]
fn wilson_at_the_leaf() {
    for name in ["wilson_16_of_17", "wilson_67_of_114"] {
        let Some((inputs, outputs)) = entry(name) else { return };
        let (k, n) = (inputs["k"].as_u64().unwrap(), inputs["n"].as_u64().unwrap());
        let found = wilson(k, n, LEVEL).unwrap();
        all_close(name, &[found.low, found.high], &outputs["ci"], CLOSED);
    }
    assert_eq!(wilson(0, 0, LEVEL), None);
    assert_eq!(wilson(0, 9, LEVEL).unwrap().low, 0.0);
    assert_eq!(wilson(9, 9, LEVEL).unwrap().high, 1.0);
}

#[test]
fn clustered_standard_errors() {
    let Some((inputs, outputs)) = entry("clustered_se") else { return };
    let values = numbers(&inputs["s"]);
    let mut sums = [ClusterSum::default(); 3];
    for (value, cluster) in values.iter().zip(numbers(&inputs["cluster"])) {
        sums[cluster as usize].hits += value;
        sums[cluster as usize].total += 1.0;
    }
    let found = clustered(&sums).unwrap();
    close("mean", found.mean, &outputs["mean"], CLOSED);
    close("CR0", found.se_cr0, &outputs["se_cr0"], CLOSED);
    close("CR1", found.se_cr1, &outputs["se_cr1_statsmodels"], CLOSED);
    let iid = (variance(&values, 1).unwrap() / values.len() as f64).sqrt();
    close("iid", iid, &outputs["se_iid_ddof1"], CLOSED);
    assert_eq!(clustered(&sums[..1]), None);
}

#[test]
fn jackknife_over_papers() {
    let Some((inputs, outputs)) = entry("cluster_jackknife_macro_f1") else { return };
    let papers: Vec<Confusion> =
        inputs["per_paper_tp_fn_fp_tn"].as_array().unwrap().iter().map(row).collect();
    let found = jackknife(papers.len(), |keep| {
        let kept = papers.iter().enumerate().filter(|(paper, _)| keep(*paper));
        kept.map(|(_, counts)| *counts).sum::<Confusion>().f1()
    })
    .unwrap();
    close("F1", found.estimate, &outputs["macro_f1"], CLOSED);
    all_close("leave one out", &found.leave_one_out, &outputs["leave_one_out"], CLOSED);
    close("se", found.se, &outputs["se"], CLOSED);
    let interval = found.interval(LEVEL);
    all_close("t4", &[interval.low, interval.high], &outputs["ci95_t4"], CLOSED);
    let each: Vec<f64> = papers.iter().map(|counts| measure(counts, Measure::F1)).collect();
    let averaged = mean(&each).unwrap();
    close("by paper", averaged, &outputs["mean_of_per_paper_macro_f1"], CLOSED);
}

#[test]
fn bootstrap_of_macro_f1() {
    let Some((inputs, outputs)) = entry("macro_f1_bootstrap_iid") else { return };
    let counts = row(&inputs["cm"]);
    let cells = [
        (true, true, counts.tp),
        (true, false, counts.fn_),
        (false, true, counts.fp),
        (false, false, counts.tn),
    ];
    let leaves: Vec<Drawn> = cells
        .into_iter()
        .flat_map(|(human, judge, n)| (0..n).map(move |_| Drawn::new(human, judge, 1.0)))
        .collect();
    let drawn = resample(&leaves, 20_000, 7);
    let f1: Vec<Option<f64>> = drawn.counts.iter().map(Confusion::f1).collect();
    assert!(drawn.counts.iter().all(|one| one.samples() == counts.samples()));
    let known: Vec<f64> = f1.iter().flatten().copied().collect();
    let tolerance = outputs["tolerance"].as_f64().unwrap();
    close("se", variance(&known, 1).unwrap().sqrt(), &outputs["se"], tolerance);
    let interval = percentile(f1, LEVEL).unwrap();
    all_close("ci", &[interval.low, interval.high], &outputs["ci95"], tolerance);
    // The same seed draws the same, whatever the number of threads.
    assert_eq!(resample(&leaves, 100, 7).counts[..], drawn.counts[..100]);
}

#[test]
fn repeated_votes() {
    let Some((inputs, outputs)) = entry("repeat_reliability") else { return };
    let votes: Vec<Votes> = numbers(&inputs["pass_votes_of_5"])
        .into_iter()
        .map(|passes| Votes { passes: passes as u32, votes: 5 })
        .collect();
    let found = reliability(&votes).unwrap();
    for (name, found) in [
        ("fleiss_kappa", found.fleiss_kappa.unwrap()),
        ("krippendorff_alpha", found.krippendorff_alpha.unwrap()),
        ("mean_pairwise_agreement", found.pairwise_agreement),
        ("flip_rate_vs_majority", found.flip_rate),
        ("unanimous_share", found.unanimous),
    ] {
        close(name, found, &outputs[name], CLOSED);
    }
    assert_eq!(reliability(&[Votes { passes: 1, votes: 1 }]), None);
    assert_eq!(samples_for(0.0004, 0.01), Some(4));
}

#[test]
fn majority_of_independent_votes() {
    let Some((inputs, outputs)) = entry("majority_vote_independent") else { return };
    let p = inputs["p"].as_f64().unwrap();
    for k in [1, 3, 5, 7] {
        let found = majority_accuracy(p, k).unwrap();
        close("majority", found, &outputs[format!("k={k}")], CLOSED);
    }
    assert_eq!(majority_accuracy(p, 2), None);
}

#[test]
fn calibration_of_confidence() {
    let Some((inputs, outputs)) = entry("calibration") else { return };
    let stated = |confidence: &str, happened: &str| -> Vec<Stated> {
        let pairs = numbers(&inputs[confidence]).into_iter().zip(bits(&inputs[happened]));
        pairs.map(|(confidence, happened)| Stated { confidence, happened }).collect()
    };
    let votes = stated("conf", "correct");
    let probabilities = stated("p", "y");
    for (name, found) in [
        ("ece_by_distinct_vote_level", calibration::ece_by_level(&votes)),
        ("auroc_conf_vs_correct", calibration::auroc(&votes)),
        ("brier", calibration::brier(&probabilities)),
        ("ece_5_equal_width", calibration::ece_by_width(&probabilities, 5)),
        ("log_loss", calibration::log_loss(&probabilities)),
    ] {
        close(name, found.unwrap(), &outputs[name], CLOSED);
    }
    assert_eq!(calibration::auroc(&votes[..3]), None);
}
