//! Judges compared on the same leaves, and with humans.

use tribunal_audit::metric::{
    alt_test::alt_test,
    paired::{
        cochran::cochran_q,
        mcnemar::Discordant,
        multiple::{benjamini_hochberg, benjamini_yekutieli, holm},
        sign_flip::sign_flip,
    },
};

use crate::support::{CLOSED, all_close, bits, close, entry, numbers};

#[test]
fn mcnemar() {
    let Some((inputs, outputs)) = entry("mcnemar_b25_c10") else { return };
    let table = &inputs["table"];
    let counts =
        Discordant { first: table[0][1].as_u64().unwrap(), second: table[1][0].as_u64().unwrap() };
    close("exact", counts.exact_p(), &outputs["exact_p"], CLOSED);
    for (continuity, name, p) in [(false, "chi2_nocc", "p_nocc"), (true, "chi2_cc", "p_cc")] {
        let found = counts.chi_squared(continuity).unwrap();
        close(name, found.0, &outputs[name], CLOSED);
        close(p, found.1, &outputs[p], CLOSED);
    }
    let Some((inputs, outputs)) = entry("mcnemar_small") else { return };
    let right = ["correct_A", "correct_B"].map(|name| bits(&inputs[name]));
    let counts = Discordant::count(right[0].iter().copied().zip(right[1].iter().copied()));
    assert_eq!((counts.first, counts.second), (5, 1));
    close("exact", counts.exact_p(), &outputs["exact_p"], CLOSED);
    close("mid-p", counts.mid_p(), &outputs["midp"], CLOSED);
    close("χ²", counts.chi_squared(true).unwrap().1, &outputs["chi2_cc_p"], CLOSED);
    let none = Discordant::default();
    assert_eq!((none.exact_p(), none.chi_squared(true)), (1.0, None));
}

#[test]
fn cochran() {
    let Some((inputs, outputs)) = entry("cochran_q_race") else { return };
    let rows = inputs["rows_leaves_cols_prompts"].as_array().unwrap();
    let rows: Vec<Vec<bool>> = rows.iter().map(bits).collect();
    let found = cochran_q(&rows).unwrap();
    close("Q", found.q, &outputs["Q"], CLOSED);
    close("p", found.p, &outputs["p"], CLOSED);
    assert_eq!(Some(found.df as u64), outputs["df"].as_u64());
    assert_eq!(cochran_q(&[vec![true, true], vec![false, false]]), None);
}

#[test]
fn several_tests_at_once() {
    let Some((inputs, outputs)) = entry("multiple_testing") else { return };
    let p = numbers(&inputs["p"]);
    all_close("Holm", &holm(&p), &outputs["holm"], CLOSED);
    all_close("BH", &benjamini_hochberg(&p), &outputs["fdr_bh"], CLOSED);
    all_close("BY", &benjamini_yekutieli(&p), &outputs["fdr_by"], CLOSED);
}

#[test]
fn five_papers_cannot_be_significant() {
    let Some((inputs, outputs)) = entry("cluster_signflip_exact") else { return };
    let differences = numbers(&inputs["per_paper_diff"]);
    let found = sign_flip(&differences).unwrap();
    close("mean", found.mean, &outputs["mean"], CLOSED);
    close("p", found.p, &outputs["p_two_sided"], CLOSED);
    close("least p", found.least_p, &outputs["min_possible_p_G5"], CLOSED);
    assert_eq!(sign_flip(&[]), None);
}

#[test]
fn alternative_annotator() {
    let Some((inputs, outputs)) = entry("alt_test") else { return };
    let humans: Vec<Vec<bool>> = inputs["humans"].as_array().unwrap().iter().map(bits).collect();
    let judge = bits(&inputs["llm"]);
    let [epsilon, q] = ["epsilon", "q"].map(|name| inputs[name].as_f64().unwrap());
    let found = alt_test(&humans, &judge, epsilon, q).unwrap();
    all_close("p", &found.p, &outputs["p_values"], CLOSED);
    close("advantage", found.advantage, &outputs["advantage_probability"], CLOSED);
    close("winning rate", found.winning_rate, &outputs["winning_rate"], CLOSED);
    assert_eq!(outputs["passes"].as_bool(), Some(found.passes));
    assert_eq!(alt_test(&humans[..1], &judge, epsilon, q), None);
    let short: Vec<Vec<bool>> = humans.iter().map(|human| human[..29].to_vec()).collect();
    assert_eq!(alt_test(&short, &judge[..29], epsilon, q), None);
}
