//! Which leaf of a rubric a user means.
//!
//! Owns the two ways of naming one, `#N` and the id, and what is said where a name fits none or
//! several. Published rubrics repeat ids, so an id may not be enough.

use std::{convert::Infallible, fmt, str::FromStr};

use tribunal_core::{Category, Rubric, canary};

/// Places that are named where an id stands at several.
const PLACES_SHOWN: usize = 20;

/// A leaf as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeafName {
    /// `#N`: the 0-based depth-first leaf index in the unpruned rubric.
    Index(u32),
    /// The node's id.
    Id(String),
}

/// A name that is not one leaf's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeafError {
    /// Nothing has it.
    #[error(
        "no leaf `{name}`: {hint}the rubric's leaves are #0 to #{last}, and `tribunal rubric show` \
         lists their ids", hint = hint(.name)
    )]
    Unknown {
        /// The name.
        name: LeafName,
        /// Index of the last leaf of the unpruned rubric.
        last: u32,
    },
    /// Several leaves have the id.
    #[error("`{id}` is the id of {count} leaves; name one of them: {places}")]
    Ambiguous {
        /// The id.
        id: String,
        /// How many have it.
        count: usize,
        /// Their `#N`s.
        places: String,
    },
    /// The id is an inner node's.
    #[error("`{id}` is a group, not a leaf; its leaves are #{first} to #{last}")]
    Group {
        /// The id.
        id: String,
        /// Index of its first leaf.
        first: u32,
        /// Index of its last leaf.
        last: u32,
    },
    /// The leaf lies below a node that is graded as one.
    #[error("leaf `{name}` is graded as part of `{part_of}`, over all below it; name that")]
    Cut {
        /// The name.
        name: LeafName,
        /// Id of the node.
        part_of: String,
    },
    /// The leaf is in the file but not graded.
    #[error("leaf `{name}` is not graded: the run's options leave {category} leaves out")]
    LeftOut {
        /// The name.
        name: LeafName,
        /// Its category.
        category: Category,
    },
}

/// Index, among the nodes of `graded`, of the leaf that `name` means. `whole` is the unpruned
/// rubric that `graded` was made of.
///
/// # Errors
///
/// The name fits no leaf, or several; or the leaf that it fits is not graded by itself.
pub(crate) fn find(name: &LeafName, graded: &Rubric, whole: &Rubric) -> Result<usize, LeafError> {
    match name {
        LeafName::Index(wanted) => {
            let is = |leaf: Option<u32>| leaf == Some(*wanted);
            if let Some((index, _)) = graded.leaves().find(|(_, node)| is(node.leaf_index())) {
                return Ok(index);
            }
            let at = whole.leaves().find(|(_, node)| is(node.leaf_index()));
            Err(not_graded(name, at.map(|(at, _)| at), graded, whole))
        }
        LeafName::Id(id) => {
            let found: Vec<usize> =
                graded.leaves().filter(|(_, node)| node.id == *id).map(|(at, _)| at).collect();
            match found[..] {
                [index] => Ok(index),
                [] => {
                    let at = whole.leaves().find(|(_, node)| node.id == *id);
                    Err(at.map_or_else(
                        || group(id, whole).unwrap_or_else(|| unknown(name, whole)),
                        |(at, _)| not_graded(name, Some(at), graded, whole),
                    ))
                }
                _ => Err(ambiguous(id, &found, graded)),
            }
        }
    }
}

/// A number alone is an id, but was hardly meant as one.
fn hint(name: &LeafName) -> String {
    match name {
        LeafName::Id(id) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("leaf number {id} is '#{id}'; ")
        }
        _ => String::new(),
    }
}

fn unknown(name: &LeafName, whole: &Rubric) -> LeafError {
    let last = whole.leaves().filter_map(|(_, node)| node.leaf_index()).max();
    LeafError::Unknown { name: name.clone(), last: last.unwrap_or_default() }
}

/// Why the leaf at this index of the unpruned rubric is not graded by itself.
fn not_graded(name: &LeafName, at: Option<usize>, graded: &Rubric, whole: &Rubric) -> LeafError {
    let Some(at) = at else { return unknown(name, whole) };
    let node = &whole.nodes()[at];
    let above = whole.ancestors(at).into_iter().find_map(|ancestor| {
        let index = graded.by_position(whole.nodes()[ancestor].position())?;
        Some(&graded.nodes()[index]).filter(|node| node.is_leaf())
    });
    match (above, node.category) {
        (Some(above), _) => LeafError::Cut { name: name.clone(), part_of: above.id.clone() },
        (None, Some(category)) => LeafError::LeftOut { name: name.clone(), category },
        (None, None) => unknown(name, whole),
    }
}

fn group(id: &str, whole: &Rubric) -> Option<LeafError> {
    let at = whole.nodes().iter().position(|node| node.id == id)?;
    let below = &whole.nodes()[at..whole.end(at)];
    let first = below.iter().find_map(|node| node.leaf_index())?;
    let last = below.iter().rev().find_map(|node| node.leaf_index())?;
    Some(LeafError::Group { id: id.to_owned(), first, last })
}

