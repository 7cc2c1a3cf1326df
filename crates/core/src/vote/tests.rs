//! Votes as tallied: what decides, what is missing, who speaks.

use proptest::prelude::*;

use super::*;
use crate::verdict::UngradedReason::{Pending, Refused, Tied, Unparseable};

const PASS: Outcome = Outcome::Graded { score: 1.0 };
const FAIL: Outcome = Outcome::Graded { score: 0.0 };

fn missing(reason: UngradedReason) -> Outcome {
    Outcome::Ungraded { reason }
}

fn juror(samples: u32) -> Juror {
    let judge = JudgeSpec {
        name: "second".into(),
        base_url: "http://127.0.0.1:1/v1".into(),
        model: "m".into(),
        reply_form: crate::run::ReplyForm::Text,
        fallback_forms: Vec::new(),
        max_output_tokens: 100,
        output_cap_field: "max_tokens".into(),
        temperature: None,
        reasoning_effort: None,
        extra_body: BTreeMap::new(),
    };
    Juror { judge, samples, evidence: BTreeMap::new(), selection: BTreeMap::new() }
}

/// What votes come to that are cast in the order of their samples.
fn tally(samples: u32, jurors: &[Juror], voting: &Voting, votes: &[Outcome]) -> Tally {
    let votes: Vec<(u32, Outcome)> = (0..).zip(votes.iter().copied()).collect();
    Ballot { samples, jurors, voting }.tally(&votes)
}

fn majority(samples: u32, votes: &[Outcome]) -> Outcome {
    tally(samples, &[], &Voting::Majority, votes).outcome
}

#[test]
fn the_only_vote_is_the_outcome() {
    for vote in [PASS, FAIL, missing(Refused), Outcome::Graded { score: 0.3 }] {
        assert_eq!(majority(1, &[vote]), vote);
    }
    assert_eq!(majority(1, &[]), missing(Pending));
}

#[test]
fn a_majority_decides_and_an_even_vote_does_not() {
    assert_eq!(majority(3, &[PASS, FAIL, PASS]), PASS);
    assert_eq!(majority(3, &[FAIL, FAIL, PASS]), FAIL);
    assert_eq!(majority(2, &[PASS, FAIL]), missing(Tied));
    assert_eq!(majority(4, &[FAIL, PASS, FAIL, PASS]), missing(Tied));
}

#[test]
fn what_is_missing_may_not_be_able_to_turn_it() {
    assert_eq!(majority(3, &[PASS, PASS]), PASS);
    assert_eq!(majority(3, &[PASS, PASS, missing(Refused)]), PASS);
    assert_eq!(majority(3, &[PASS, missing(Refused), FAIL]), missing(Refused));
    assert_eq!(majority(3, &[PASS, missing(Refused), missing(Unparseable)]), missing(Refused));
    assert_eq!(majority(2, &[PASS, missing(Refused)]), missing(Refused));
    // What is still to come is named before what will never come.
    assert_eq!(majority(3, &[missing(Refused), missing(Refused)]), missing(Pending));
}

#[test]
fn subtrees_have_the_mean_of_their_fractions() {
    let half = Outcome::Graded { score: 0.5 };
    assert_eq!(majority(2, &[PASS, half]), Outcome::Graded { score: 0.75 });
    assert_eq!(majority(2, &[half]), missing(Pending));
}

#[test]
fn weights_decide_between_judges() {
    let jurors = [juror(1), juror(1)];
    let weighted = |weights: [f64; 3], votes: &[Outcome]| {
        tally(1, &jurors, &Voting::Weighted { weights: weights.into() }, votes).outcome
    };
    assert_eq!(weighted([3.0, 1.0, 1.0], &[PASS, FAIL, FAIL]), PASS);
    assert_eq!(weighted([3.0, 2.0, 2.0], &[PASS, FAIL, FAIL]), FAIL);
    assert_eq!(weighted([0.3, 0.1, 0.2], &[PASS, FAIL, FAIL]), missing(Tied));
    assert_eq!(weighted([0.0; 3], &[PASS, PASS, PASS]), missing(Tied));
    assert_eq!(weighted([3.0, 1.0, 1.0], &[PASS]), PASS);
}

