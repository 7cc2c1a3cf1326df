//! Scores corrected for the judge's error, and labels chosen to correct them.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use tribunal_audit::metric::{
    LEVEL,
    corrected::{
        ppi::{PpiData, ppi_clustered, ppi_mean, ppi_mean_weighted},
        rogan_gladen::{self, Stratum},
    },
    label::{Sampled, expected_variance, inclusion, ipw_mean},
    plan::effective_labels,
};
use tribunal_core::{Category, Rubric, score::TreeScores};

use crate::support::{CLOSED, all_close, close, data, entry, numbers};

#[test]
fn rogan_gladen_with_its_interval() {
    let Some((inputs, outputs)) = entry("rogan_gladen_lee2025") else { return };
    let at = |name: &str| inputs[name].as_f64().unwrap();
    let stratum = Stratum {
        scope: "all".to_owned(),
        share: 1.0,
        p: at("p"),
        n: at("n"),
        q0: at("q0"),
        q1: at("q1"),
        m0: at("m0") as u64,
        m1: at("m1") as u64,
    };
    let theta = rogan_gladen::estimate(stratum.p, stratum.q0, stratum.q1).unwrap();
    close("θ", theta, &outputs["theta"], CLOSED);
    let interval = rogan_gladen::interval(&stratum, LEVEL).unwrap();
    all_close("interval", &[interval.low, interval.high], &outputs["ci"], CLOSED);
    let sum = rogan_gladen::stratified(&[stratum], LEVEL).unwrap();
    all_close("one stratum", &[sum.interval.low, sum.interval.high], &outputs["ci"], CLOSED);
    let (m0, m1) = rogan_gladen::allocate(200, at("p"), at("q0"), at("q1"), 10);
    all_close("allocation", &[m0 as f64, m1 as f64], &outputs["alloc_m200_pilot10"], 0.0);
}

#[test]
fn rogan_gladen_returns_the_human_rate_of_its_own_calibration() {
    let Some((inputs, outputs)) = entry("rogan_gladen_identity_o3mini_exec") else { return };
    let at = |name: &str| inputs[name].as_f64().unwrap();
    let theta = rogan_gladen::estimate(at("p"), at("q0"), at("q1")).unwrap();
    close("θ", theta, &outputs["theta"], CLOSED);
    assert_eq!(rogan_gladen::estimate(0.5, 0.4, 0.6), None);
}

#[test]
fn ppi_of_a_mean() {
    let Some((inputs, outputs)) = entry("ppi_mean") else { return };
    let [human, judge, unlabelled] =
        ["Y", "Yhat", "Yhat_unlabeled"].map(|name| numbers(&inputs[name]));
    let data = PpiData { human: &human, judge: &judge, unlabelled: &unlabelled };
    for (name, lambda) in [("lam1", Some(1.0)), ("lam0", Some(0.0)), ("power_tuned", None)] {
        let found = ppi_mean(&data, lambda, LEVEL).unwrap();
        close(name, found.estimate, &outputs[name]["point"], CLOSED);
        let interval = [found.interval.low, found.interval.high];
        all_close(name, &interval, &outputs[name]["ci95"], CLOSED);
        if lambda.is_none() {
            close("λ", found.lambda, &outputs["lambda_hat"], CLOSED);
        }
    }
    let Some((inputs, outputs)) = entry("ppi_mean_weighted") else { return };
    let [weights, others] = ["w", "w_unlabeled"].map(|name| numbers(&inputs[name]));
    for (name, lambda) in [("lam1", 1.0), ("lam05", 0.5)] {
        let found = ppi_mean_weighted(&data, &weights, &others, lambda, LEVEL).unwrap();
        close(name, found.estimate, &outputs[name]["point"], CLOSED);
        let interval = [found.interval.low, found.interval.high];
        all_close(name, &interval, &outputs[name]["ci95"], CLOSED);
    }
}

#[test]
fn ppi_over_clusters() {
    let Some((inputs, outputs)) = entry("clustered_ppi_glide") else { return };
    let proxies = numbers(&inputs["y_proxy"]);
    let mut clusters: BTreeMap<&str, Vec<(Option<f64>, f64)>> = BTreeMap::new();
    let rows = inputs["y_true"].as_array().unwrap().iter().zip(&proxies);
    for ((human, judge), cluster) in rows.zip(inputs["clusters"].as_array().unwrap()) {
        let items = clusters.entry(cluster.as_str().unwrap()).or_default();
        items.push((human.as_f64(), *judge));
    }
    let (mut human, mut judge, mut unlabelled) = (Vec::new(), Vec::new(), Vec::new());
    for items in clusters.values() {
        let size = items.len() as f64;
        let proxy = items.iter().map(|(_, f)| f).sum::<f64>() / size;
        match items.iter().map(|(y, _)| *y).sum::<Option<f64>>() {
            Some(sum) => (human.push(sum / size), judge.push(proxy)).0,
            None => unlabelled.push(proxy),
        }
    }
    let data = PpiData { human: &human, judge: &judge, unlabelled: &unlabelled };
    let found = ppi_clustered(&data, LEVEL).unwrap();
    let said = format!(
        "Point Estimate: {:.3}\nConfidence Interval (95%): [{:.3}, {:.3}]\n",
        found.estimate, found.interval.low, found.interval.high
    );
    assert!(outputs["text"].as_str().unwrap().contains(&said), "{said}");
    let few = PpiData { human: &human[..1], judge: &judge[..1], unlabelled: &unlabelled };
    assert_eq!(ppi_clustered(&few, LEVEL), None);
}