fn ambiguous(id: &str, found: &[usize], graded: &Rubric) -> LeafError {
    let place = |at: &usize| {
        let node = &graded.nodes()[*at];
        match node.leaf_index() {
            Some(leaf) => format!("#{leaf}"),
            // A cut node is no leaf of the file.
            None => format!("the group at position {}", node.position()),
        }
    };
    let mut places: Vec<String> = found.iter().take(PLACES_SHOWN).map(place).collect();
    if found.len() > PLACES_SHOWN {
        places.push("…".to_owned());
    }
    LeafError::Ambiguous { id: id.to_owned(), count: found.len(), places: places.join(", ") }
}

// === impl LeafName ===

impl LeafName {
    /// The position of the canary that this names, where a run has so many: `canary-N`, which is
    /// also its id in the queue.
    pub(crate) fn canary(&self, planted: usize) -> Option<u32> {
        let LeafName::Id(id) = self else { return None };
        let n: usize = id.strip_prefix("canary-")?.parse().ok()?;
        (n < planted).then_some(canary::FIRST_POSITION + u32::try_from(n).ok()?)
    }
}

impl FromStr for LeafName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let index = text.strip_prefix('#').filter(digits).and_then(|digits| digits.parse().ok());
        Ok(index.map_or_else(|| LeafName::Id(text.to_owned()), LeafName::Index))
    }
}

impl fmt::Display for LeafName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeafName::Index(index) => write!(f, "#{index}"),
            LeafName::Id(id) => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tribunal_core::run::GradeOptions;

    use super::*;

    fn node(id: &str, category: Option<&str>, children: Vec<Value>) -> Value {
        json!({
            "id": id, "requirements": format!("About {id}."), "weight": 1,
            "task_category": category, "sub_tasks": children,
        })
    }

    /// Leaves: a #0, twice #1, b #2, twice #3, c #4.
    fn rubric() -> Rubric {
        let code = Some("Code Development");
        let tree = node(
            "root",
            None,
            vec![
                node("a", code, vec![]),
                node(
                    "group",
                    None,
                    vec![node("twice", code, vec![]), node("b", Some("Code Execution"), vec![])],
                ),
                node("twice", code, vec![]),
                node("c", Some("Result Analysis"), vec![]),
            ],
        );
        Rubric::parse("rubric.json", tree.to_string().as_bytes()).expect("valid")
    }

    fn find_in(name: &str, options: GradeOptions) -> Result<String, LeafError> {
        let whole = rubric();
        let graded = options.apply(whole.clone()).expect("something is left");
        let name: LeafName = name.parse().unwrap_or_else(|never| match never {});
        find(&name, &graded, &whole).map(|index| graded.nodes()[index].id.clone())
    }

    #[test]
    fn names_are_indices_or_ids() {
        let all = |name| find_in(name, GradeOptions::default()).map_err(|error| error.to_string());
        assert_eq!(all("#0").as_deref(), Ok("a"));
        assert_eq!(all("#3").as_deref(), Ok("twice"));
        assert_eq!(all("b").as_deref(), Ok("b"));
        let ambiguous = all("twice").expect_err("two");
        assert!(ambiguous.contains("2 leaves") && ambiguous.ends_with("#1, #3"), "{ambiguous}");
        let group = all("group").expect_err("inner");
        assert!(group.contains("#1 to #2"), "{group}");
        for unknown in ["#5", "#99999999999", "#", "#x", "d", ""] {
            let said = all(unknown).expect_err("none");
            assert!(said.contains("#0 to #4") && said.contains(unknown), "{said}");
        }
        assert!(all("3").expect_err("none").contains("leaf number 3 is '#3'"));
    }

    #[test]
    fn a_canary_has_a_name_where_it_is_planted() {
        let canary = |name: &str| name.parse().map(|name: LeafName| name.canary(2));
        assert_eq!(canary("canary-1"), Ok(Some(canary::FIRST_POSITION + 1)));
        for name in ["canary-2", "canary-", "canary-x", "#1", "1"] {
            assert_eq!(canary(name), Ok(None), "{name}");
        }
    }

    #[test]
    fn what_is_pruned_says_so() {
        let code_only = GradeOptions { code_only: true, ..GradeOptions::default() };
        // The indices stay those of the unpruned rubric.
        assert_eq!(find_in("#3", code_only).as_deref(), Ok("twice"));
        for name in ["#2", "b"] {
            let error = find_in(name, code_only).expect_err("left out");
            assert!(matches!(error, LeafError::LeftOut { .. }), "{error}");
        }
        let cut = GradeOptions { max_depth: Some(2), ..GradeOptions::default() };
        assert_eq!(find_in("group", cut).as_deref(), Ok("group"));
        assert_eq!(find_in("twice", cut).as_deref(), Ok("twice"));
        let error = find_in("#2", cut).expect_err("below");
        assert_eq!(error.to_string().split('`').nth(3), Some("group"), "{error}");
    }
}
