//! The fast way to read a rubric: valid, ungraded and bare, as nearly all are.
//!
//! Owns one pass over the text. It says nothing of what is wrong: whatever is not plain is given up,
//! and `parse` reads it again with care.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value, value::RawValue};

use super::{MAX_DEPTH, Node, SCORED_TREE_FIELDS, WRAPPERS};
use crate::category::Category;

/// The nodes of a plain rubric; `None` for what is to be read with care.
pub(super) fn nodes(text: &str) -> Option<Vec<Node>> {
    let mut tree = Tree { nodes: Vec::new(), leaves: 0 };
    let mut reader = serde_json::Deserializer::from_str(text);
    let root = NodeSeed { tree: &mut tree, parent: None, depth: 1 };
    root.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(tree.nodes)
}

/// What was read so far.
struct Tree {
    nodes: Vec<Node>,
    leaves: u32,
}

/// Reads a node and all below it; returns its weight.
struct NodeSeed<'t> {
    tree: &'t mut Tree,
    parent: Option<u32>,
    depth: u32,
}

/// Reads the children of a node; returns how many there are, and the sum of their weights.
struct ChildrenSeed<'t> {
    tree: &'t mut Tree,
    parent: u32,
    depth: u32,
}

/// A field's name.
enum Name {
    Id,
    Requirements,
    Weight,
    SubTasks,
    Category,
    FineCategory,
    Other(String),
}

// === impl Name ===

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "id" => Name::Id,
                    "requirements" => Name::Requirements,
                    "weight" => Name::Weight,
                    "sub_tasks" => Name::SubTasks,
                    "task_category" => Name::Category,
                    "finegrained_task_category" => Name::FineCategory,
                    other => Name::Other(other.to_owned()),
                })
            }
        }
        deserializer.deserialize_identifier(NameVisitor)
    }
}

// === impl NodeSeed ===

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<f64, A::Error> {
        let Self { tree, parent, depth } = self;
        let care = || A::Error::custom("to be read with care");
        if depth > MAX_DEPTH {
            return Err(care());
        }
        let index = tree.nodes.len();
        // Its place in the order is before its children's, wherever its fields stand.
        tree.nodes.push(Node {
            id: String::new(),
            requirements: String::new(),
            weight: 0.0,
            category: None,
            fine_category: None,
            grade: None,
            extra: None,
            position: index as u32,
            leaf_index: None,
            depth,
            parent,
            end: 0,
        });
        let (mut id, mut requirements, mut weight) = (None, None, None);
        let (mut children, mut category, mut fine) = (None, None, None);
        let mut extra = Map::new();
        while let Some(name) = map.next_key::<Name>()? {
            let twice = match name {
                Name::Id => id.replace(map.next_value::<String>()?).is_some(),
                Name::Requirements => requirements.replace(map.next_value::<String>()?).is_some(),
                // The number as it stands, which serde_json would read a little less exactly.
                Name::Weight => weight.replace(map.next_value::<&RawValue>()?).is_some(),
                Name::SubTasks => {
                    let parent = index as u32;
                    let seed = ChildrenSeed { tree: &mut *tree, parent, depth: depth + 1 };
                    children.replace(map.next_value_seed(seed)?).is_some()
                }
                Name::Category => category.replace(map.next_value::<Option<String>>()?).is_some(),
                Name::FineCategory => fine.replace(map.next_value::<Option<String>>()?).is_some(),
                Name::Other(name) => {
                    let wraps = depth == 1
                        && (WRAPPERS.contains(&&*name) || SCORED_TREE_FIELDS.contains(&&*name));
                    if wraps || name == "score" || name == "valid_score" {
                        return Err(care());
                    }
                    extra.insert(name, map.next_value::<Value>()?).is_some()
                }
            };
            if twice {
                return Err(care());
            }
        }
        let weight = weight.and_then(|raw| raw.get().parse::<f64>().ok());
        let weight = weight.filter(|weight| weight.is_finite() && *weight >= 0.0);
        let (Some(id), Some(requirements), Some(weight), Some((count, total))) =
            (id, requirements, weight, children)
        else {
            return Err(care());
        };
        let category = match category.flatten() {
            Some(name) => Some(Category::from_name(&name).ok_or_else(care)?),
            None => None,
        };
        let is_leaf = count == 0;
        if category.is_some() != is_leaf
            || category == Some(Category::Subtree)
            || !total.is_finite()
        {
            return Err(care());
        }
        let end = tree.nodes.len() as u32;
        let node = &mut tree.nodes[index];
        (node.id, node.requirements, node.weight) = (id, requirements, weight);
        (node.category, node.fine_category, node.end) = (category, fine.flatten(), end);
        node.extra = (!extra.is_empty()).then(|| Box::new(extra));
        if is_leaf {
            node.leaf_index = Some(tree.leaves);
            tree.leaves += 1;
        }
        Ok(weight)
    }
}

