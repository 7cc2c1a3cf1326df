//! Rules of budgets: reserve before a call, settle after it.

use super::*;
use crate::budget::{
    Amount, Budget, Reservation, ReservationId, ReserveOutcome, Settlement, Spending,
};

fn amount(tokens: u64) -> Amount {
    Amount { micro_usd: 3 * tokens, tokens }
}

fn limit(tokens: u64) -> Budget {
    Budget { micro_usd: Some(3 * tokens), tokens: Some(tokens) }
}

fn reservation(claim: &Claim, tokens: u64) -> Reservation {
    let (run, position, sample, lease) = key(claim);
    let (id, amount) = (ReservationId::random(), amount(tokens));
    Reservation { id, run, position, sample, lease, amount }
}

// === impl Bench ===

impl Bench {
    async fn set_budget(&self, budget: Budget) -> u64 {
        let set = self.store.set_budget(&run_id(1), budget, Amount::default()).await;
        set.expect("a budget can be set")
    }

    async fn reserve(&self, reservations: &[&Reservation]) -> Vec<ReserveOutcome> {
        let reservations = reservations.iter().map(|reservation| (*reservation).clone());
        self.store.reserve(reservations.collect()).await.expect("reserve")
    }

    async fn settle(&self, reservation: &Reservation, tokens: u64) {
        let (run, id) = (reservation.run.clone(), reservation.id);
        let settled = self.store.settle(vec![Settlement { run, id, actual: amount(tokens) }]).await;
        settled.expect("settle");
    }

    /// Tokens spent and reserved; the money goes with them.
    async fn spent(&self) -> (u64, u64) {
        let totals = self.store.totals(&run_id(1)).await.expect("totals");
        let Spending { spent, reserved, .. } = totals.spending.expect("a budget");
        for part in [spent, reserved] {
            assert_eq!(part, amount(part.tokens));
        }
        (spent.tokens, reserved.tokens)
    }
}

/// What is spent and reserved never passes the budget; what a call did not cost is free again.
pub async fn reservations_stay_within_the_budget(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 6).await;
    assert_eq!(bench.set_budget(limit(100)).await, 0);
    let claims = bench.claim(6).await;
    assert!(claims.iter().all(|claim| claim.budgeted));
    let of = |at: usize, tokens| reservation(&claims[at], tokens);
    let (first, second, third, fourth) = (of(0, 60), of(1, 60), of(2, 40), of(3, 1));
    let outcomes = bench.reserve(&[&first, &second, &third, &fourth]).await;
    use ReserveOutcome::{Exhausted, Reserved};
    assert_eq!(outcomes, [Reserved, Exhausted, Reserved, Exhausted]);
    assert_eq!(bench.spent().await, (0, 100));
    bench.settle(&first, 10).await;
    assert_eq!(bench.spent().await, (10, 40));
    assert_eq!(bench.reserve(&[&of(4, 51), &of(4, 50)]).await, [Exhausted, Reserved]);
    bench.settle(&third, 40).await;
    assert_eq!(bench.spent().await, (50, 50));
    // One part of the budget is enough to refuse.
    bench.set_budget(Budget { micro_usd: None, tokens: Some(100) }).await;
    assert_eq!(bench.reserve(&[&fourth]).await, [Exhausted]);
    bench.set_budget(Budget { micro_usd: Some(303), tokens: None }).await;
    assert_eq!(bench.reserve(&[&fourth]).await, [Reserved]);
}

/// After answers that were not heard the same calls change nothing.
pub async fn reservations_and_settlements_count_once(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    bench.set_budget(limit(100)).await;
    let claim = bench.claim_one().await;
    let first = reservation(&claim, 60);
    for _ in 0..2 {
        let outcomes = bench.reserve(&[&first, &first]).await;
        assert_eq!(outcomes, [ReserveOutcome::Reserved; 2]);
    }
    assert_eq!(bench.spent().await, (0, 60));
    for _ in 0..2 {
        bench.settle(&first, 30).await;
    }
    bench.settle(&reservation(&claim, 60), 50).await;
    assert_eq!(bench.spent().await, (30, 0));
}

/// A call whose outcome nobody tells is charged its reservation; a lost lease reserves nothing.
pub async fn an_unknown_outcome_stays_charged(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    bench.set_budget(limit(100)).await;
    let claims = bench.claim(2).await;
    let (lost, failed) = (reservation(&claims[0], 30), reservation(&claims[1], 20));
    bench.reserve(&[&lost, &failed]).await;
    bench.fail(&claims[1], FailureClass::Transient, Some(0)).await;
    assert_eq!(bench.spent().await, (20, 30));
    bench.clock.advance(TTL_MS);
    let late = reservation(&claims[0], 1);
    assert_eq!(bench.reserve(&[&late]).await, [ReserveOutcome::Fenced]);
    bench.claim(3).await;
    assert_eq!(bench.spent().await, (50, 0));
    // The answer came after all.
    bench.settle(&lost, 5).await;
    assert_eq!(bench.spent().await, (25, 0));
    let unknown = Reservation { run: run_id(200), ..late };
    assert_eq!(bench.reserve(&[&unknown]).await, [ReserveOutcome::Fenced]);
}

/// Without a budget every call may be made and nothing is counted; what was spent meanwhile
/// counts against a budget that comes later.
pub async fn a_budget_may_come_late_and_grow(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 4).await;
    let claim = bench.claim_one().await;
    assert!(!claim.budgeted);
    let free = reservation(&claim, 1 << 40);
    assert_eq!(bench.reserve(&[&free]).await, [ReserveOutcome::Reserved]);
    bench.settle(&free, 70).await;
    let totals = bench.store.totals(&run_id(1)).await.expect("totals");
    assert_eq!(totals.spending, None);
    bench.complete(&claim, graded(1.0)).await;

    let set = bench.store.set_budget(&run_id(1), limit(100), amount(70)).await;
    assert_eq!(set.expect("set"), 0);
    assert_eq!(bench.spent().await, (70, 0));
    let claims = bench.claim(3).await;
    assert_eq!(bench.reserve(&[&reservation(&claims[0], 31)]).await, [ReserveOutcome::Exhausted]);
    let out_of = |reason| Outcome::Ungraded { reason };
    bench.complete(&claims[0], out_of(UngradedReason::Budget)).await;
    bench.complete(&claims[1], out_of(UngradedReason::Refused)).await;
    bench.complete(&claims[2], graded(0.0)).await;
    assert_eq!(bench.set_budget(limit(100)).await, 0, "the same budget holds no more");
    assert_eq!(bench.set_budget(limit(90)).await, 0);
    assert_eq!(bench.set_budget(limit(200)).await, 1);
    assert_eq!(bench.counts().await, [1, 0, 3, 0, 0]);
    assert_eq!(positions(&bench.claim(9).await), [1], "what ended for want of budget");
    assert_eq!(bench.spent().await, (70, 0));
}