#[test]
fn votes_have_their_voter_and_number() {
    let jurors = [juror(2), juror(1)];
    let ballot = Ballot { samples: 3, jurors: &jurors, voting: &Voting::Majority };
    let places: Vec<(usize, u32)> = (0..6).map(|sample| ballot.place(sample)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]);
    assert_eq!((ballot.votes(), ballot.most(), ballot.is_single()), (6, 6, false));
}

#[test]
fn who_speaks_for_a_leaf_has_its_outcome_and_counts() {
    let jurors = [juror(1)];
    let voting = Voting::Escalated { agreement: Some(1.0) };
    let escalated = Ballot { samples: 2, jurors: &jurors, voting: &voting };
    let jury = Ballot { samples: 2, jurors: &jurors, voting: &Voting::Majority };
    let votes = [(0, FAIL), (1, PASS), (2, FAIL)];
    assert_eq!(jury.spokesman(&votes, FAIL), Some(0));
    assert_eq!(escalated.spokesman(&votes, FAIL), Some(2));
    assert_eq!(escalated.spokesman(&votes[..2], missing(Pending)), None);
    assert_eq!(jury.spokesman(&[(0, PASS), (1, FAIL)], missing(Tied)), None);
    let half = Outcome::Graded { score: 0.5 };
    assert_eq!(jury.spokesman(&[(0, missing(Refused)), (1, PASS), (2, FAIL)], half), Some(1));
}

#[test]
fn what_the_first_judge_is_not_sure_of_is_sent_on() {
    let jurors = [juror(1)];
    let of =
        |agreement, votes: &[Outcome]| tally(3, &jurors, &Voting::Escalated { agreement }, votes);
    let pending = |escalates| Tally { outcome: missing(Pending), escalates };
    let stands = |outcome| Tally { outcome, escalates: false };
    assert_eq!(of(Some(1.0), &[PASS, PASS, PASS]), stands(PASS));
    assert_eq!(of(Some(1.0), &[PASS, PASS, FAIL]), pending(true));
    assert_eq!(of(Some(2.0 / 3.0), &[PASS, PASS, FAIL]), stands(PASS));
    assert_eq!(of(Some(1.0), &[PASS, PASS]), pending(false));
    assert_eq!(of(None, &[PASS, PASS, PASS]), pending(true));
    assert_eq!(of(Some(0.0), &[PASS, FAIL, missing(Refused)]), stands(missing(Refused)));
    // The other judge has the word, whatever the first said.
    assert_eq!(of(Some(1.0), &[PASS, PASS, FAIL, FAIL]), stands(FAIL));
    assert_eq!(of(Some(1.0), &[PASS, PASS, FAIL, missing(Pending)]), stands(missing(Pending)));
    assert_eq!(of(Some(1.0), &[PASS, PASS, FAIL, missing(Refused)]), stands(missing(Refused)));
}

proptest! {
    #[test]
    fn a_leaf_once_graded_is_not_turned_by_later_votes(
        votes in proptest::collection::vec(0u8..4, 1..8), cast in 0usize..8,
        weights in proptest::collection::vec(0.0f64..3.0, 8),
    ) {
        let votes: Vec<Outcome> = votes
            .into_iter()
            .map(|vote| [PASS, FAIL, missing(Refused), missing(Pending)][usize::from(vote)])
            .collect();
        let jurors: Vec<Juror> = votes[1..].iter().map(|_| juror(1)).collect();
        let weighted = Voting::Weighted { weights };
        for voting in [&Voting::Majority, &weighted] {
            let early = tally(1, &jurors, voting, &votes[..cast.min(votes.len())]).outcome;
            if early.score().is_some() {
                prop_assert_eq!(tally(1, &jurors, voting, &votes).outcome, early);
            }
        }
    }

    #[test]
    fn the_order_of_votes_is_nothing(votes in proptest::collection::vec(0u8..3, 2..8), turn in 0usize..8) {
        let kinds = [PASS, FAIL, missing(Refused)];
        let votes: Vec<Outcome> = votes.into_iter().map(|v| kinds[usize::from(v)]).collect();
        let mut turned = votes.clone();
        turned.rotate_left(turn % votes.len());
        let samples = votes.len() as u32;
        prop_assert_eq!(majority(samples, &votes), majority(samples, &turned));
    }
}