// === impl ChildrenSeed ===

impl<'de> DeserializeSeed<'de> for ChildrenSeed<'_> {
    type Value = (usize, f64);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ChildrenSeed<'_> {
    type Value = (usize, f64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Self { tree, parent, depth } = self;
        let (mut count, mut total) = (0, 0.0);
        while let Some(weight) =
            list.next_element_seed(NodeSeed { tree: &mut *tree, parent: Some(parent), depth })?
        {
            (count, total) = (count + 1, total + weight);
        }
        Ok((count, total))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::rubric::Rubric;

    /// What the careful way says of the text.
    fn careful(text: &str) -> Option<Vec<Node>> {
        Rubric::parse_with_care("r.json", text).ok().map(|rubric| rubric.nodes)
    }

    fn document(depth: u32) -> impl Strategy<Value = Value> {
        let category = prop_oneof![
            6 => Just(json!("Code Development")), 2 => Just(json!("Result Analysis")),
            1 => Just(json!("Subtree")), 1 => Just(json!("Cooking")), 1 => Just(json!(null)),
        ];
        let weight = prop_oneof![
            4 => (0_u32..9).prop_map(|n| json!(n)), 4 => (0.0..1.0).prop_map(|x| json!(x)),
            1 => Just(json!(-1)), 1 => Just(json!("2")), 1 => Just(json!(1e308)),
        ];
        let leaf = (".{0,6}", weight.clone(), category).prop_map(|(id, weight, category)| {
            json!({"id": id, "requirements": "ü\n\"x\"", "weight": weight, "sub_tasks": [],
                   "task_category": category, "finegrained_task_category": null})
        });
        let extra = prop_oneof![
            8 => Just(None), 1 => Just(Some(("note", json!({"a": [1.5, null]})))),
            1 => Just(Some(("score", json!(1)))), 1 => Just(Some(("sub_tasks", json!(null)))),
            1 => Just(Some(("explanation", json!("so")))), 1 => Just(Some(("tree", json!([])))),
            1 => Just(Some(("task_category", json!("Code Execution")))),
        ];
        leaf.prop_recursive(depth, 40, 4, move |inner| {
            let children = prop::collection::vec(inner, 0..4);
            (children, weight.clone(), extra.clone()).prop_map(|(children, weight, extra)| {
                let mut node = json!({"weight": weight, "sub_tasks": children, "id": "g",
                                      "requirements": "r"});
                if let Some((name, value)) = extra {
                    node[name] = value;
                }
                node
            })
        })
    }

    proptest! {
        #[test]
        fn the_fast_way_reads_what_the_careful_way_reads(
            document in document(5), cut in 0.0..1.2f64, pretty: bool,
        ) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&document).unwrap(),
                false => document.to_string(),
            };
            let end = text.floor_char_boundary((text.len() as f64 * cut.max(0.8)) as usize);
            let text = &text[..end.min(text.len())];
            if let Some(nodes) = nodes(text) {
                prop_assert_eq!(Some(nodes), careful(text));
            }
        }
    }

    #[test]
    fn what_is_plain_is_read_the_fast_way_and_nothing_else() {
        let leaf = json!({"id": "l", "requirements": "x", "weight": 0.1, "sub_tasks": [],
                          "task_category": "Code Execution", "note": 1});
        let group = |child: Value| {
            json!({"id": "g", "requirements": "r", "weight": 1,
                                          "sub_tasks": [child], "task_category": null})
        };
        for plain in [leaf.clone(), group(leaf.clone()), group(group(leaf.clone()))] {
            let text = plain.to_string();
            assert!(nodes(&text).is_some());
            assert_eq!(nodes(&text), careful(&text));
        }
        let twice = leaf.to_string().replacen("{", "{\"note\": 2, ", 1);
        assert!(nodes(&twice).is_none());
        for (name, value) in [
            ("score", json!(1)),
            ("weight", json!(-1)),
            ("weight", json!("1")),
            ("id", json!(3)),
            ("sub_tasks", json!(null)),
            ("task_category", json!("Subtree")),
            ("judge_output", json!({})),
            ("schema", json!("tribunal.scored_tree/1")),
        ] {
            let mut other = leaf.clone();
            other[name] = value;
            assert!(nodes(&other.to_string()).is_none(), "{name}");
        }
        assert!(nodes(&format!("{leaf} x")).is_none());
    }
}
