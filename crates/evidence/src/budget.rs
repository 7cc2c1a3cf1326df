//! How the model's window is divided.
//!
//! Owns the order of cutting: the log is held to half the window; where paper and log leave too
//! little, first the log is cut, then the paper; the files get the rest. All numbers are tokens.

/// Kept free for instructions, the criterion with the nodes before it, and miscounts.
const RESERVE: usize = 10_000;

/// The share of the window kept free where [`RESERVE`] would be most of it.
const RESERVE_SHARE: usize = 4;

/// What has to share the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Paper.
    pub paper: usize,
    /// Addenda.
    pub addenda: usize,
    /// The reproduction's script.
    pub script: usize,
    /// The reproduction's reduced log.
    pub log: usize,
}

/// What each part may take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Paper.
    pub paper: usize,
    /// Addenda.
    pub addenda: usize,
    /// The reproduction's script.
    pub script: usize,
    /// The reproduction's log.
    pub log: usize,
    /// The directory tree and all files together.
    pub files: usize,
}

// === impl Budget ===

impl Budget {
    /// Divides a window of `window` tokens, of which `output` are kept for the answer. `files`
    /// limits the files below what is left; `None` does not.
    pub fn divide(window: usize, output: usize, parts: Parts, files: Option<usize>) -> Budget {
        let reserve = RESERVE.min(window / RESERVE_SHARE);
        let mut left = window.saturating_sub(output).saturating_sub(reserve);
        let mut take = |wanted: usize, most: usize| {
            let taken = wanted.min(most).min(left);
            left -= taken;
            taken
        };
        // Files must not vanish behind a long paper: a quarter of what there is stays theirs.
        let room = window.saturating_sub(output + reserve);
        let fixed = room - room / 4;
        let addenda = take(parts.addenda, fixed / 4);
        let script = take(parts.script, fixed / 4);
        let paper = take(parts.paper, fixed - addenda - script);
        let log = take(parts.log, (window / 2).min(fixed - addenda - script - paper));
        let files = files.unwrap_or(left).min(left);
        Budget { paper, addenda, script, log, files }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_log_is_cut_before_the_paper() {
        let parts = Parts { paper: 60_000, addenda: 500, script: 500, log: 200_000 };
        let budget = Budget::divide(128_000, 2_000, parts, None);
        assert_eq!(budget.paper, 60_000);
        assert!(budget.log < 64_000 && budget.files > 20_000, "{budget:?}");
    }

    proptest! {
        #[test]
        fn the_window_is_never_exceeded(
            window in 0usize..2_000_000, output in 0usize..200_000,
            paper in 0usize..1_000_000, addenda in 0usize..100_000,
            script in 0usize..100_000, log in 0usize..5_000_000,
            files in proptest::option::of(0usize..1_000_000),
        ) {
            let parts = Parts { paper, addenda, script, log };
            let b = Budget::divide(window, output, parts, files);
            let used = b.paper + b.addenda + b.script + b.log + b.files;
            prop_assert!(used == 0 || used + output <= window);
            prop_assert!(b.paper <= paper && b.log <= log.min(window / 2));
        }
    }
}
