//! How files are chosen where a category's evidence exceeds its budget.
//!
//! Owns what each method would cost and the choice of the cheapest. Which files come of it is the
//! worker's, leaf by leaf.

use tribunal_core::{Prices, SelectionMethod};

/// What a cached token costs of a fresh one where no price says so: servers of one's own cache
/// prefixes too.
const ASSUMED_DISCOUNT: f64 = 0.5;

/// What a token of a reply costs of a fresh one of the prompt, where no price says so.
const ASSUMED_OUTPUT: f64 = 4.0;

/// Tokens of a question for files behind the shared prefix, and of its answer.
const RANK_INPUT: f64 = 400.0;
const RANK_OUTPUT: f64 = 150.0;

/// How many leaves a category has, and how many parents they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Leaves.
    pub(crate) leaves: usize,
    /// Groups of leaves with one parent.
    pub(crate) groups: usize,
}

/// What the prompts are made of, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prompted {
    /// What all leaves are shown.
    pub(crate) shared: usize,
    /// Files that are chosen for a leaf.
    pub(crate) files: usize,
}

// === impl Load ===

impl Load {
    /// What is assumed where no rubric is at hand: groups as published rubrics have them.
    pub(crate) const ASSUMED: Load = Load { leaves: 100, groups: 30 };
}

/// The cheapest method for these prices, all of them showing as many tokens of files. Where two cost
/// the same, the one that looks at each leaf by itself.
pub(crate) fn cheapest(prices: Option<Prices>, load: Load, prompted: Prompted) -> SelectionMethod {
    let order = [
        SelectionMethod::Lexical,
        SelectionMethod::LexicalShared,
        SelectionMethod::Judge,
        SelectionMethod::JudgeShared,
    ];
    let costs = order.map(|method| (method, cost(method, prices, load, prompted)));
    let cheaper = |best: (SelectionMethod, f64), next: (SelectionMethod, f64)| {
        if next.1 < best.1 { next } else { best }
    };
    costs.into_iter().reduce(cheaper).map_or(SelectionMethod::Lexical, |(method, _)| method)
}

/// What the files of all leaves cost with this method, rankings included. What costs the same with
/// every method is left out.
fn cost(method: SelectionMethod, prices: Option<Prices>, load: Load, prompted: Prompted) -> f64 {
    let (input, cached, output) = match prices {
        Some(prices) if prices.input > 0.0 => (prices.input, prices.cached_input, prices.output),
        _ => (1.0, ASSUMED_DISCOUNT, ASSUMED_OUTPUT),
    };
    let (leaves, groups) = (load.leaves as f64, load.groups as f64);
    let (shared, files) = (prompted.shared as f64, prompted.files as f64);
    let read = match method.is_shared() {
        true => groups * files * input + (leaves - groups) * files * cached,
        false => leaves * files * input,
    };
    let rankings = match method {
        SelectionMethod::Judge => leaves,
        SelectionMethod::JudgeShared => groups,
        SelectionMethod::Lexical | SelectionMethod::LexicalShared => 0.0,
    };
    read + rankings * (shared * cached + RANK_INPUT * input + RANK_OUTPUT * output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPTED: Prompted = Prompted { shared: 20_000, files: 30_000 };

    fn prices(input: f64, cached_input: f64) -> Option<Prices> {
        Some(Prices { input, cached_input, output: 8.0, batch_factor: 1.0 })
    }

    #[test]
    fn a_discount_on_cached_tokens_makes_siblings_share() {
        let load = Load { leaves: 100, groups: 20 };
        let chosen = |prices| cheapest(prices, load, PROMPTED);
        assert_eq!(chosen(prices(2.0, 0.5)), SelectionMethod::LexicalShared);
        assert_eq!(chosen(prices(2.0, 2.0)), SelectionMethod::Lexical, "no discount");
        assert_eq!(chosen(None), SelectionMethod::LexicalShared);
        assert_eq!(chosen(prices(0.0, 0.0)), SelectionMethod::LexicalShared);
        let alone = Load { leaves: 100, groups: 100 };
        assert_eq!(cheapest(prices(2.0, 0.5), alone, PROMPTED), SelectionMethod::Lexical);
    }

    #[test]
    fn costs_are_those_of_the_calls() {
        let load = Load { leaves: 10, groups: 2 };
        let of = |method| cost(method, prices(2.0, 0.5), load, PROMPTED);
        assert_eq!(of(SelectionMethod::Lexical), 10.0 * 30_000.0 * 2.0);
        let shared = 2.0 * 30_000.0 * 2.0 + 8.0 * 30_000.0 * 0.5;
        assert_eq!(of(SelectionMethod::LexicalShared), shared);
        let ranking = 20_000.0 * 0.5 + 400.0 * 2.0 + 150.0 * 8.0;
        assert_eq!(of(SelectionMethod::JudgeShared), shared + 2.0 * ranking);
        assert_eq!(of(SelectionMethod::Judge), 600_000.0 + 10.0 * ranking);
    }
}
