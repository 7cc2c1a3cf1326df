//! What a tuning says before it spends: what can be seen, how often it would be found, what that costs.
//!
//! Owns both announcements, before the first call and again once the baseline's own rates and flips are
//! known, and the refusal of what cannot be seen. The figures are `tribunal_tune`'s.

use anyhow::ensure;
use tribunal_tune::{
    Entry as Racer, Rules, Split, Tuning,
    document::Projection,
    noise::{NoiseFloor, Visible},
    power::{self, Basis, Power, Rates},
    race::BASELINE,
    sample::{Drawn, drawn, order},
};

use super::{Tune, text};
use crate::{
    output::counted,
    progress::note,
    tune::{bench::Bench, drafts::Judged},
};

/// Simulated tunings behind an announced power.
const SIMULATIONS: usize = 200;

/// The same where the questions alone are wanted.
const FEWER_SIMULATIONS: usize = 40;

/// Resamples of each of their tests.
const SIMULATED_RESAMPLES: usize = 300;

/// Leaves that the baseline is repeated on.
const REPEATED_LEAVES: usize = 60;

// === impl Tune ===

impl Tune<'_> {
    pub(super) fn racers(&self, bench: &Bench<'_>) -> Vec<Racer> {
        let racer = |of: &Judged| Racer { seen: of.candidate.seen.clone(), cost: of.usd_a_leaf };
        bench.judged.iter().map(racer).collect()
    }

    /// Those that are given, and as many as are to be proposed, which cost about what the baseline does.
    fn racers_to_come(&self, bench: &Bench<'_>) -> Vec<Racer> {
        let mut racers = self.racers(bench);
        let proposed = Racer { seen: Vec::new(), cost: racers[BASELINE].cost };
        racers.extend(vec![proposed; self.args.propose]);
        racers
    }

    /// How this tuning would go if the baseline had these rates: where no effect is wanted, for
    /// candidates that are all alike.
    fn simulated(&self, racers: &[Racer], rates: &Rates) -> Power {
        let rules = Rules { resamples: SIMULATED_RESAMPLES, ..self.rules };
        let tuning = Tuning {
            labels: self.labels,
            split: self.split,
            entries: racers,
            rules: &rules,
            seed: self.args.seed,
        };
        let (effect, simulations) = match self.args.target_effect {
            Some(effect) => (effect, SIMULATIONS),
            None => (0.0, FEWER_SIMULATIONS),
        };
        power::announce(&tuning, effect, rates, self.document.visible.discordant, simulations)
    }

    /// Says what can be seen and what it will cost, before the first call.
    ///
    /// # Errors
    ///
    /// The effect wanted cannot be seen, and nobody forces it.
    pub(super) fn project(&mut self, bench: &Bench<'_>) -> anyhow::Result<()> {
        let racers = self.racers_to_come(bench);
        let tuning = Tuning {
            labels: self.labels,
            split: self.split,
            entries: &racers,
            rules: &self.rules,
            seed: self.args.seed,
        };
        let most = tuning.planned();
        let repeated = match self.args.repeats {
            0 | 1 => 0,
            repeats => self.repeated_leaves().len() * (repeats as usize - 1),
        };
        let folds = self.split.folds();
        let pool: usize = match self.split {
            Split::Papers { .. } => self.labels.of_papers(&folds[0].dev).len(),
            Split::LeaveOnePaperOut { .. } => self.labels.leaves.len(),
        };
        let simulated = self.simulated(&racers, &self.rates);
        let questions = most.raced + most.tested + repeated;
        let expected = (simulated.questions.round() as usize + repeated).min(questions);
        let own = racers[BASELINE].cost;
        let cost = most.usd.zip(own).map(|(usd, own)| usd + own * repeated as f64);
        let mean = racers.iter().map(|of| of.cost).sum::<Option<f64>>();
        let mean = mean.map(|sum| sum / racers.len() as f64 * expected as f64);
        self.document.projection = Projection {
            questions,
            expected_questions: expected,
            full_factorial: racers.len() * pool + most.tested + repeated,
            proposals: self.args.propose,
            cost_usd: cost,
            expected_cost_usd: mean.zip(cost).map(|(mean, most)| mean.min(most)),
        };
        if self.args.target_effect.is_some() {
            self.document.power = Some(simulated);
            self.document.power_before = Some(simulated);
        }
        let refused = self.refuse_unseen();
        // A plan that is not refused stands on standard output.
        if !self.args.plan || refused.is_err() {
            self.tell(text::plan(&self.document));
        }
        refused
    }

    /// Says the same again with what the baseline's repeats have shown.
    ///
    /// # Errors
    ///
    /// The effect wanted cannot be seen, and nobody forces it.
    pub(super) fn project_again(
        &mut self,
        bench: &Bench<'_>,
        repeated: &[usize],
        votes: &[(u32, u32)],
    ) -> anyhow::Result<()> {
        self.document.noise = NoiseFloor::of(votes);
        let test = self.labels.of_papers(&self.split.test_papers());
        self.document.visible =
            Visible::of(self.labels.classes(&test), self.document.noise.as_ref());
        let measured = Rates::measured(self.labels, &self.drawn(repeated.len()), votes);
        if let Some(measured) = measured.filter(|_| self.rates.basis == Basis::Assumed) {
            self.rates = measured;
        }
        if self.args.target_effect.is_some() {
            let racers = self.racers_to_come(bench);
            self.document.power = Some(self.simulated(&racers, &self.rates));
        }
        self.tell(text::noise(&self.document));
        self.refuse_unseen()
    }

    fn tell(&self, lines: Vec<String>) {
        if !self.args.pool.quiet {
            lines.iter().for_each(|line| note(line));
        }
    }

    fn refuse_unseen(&self) -> anyhow::Result<()> {
        let visible = self.document.visible;
        if let Some(effect) = self.args.target_effect.filter(|_| !self.args.force) {
            let least = visible.smallest_effect.unwrap_or(1.0);
            ensure!(
                effect >= least,
                "an improvement of {:.1} points cannot be seen reliably: on {} the test shows {:.1} points \
                 8 times of 10, and less more seldom. Label more leaves, want more, or go on with --force",
                effect * 100.0,
                counted(visible.leaves, "leaf", "leaves"),
                least * 100.0
            );
        }
        Ok(())
    }

    /// The first leaves of the race, or of that over all papers.
    fn drawn(&self, leaves: usize) -> Vec<Drawn> {
        let papers = match self.split {
            Split::Papers { dev, .. } => dev.clone(),
            Split::LeaveOnePaperOut { papers } => (0..*papers).collect(),
        };
        let order = order(self.labels, &self.labels.of_papers(&papers), self.args.seed);
        drawn(self.labels, &order, leaves)
    }

    /// The leaves on which the baseline is asked again: of the race's first ones.
    pub(super) fn repeated_leaves(&self) -> Vec<usize> {
        self.drawn(REPEATED_LEAVES).into_iter().map(|drawn| drawn.leaf).collect()
    }
}
