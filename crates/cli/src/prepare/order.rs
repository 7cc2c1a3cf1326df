//! In which order a run's leaves are claimed.
//!
//! Owns the order alone: leaves that share a prefix stand together, and one of each group stands
//! further ahead, so that its answer has warmed the provider's cache when the others' turn comes.

/// The groups' leaves, group after group, but for the first of each, which stands about `ahead`
/// leaves before the others of its group, or as far ahead as there are leaves. Not further: a
/// provider forgets a prefix that nobody asks with.
pub(super) fn claim_order<T>(groups: Vec<Vec<T>>, ahead: usize) -> Vec<T> {
    let mut order = Vec::with_capacity(groups.iter().map(Vec::len).sum());
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    // Groups before this one have sent their first leaf ahead.
    let mut led = 0;
    for at in 0..groups.len() {
        if led == at {
            order.extend(groups[at].next());
            led += 1;
        }
        let early = groups[at].len().saturating_sub(ahead);
        order.extend(groups[at].by_ref().take(early));
        let mut between: usize = groups[at..led].iter().map(ExactSizeIterator::len).sum();
        while led < groups.len() && (led == at + 1 || between < ahead) {
            order.extend(groups[led].next());
            between += groups[led].len();
            led += 1;
        }
        order.extend(groups[at].by_ref());
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(sizes: &[usize], ahead: usize) -> Vec<(usize, usize)> {
        let group = |(at, size): (usize, &usize)| (0..*size).map(|leaf| (at, leaf)).collect();
        claim_order(sizes.iter().enumerate().map(group).collect(), ahead)
    }

    #[test]
    fn small_groups_are_all_warmed_at_once() {
        let order = order(&[3, 2, 3], 100);
        assert_eq!(order[..3], [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(order[3..], [(0, 1), (0, 2), (1, 1), (2, 1), (2, 2)]);
    }

    #[test]
    fn a_large_group_is_not_overtaken_too_early() {
        let order = order(&[1_000, 1_000, 1_000], 100);
        let first = |group| order.iter().position(|leaf| *leaf == (group, 0));
        let second = |group| order.iter().position(|leaf| *leaf == (group, 1));
        assert_eq!((first(0), second(0)), (Some(0), Some(1)));
        assert_eq!((first(1), second(1)), (Some(900), Some(1_001)));
        assert_eq!((first(2), second(2)), (Some(1_900), Some(2_001)));
    }

    proptest! {
        #[test]
        fn every_leaf_is_there_once_and_its_groups_first_is_first(
            sizes in proptest::collection::vec(0usize..40, 0..12), ahead in 0usize..60,
        ) {
            let order = order(&sizes, ahead);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), order.len());
            prop_assert_eq!(order.len(), sizes.iter().sum::<usize>());
            for (at, _) in sizes.iter().enumerate().filter(|(_, size)| **size > 0) {
                let of: Vec<usize> =
                    order.iter().filter(|(group, _)| *group == at).map(|(_, leaf)| *leaf).collect();
                prop_assert!(of.is_sorted());
            }
        }
    }
}
