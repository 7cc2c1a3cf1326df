//! What the simulated judge decides about a leaf.
//!
//! Owns the choice between the two rules: drawn around a human's grade where there is one, else by
//! the criterion's terms in the evidence. It knows nothing of forms or wires, and nothing of time:
//! the same question has the same verdict, whatever was asked before.

pub(crate) mod labels;
pub(crate) mod lexical;
pub(crate) mod obey;
pub(crate) mod rates;
pub(crate) mod terms;

use tribunal_core::Category;

use crate::{
    chance,
    config::SimConfig,
    error::SimError,
    profile::{Instructions, Profile},
    question::Question,
    segment::Segment,
    verdict::{
        labels::Labels,
        lexical::{Match, Quote},
        rates::{Rate, Rates},
    },
};

/// Decides questions.
pub(crate) struct Judge {
    seed: u64,
    gullible: bool,
    labels: Option<Labels>,
    rates: Rates,
    profile: Option<Profile>,
}

/// One question with everything that may change its verdict.
pub(crate) struct Ask<'a> {
    pub(crate) question: &'a Question,
    /// The texts of the prompt, whose evidence is looked at.
    pub(crate) prompt: &'a [&'a Segment],
    pub(crate) model: &'a str,
    /// The `seed` of the request.
    pub(crate) request_seed: Option<i64>,
    /// What the prompt itself says.
    pub(crate) instructions: Instructions<'a>,
}

/// A verdict and its grounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    /// 0 or 1; anything between for a subtree.
    pub(crate) score: f64,
    /// In [0, 1].
    pub(crate) confidence: f64,
    /// Lines that stand in the evidence as they are here.
    pub(crate) quotes: Vec<Quote>,
    /// Share of the criterion's terms that the evidence holds, in [0, 1], rare ones weighing more.
    pub(crate) coverage: f64,
    pub(crate) basis: Basis,
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// A human's grade.
    Label,
    /// The terms, for want of labels.
    Terms,
    /// The terms, because no label belongs to the criterion.
    Unlabelled,
    /// Text of the submission that asks for a full score.
    Obeyed,
}

// === impl Judge ===

impl Judge {
    /// A judge with the labels and rates that the config names.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not what it should be.
    pub(crate) fn new(config: &SimConfig) -> Result<Judge, SimError> {
        let labels = match config.labels.as_slice() {
            [] => None,
            files => Some(Labels::read(files)?),
        };
        Ok(Judge {
            seed: config.seed,
            gullible: config.gullible,
            labels,
            rates: Rates::new(config)?,
            profile: config.profile_file.as_deref().map(Profile::read).transpose()?,
        })
    }

    /// The verdict on one leaf.
    pub(crate) fn decide(&self, ask: &Ask<'_>) -> Decision {
        let matched = lexical::best_match(ask.question, ask.prompt.iter().map(|s| s.evidence()));
        if self.gullible && ask.prompt.iter().any(|segment| segment.order().is_some()) {
            let (quotes, coverage) = (matched.quotes, matched.coverage);
            return Decision {
                score: 1.0,
                confidence: 0.99,
                quotes,
                coverage,
                basis: Basis::Obeyed,
            };
        }
        match &self.labels {
            None => by_terms(ask.question, matched, Basis::Terms),
            Some(labels) => match labels.grade(ask.question) {
                Some(human) => self.around(human, ask, matched),
                None => by_terms(ask.question, matched, Basis::Unlabelled),
            },
        }
    }

    /// A verdict drawn around the human's grade, for each criterion with its context and evidence by
    /// itself.
    fn around(&self, human: f64, ask: &Ask<'_>, matched: Match) -> Decision {
        let (score, confidence) = if ask.question.category == Some(Category::Subtree) {
            (human, 0.9)
        } else {
            let human = human >= 0.5;
            let rates = self.rate(ask);
            let right = if human { rates.sensitivity } else { rates.specificity };
            let correct = self.draw_anew("verdict", ask) < right;
            let spread = self.draw("confidence", ask);
            // A wrong judge is less sure, but not so much that confidence gives it away.
            let confidence = if correct { 0.7 + 0.29 * spread } else { 0.5 + 0.4 * spread };
            (f64::from(u8::from(human == correct)), confidence)
        };
        Decision {
            score,
            confidence: rounded(confidence),
            quotes: matched.quotes,
            coverage: matched.coverage,
            basis: Basis::Label,
        }
    }

    fn rate(&self, ask: &Ask<'_>) -> Rate {
        let category = ask.question.category;
        let rate = self.rates.of(category);
        let shifted = |profile: &Profile| profile.rate(rate, ask.instructions, category, ask.model);
        self.profile.as_ref().map_or(rate, shifted)
    }

    /// A number that another prompt shares, except where prompts make up their mind anew.
    fn draw_anew(&self, drawn: &str, ask: &Ask<'_>) -> f64 {
        let anew = |profile: &Profile| profile.churns(self.draw("churn", ask));
        if !self.profile.as_ref().is_some_and(anew) {
            return self.draw(drawn, ask);
        }
        let Instructions { system, question } = ask.instructions;
        let own = self.draw(drawn, ask).to_le_bytes();
        chance::uniform(self.seed, "anew", &[&own, system.as_bytes(), question.as_bytes()])
    }

    /// The answer to a request for a better prompt; `None` where there is no such request.
    pub(crate) fn propose(&self, request: &str) -> Option<String> {
        match &self.profile {
            Some(profile) => profile.propose(request, self.seed),
            None => Profile::default().propose(request, self.seed),
        }
    }

    fn draw(&self, drawn: &str, ask: &Ask<'_>) -> f64 {
        let question = ask.question;
        let category = question.category.map_or("", Category::name);
        let seed = ask.request_seed.map(i64::to_le_bytes);
        let context = question.context.join("\n");
        let mut fields = vec![
            ask.model.as_bytes(),
            category.as_bytes(),
            question.requirement.as_bytes(),
            context.as_bytes(),
            seed.as_ref().map_or(&[], |seed| seed.as_slice()),
        ];
        // The same criterion of another submission is another question.
        fields
            .extend(ask.prompt.iter().filter_map(|segment| segment.shown()).map(|h| h.as_slice()));
        chance::uniform(self.seed, drawn, &fields)
    }
}

/// A verdict by how much of the criterion stands in the evidence.
fn by_terms(question: &Question, matched: Match, basis: Basis) -> Decision {
    let score = if question.category == Some(Category::Subtree) {
        rounded(matched.coverage)
    } else {
        f64::from(u8::from(matched.coverage >= lexical::THRESHOLD))
    };
    let distance = (matched.coverage - lexical::THRESHOLD).abs();
    Decision {
        score,
        confidence: rounded((0.5 + distance).min(0.99)),
        quotes: matched.quotes,
        coverage: matched.coverage,
        basis,
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
