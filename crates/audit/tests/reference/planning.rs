//! What labels can show, which verdicts to send on, and races of candidates.

use tribunal_audit::metric::{
    escalate::{Level, fixed_sequence, risk_bound},
    plan::{correlation, design_effect, labels_for, leaves_for, smallest_effect, z_sum},
    racing::{Round, empirical_bernstein, hoeffding, successive_halving},
    winners_curse::{expected_max, optimism},
};

use crate::support::{CLOSED, all_close, close, entry, numbers};

#[test]
fn smallest_detectable_effect() {
    let Some((_, outputs)) = entry("mde_paired") else { return };
    close("z", z_sum(0.05, 0.8), &outputs["z_sum"], CLOSED);
    for (name, n, psi, deff) in [
        ("n=100,psi=0.1,deff=1", 100.0, 0.1, 1.0),
        ("n=200,psi=0.1,deff=1", 200.0, 0.1, 1.0),
        ("n=500,psi=0.1,deff=1", 500.0, 0.1, 1.0),
        ("n=1000,psi=0.1,deff=1", 1000.0, 0.1, 1.0),
        ("n=2693,psi=0.1,deff=1", 2693.0, 0.1, 1.0),
        ("n=2693,psi=0.1,deff=10", 2693.0, 0.1, 10.0),
        ("n=200,psi=0.2,deff=1", 200.0, 0.2, 1.0),
    ] {
        close(name, smallest_effect(psi, deff, n).unwrap(), &outputs[name], CLOSED);
    }
    close("Connor", leaves_for(0.1, 0.05).unwrap(), &outputs["connor_n_psi.10_d.05"], CLOSED);
    close("Connor", leaves_for(0.2, 0.05).unwrap(), &outputs["connor_n_psi.20_d.05"], CLOSED);
    assert_eq!(leaves_for(0.1, 0.5), None);
    assert_eq!(labels_for(0.5, 0.05, 1.0), Some(385));
}

#[test]
fn design_effects() {
    let Some((inputs, outputs)) = entry("design_effect") else { return };
    let sizes: Vec<u64> = numbers(&inputs["m"]).into_iter().map(|m| m as u64).collect();
    let rho = inputs["rho"].as_f64().unwrap();
    let found = design_effect(&sizes, rho).unwrap();
    close("deff", found, &outputs["deff"], CLOSED);
    let total: u64 = sizes.iter().sum();
    close("n_eff", total as f64 / found, &outputs["n_eff"], CLOSED);
    assert!((correlation(&sizes, found).unwrap() - rho).abs() < CLOSED);
    assert_eq!(correlation(&[1, 1], 1.0), None);
}

#[test]
fn escalation_by_fixed_sequence() {
    let Some((inputs, outputs)) = entry("selective_fixed_sequence") else { return };
    let levels: Vec<Level> = inputs["levels_conf_n_err"]
        .as_array()
        .unwrap()
        .iter()
        .map(|level| {
            let [confidence, n, errors] = numbers(level)[..] else { panic!() };
            Level { confidence, verdicts: n as u64, errors: errors as u64 }
        })
        .collect();
    let [alpha, delta] = ["alpha", "delta"].map(|name| inputs[name].as_f64().unwrap());
    let found = fixed_sequence(&levels, alpha, delta);
    let expected = outputs["cumulative_l_n_k_risk_ucb"].as_array().unwrap();
    assert_eq!(found.levels.len(), expected.len());
    for (kept, expected) in found.levels.iter().zip(expected) {
        let row =
            [kept.confidence, kept.verdicts as f64, kept.errors as f64, kept.risk, kept.risk_bound];
        all_close("level", &row, expected, CLOSED);
    }
    close("λ", found.confidence.unwrap(), &outputs["lambda_hat"], CLOSED);
    close("kept", found.kept, &outputs["coverage"], CLOSED);
    // A first level that fails sends everything on, however good the later ones.
    let strict = fixed_sequence(&levels, 0.01, delta);
    assert_eq!((strict.confidence, strict.kept, strict.levels.len()), (None, 0.0, 1));
}

#[test]
fn risk_bounds() {
    let Some((_, outputs)) = entry("selective_risk") else { return };
    for (name, k, n, delta) in [
        ("cp_upper k=0 n=30 d=.1", 0, 30, 0.1),
        ("cp_upper k=3 n=100 d=.1", 3, 100, 0.1),
        ("cp_upper k=10 n=100 d=.1", 10, 100, 0.1),
        ("cp_upper k=5 n=60 d=.05", 5, 60, 0.05),
    ] {
        close(name, risk_bound(k, n, delta), &outputs[name], CLOSED);
    }
    assert_eq!(risk_bound(0, 0, 0.1), 1.0);
}

#[test]
fn races() {
    let Some((_, outputs)) = entry("racing_bounds") else { return };
    let one = hoeffding(1.0, 50, 0.05).unwrap();
    close("R1", one, &outputs["hoeffding_R1_n50_delta.05"], CLOSED);
    let paired = hoeffding(2.0, 50, 0.05).unwrap();
    close("R2", paired, &outputs["hoeffding_R2_n50_delta.05_paired_diff"], CLOSED);
    let bernstein = empirical_bernstein(1.0, 0.1, 50, 0.05).unwrap();
    close("EB", bernstein, &outputs["empirical_bernstein_R1_n50_var.1_delta.05"], CLOSED);
    let expected = [(16, 10), (8, 20), (4, 40), (2, 80)]
        .map(|(candidates, leaves)| Round { candidates, leaves });
    assert_eq!(successive_halving(16, 640), expected);
    assert!(successive_halving(1, 640).is_empty());
}

#[test]
fn the_best_of_several_looks_better_than_it_is() {
    let Some((_, outputs)) = entry("winners_curse") else { return };
    for k in [2, 5, 6, 12, 18, 50] {
        let name = format!("E[max of {k} std normals]");
        close(&name, expected_max(k), &outputs[&name], CLOSED);
    }
    let found = optimism(12, 0.83, 100).unwrap();
    close("optimism", found, &outputs["optimism_k12_n100_p.83"], CLOSED);
    assert_eq!((expected_max(1), optimism(2, 0.5, 0)), (0.0, None));
}
