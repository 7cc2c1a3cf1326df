//! A LEAF on the command line: `#N`, or an id.
//!
//! Owns finding the one leaf that is meant. Published rubrics repeat ids, so an id may not be
//! enough; then the positions are listed, never one of them taken.

use anyhow::bail;
use tribunal_core::{Category, Rubric, rubric::Node};

/// Positions that an ambiguous id lists.
const LISTED: usize = 20;

/// The index in `graded` of the leaf that `name` means: `#N`, the 0-based depth-first leaf index in
/// `whole`, or an id. `whole` is the rubric as in its file, `graded` what is graded of it.
///
/// # Errors
///
/// There is no such leaf, it is not graded by itself, or the id is that of several leaves.
pub(crate) fn find(name: &str, whole: &Rubric, graded: &Rubric) -> anyhow::Result<usize> {
    if let Some(number) = name.strip_prefix('#').and_then(|number| number.parse::<u32>().ok()) {
        return by_number(number, whole, graded);
    }
    let found: Vec<(usize, &Node)> = graded.leaves().filter(|(_, node)| node.id == name).collect();
    match found[..] {
        [(index, _)] => Ok(index),
        [] => match whole.nodes().iter().position(|node| node.id == name) {
            Some(index) if whole.nodes()[index].is_leaf() => not_graded(name, index, whole, graded),
            Some(_) => bail!("`{name}` is an inner node of the rubric, not a leaf"),
            None => bail!("the rubric has no leaf `{name}`; `tribunal rubric show` lists them"),
        },
        _ => {
            let place = |(_, node): &(usize, &Node)| match node.leaf_index() {
                Some(number) => format!("#{number}"),
                None => format!("the cut node at position {}", node.position()),
            };
            let places: Vec<String> = found.iter().take(LISTED).map(place).collect();
            let more = found.len() - places.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            bail!(
                "`{name}` is the id of {} leaves: {}{more}. Name one by its number",
                found.len(),
                places.join(", ")
            );
        }
    }
}

fn by_number(number: u32, whole: &Rubric, graded: &Rubric) -> anyhow::Result<usize> {
    let Some((index, node)) = whole.leaves().nth(number as usize) else {
        let last = whole.leaf_count() - 1;
        bail!("there is no leaf #{number}: the rubric's leaves are #0 to #{last}");
    };
    match graded.by_position(node.position()) {
        Some(found) => Ok(found),
        None => not_graded(&format!("#{number}"), index, whole, graded),
    }
}

/// Says what becomes of a leaf that is in the rubric but not graded by itself.
fn not_graded(name: &str, index: usize, whole: &Rubric, graded: &Rubric) -> anyhow::Result<usize> {
    let cut = whole.ancestors(index).into_iter().find_map(|above| {
        let above = graded.by_position(whole.nodes()[above].position())?;
        Some(&graded.nodes()[above]).filter(|node| node.category == Some(Category::Subtree))
    });
    match cut {
        Some(cut) => {
            bail!("{name} is not graded by itself but as part of the cut node `{}`", cut.id)
        }
        None => bail!("{name} is not graded: only Code Development leaves are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUBRIC: &str = r#"{"id": "root", "requirements": "r", "weight": 1, "sub_tasks": [
        {"id": "g", "requirements": "g", "weight": 1, "sub_tasks": [
            {"id": "a", "requirements": "a", "weight": 1, "sub_tasks": [],
                "task_category": "Code Development"},
            {"id": "b", "requirements": "b", "weight": 1, "sub_tasks": [],
                "task_category": "Code Execution"}]},
        {"id": "a", "requirements": "c", "weight": 1, "sub_tasks": [],
            "task_category": "Code Development"}]}"#;

    #[test]
    fn a_leaf_is_found_or_said_why_not() {
        let whole = Rubric::parse("rubric", RUBRIC.as_bytes()).expect("a rubric");
        let position = |name: &str, graded: &Rubric| {
            let found = find(name, &whole, graded).map_err(|error| error.to_string())?;
            Ok::<u32, String>(graded.nodes()[found].position())
        };
        assert_eq!(position("#0", &whole), Ok(2));
        assert_eq!(position("#2", &whole), Ok(4));
        assert_eq!(position("b", &whole), Ok(3));
        let said = |name: &str, graded: &Rubric| position(name, graded).expect_err("no leaf");
        assert_eq!(said("a", &whole), "`a` is the id of 2 leaves: #0, #2. Name one by its number");
        assert_eq!(said("#3", &whole), "there is no leaf #3: the rubric's leaves are #0 to #2");
        assert!(said("g", &whole).contains("inner node"));
        assert!(said("x", &whole).contains("no leaf `x`"));

        let cut = whole.cut(2);
        assert_eq!((position("g", &cut), position("a", &cut)), (Ok(1), Ok(4)));
        assert!(said("#1", &cut).contains("part of the cut node `g`"));
        let code = whole.only(Category::CodeDevelopment).expect("some code");
        assert_eq!(position("#2", &code), Ok(4));
        assert!(said("b", &code).contains("only Code Development"));
    }
}