#[test]
fn ppi_is_worth_so_many_labels() {
    let Some((inputs, outputs)) = entry("ppi_ess") else { return };
    let phi = inputs["phi"].as_f64().unwrap();
    for (name, n, unlabelled) in [
        ("n=200,N=800", 200.0, 800.0),
        ("n=200,N=2493", 200.0, 2493.0),
        ("n=200,N=1000000000.0", 200.0, 1e9),
    ] {
        close(name, effective_labels(n, unlabelled, phi).unwrap(), &outputs[name], 1e-6);
    }
}

#[test]
fn active_labels() {
    let Some((inputs, outputs)) = entry("active_ipw") else { return };
    let columns = ["y_human", "y_judge", "pi"].map(|name| inputs[name].as_array().unwrap().clone());
    let items: Vec<Sampled> = (0..columns[0].len())
        .map(|row| Sampled {
            weight: 1.0,
            human: columns[0][row].as_f64(),
            judge: columns[1][row].as_f64().unwrap(),
            pi: columns[2][row].as_f64().unwrap(),
        })
        .collect();
    let found = ipw_mean(&items, LEVEL).unwrap();
    close("θ", found.estimate, &outputs["theta_lam1"], CLOSED);
    close("se", found.se, &outputs["se"], CLOSED);

    let Some((inputs, outputs)) = entry("active_leaf_pi_root_score") else { return };
    let [weights, p_err] = ["w", "p_err"].map(|name| numbers(&inputs[name]));
    let budget = inputs["budget"].as_f64().unwrap();
    let pi = inclusion(&weights, &p_err, budget);
    all_close("π", &pi, &outputs["pi"], CLOSED);
    let variance = expected_variance(&weights, &p_err, &pi);
    close("active", variance, &outputs["var_active"], CLOSED);
    let uniform = vec![budget / weights.len() as f64; weights.len()];
    let variance = expected_variance(&weights, &p_err, &uniform);
    close("uniform", variance, &outputs["var_uniform"], CLOSED);
    // More than there is cannot be spent.
    assert_eq!(inclusion(&weights, &p_err, 9.0), vec![1.0; 4]);
}

/// A judge with known rates by category moves a root by what the weights say it does.
#[test]
fn error_rates_predict_the_bias_of_a_root() {
    let Some((inputs, outputs)) = entry("judgeeval_root_scores") else { return };
    let rates = &inputs["o3mini_sens_spec_by_category"];
    for paper in ["all-in-one", "pinn", "stay-on-topic-with-classifier-free-guidance"] {
        let file =
            data().unwrap().join(format!("paperbench/judge_eval/{paper}/expected_result.json"));
        let tree = Rubric::parse(paper, &fs::read(file).expect("readable")).expect("valid");
        let expected: &Value = &outputs[paper];
        let root = TreeScores::compute(&tree, tribunal_core::Node::valid_score).root().score;
        close("root", root.unwrap(), &expected["root"], CLOSED);
        let shares = tree.weight_shares();
        let (mut predicted, mut spread) = (0.0, 0.0);
        let mut strata: BTreeMap<Category, f64> = BTreeMap::new();
        for (index, leaf) in tree.leaves() {
            let category = leaf.category.unwrap();
            let [sensitivity, specificity] = numbers(&rates[category.name()])[..] else { panic!() };
            let passed = leaf.valid_score().unwrap() > 0.5;
            let q = if passed { sensitivity } else { 1.0 - specificity };
            predicted += shares[index] * q;
            spread += shares[index].powi(2) * q * (1.0 - q);
            *strata.entry(category).or_default() += shares[index];
        }
        close("predicted", predicted, &expected["predicted_o3mini_root"], CLOSED);
        close("sd", spread.sqrt(), &expected["predicted_sd_indep"], CLOSED);
        // What the rates did to the root, the same rates undo.
        let undone: Vec<Stratum> = strata
            .iter()
            .map(|(category, share)| {
                let [q1, q0] = numbers(&rates[category.name()])[..] else { panic!() };
                let of_category =
                    tree.leaves().filter(|(_, leaf)| leaf.category == Some(*category));
                let p: f64 = of_category
                    .map(|(index, leaf)| {
                        let passed = leaf.valid_score().unwrap() > 0.5;
                        shares[index] * if passed { q1 } else { 1.0 - q0 }
                    })
                    .sum();
                let scope = category.name().to_owned();
                Stratum {
                    scope,
                    share: *share,
                    p: p / share,
                    n: 1e9,
                    q0,
                    q1,
                    m0: 1 << 40,
                    m1: 1 << 40,
                }
            })
            .collect();
        let corrected = rogan_gladen::stratified(&undone, LEVEL).unwrap();
        close("corrected", corrected.estimate, &expected["root"], CLOSED);
        let width = corrected.interval.high - corrected.interval.low;
        assert!(width < 1e-3 && corrected.interval.contains(corrected.estimate), "{corrected:?}");
    }
}
