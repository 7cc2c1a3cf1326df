//! Rubric files in: PaperBench's `rubric.json` and graded trees.
//!
//! Owns validation at parse. Every problem names its JSON path and line; nothing invalid gets
//! further. Reads borrowed slices level by level, so that depth is a number checked here and not
//! a stack that overflows; a rubric with nothing to say of it is read in one pass by `plain`.

mod fields;
mod plain;

use serde_json::{Map, Value, value::RawValue};

use self::fields::{Field, RawObject, line_and_column, shortened, without_position};
use super::{Grade, Node, Rubric};

/// Levels that a rubric may have, the root being 1. Published rubrics have at most 9.
pub const MAX_DEPTH: u32 = 100;

/// Fields of Tribunal's own scored trees around the tree.
const SCORED_TREE_FIELDS: [&str; 2] = ["schema", "tree"];

/// What stands as `schema` in Tribunal's own scored trees.
const SCORED_TREE: &str = "\"tribunal.scored_tree/1\"";

/// Problems reported for one file; more are counted only.
const MAX_PROBLEMS: usize = 50;

/// Where PaperBench's JudgeOutput has its tree.
const TREE_OF_JUDGE: &str = "graded_task_tree";

/// Fields around a tree; the last three stand around a JudgeOutput in PaperBench's `grade.json` and
/// records.
const WRAPPERS: [&str; 4] = [TREE_OF_JUDGE, "judge_output", "paperbench_result", "pb_result"];

/// One thing that is wrong with a rubric file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the document, such as `$.sub_tasks[2].weight`.
    pub path: String,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in bytes.
    pub column: usize,
    /// What is wrong and what is expected.
    pub message: String,
}

/// A rubric file that cannot be used, with every problem found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct RubricError {
    /// The file, as the user named it.
    pub file: String,
    /// At least one problem, in document order.
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub more: usize,
}

struct Parser<'a> {
    text: &'a str,
    nodes: Vec<Node>,
    leaves: u32,
    graded: bool,
    /// Whether a missing score is `null`, as in Tribunal's own scored trees.
    null_is_ungraded: bool,
    problems: Vec<Problem>,
    more: usize,
}

// === impl Rubric ===

impl Rubric {
    /// Reads a rubric or graded tree: bare, wrapped as `graded_task_tree` (PaperBench's JudgeOutput,
    /// also within its `grade.json`), or Tribunal's own `scored_tree.json`.
    ///
    /// # Errors
    ///
    /// Every problem of the file, with JSON path and line: not JSON, a field that is missing or of
    /// the wrong type, a weight that is negative or not finite, a leaf without category, an inner
    /// node with one, an unknown category, an empty tree, more than [`MAX_DEPTH`] levels.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Rubric, RubricError> {
        let fail = |problem: Problem| RubricError {
            file: file.to_owned(),
            problems: vec![problem],
            more: 0,
        };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let (line, column) = line_and_column(bytes, error.valid_up_to());
            fail(Problem {
                path: "$".to_owned(),
                line,
                column,
                message: "not UTF-8 text; save the file as UTF-8 JSON".to_owned(),
            })
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match plain::nodes(text) {
            Some(mut nodes) => {
                nodes.shrink_to_fit();
                Ok(Rubric { nodes })
            }
            None => Rubric::parse_with_care(file, text),
        }
    }

    /// Reads whatever has a tree, level by level, and finds every problem.
    fn parse_with_care(file: &str, text: &str) -> Result<Rubric, RubricError> {
        let fail = |problem: Problem| RubricError {
            file: file.to_owned(),
            problems: vec![problem],
            more: 0,
        };
        let document: &RawValue = serde_json::from_str(text).map_err(|error| {
            let message = if text.trim().is_empty() {
                "the file is empty; a rubric is a JSON object with id, requirements, weight, \
                 sub_tasks"
                    .to_owned()
            } else {
                format!("not valid JSON: {}", without_position(&error))
            };
            fail(Problem {
                path: "$".to_owned(),
                line: error.line().max(1),
                column: error.column().max(1),
                message,
            })
        })?;
        let mut parser = Parser {
            text,
            nodes: Vec::new(),
            leaves: 0,
            graded: false,
            null_is_ungraded: false,
            problems: Vec::new(),
            more: 0,
        };
        parser.document(document);
        if parser.problems.is_empty() {
            parser.nodes.shrink_to_fit();
            Ok(Rubric { nodes: parser.nodes })
        } else {
            // A group's sum is known only after its children were read.
            parser.problems.sort_by_key(|p| (p.line, p.column));
            Err(RubricError { file: file.to_owned(), problems: parser.problems, more: parser.more })
        }
    }
}

// === impl RubricError ===

impl RubricError {
    fn describe(&self) -> String {
        let mut lines: Vec<String> = self
            .problems
            .iter()
            .map(|p| format!("{}:{}:{}: {}: {}", self.file, p.line, p.column, p.path, p.message))
            .collect();
        if self.more > 0 {
            lines.push(format!("{}: and {} more problems", self.file, self.more));
        }
        lines.join("\n")
    }
}

// === impl Parser ===

impl<'a> Parser<'a> {
    fn document(&mut self, document: &'a RawValue) {
        let Some(object) = self.object("$", document) else {
            return;
        };
        let own = object.get("schema").is_some_and(|schema| schema.get() == SCORED_TREE);
        if let Some(tree) = object.get("tree").filter(|_| own) {
            (self.graded, self.null_is_ungraded) = (true, true);
            return self.root("$.tree", tree);
        }
        // PaperBench's records have a JudgeOutput within them.
        let (mut path, mut raw, mut around) = ("$".to_owned(), document, object);
        while around.get("sub_tasks").is_none()
            && let Some((name, inside)) = WRAPPERS.iter().find_map(|n| Some((n, around.get(n)?)))
        {
            (path, raw) = (format!("{path}.{name}"), inside);
            self.graded |= *name == TREE_OF_JUDGE;
            let Some(object) = self.object(&path, raw) else {
                return;
            };
            around = object;
        }
        self.graded |= around.get("score").is_some() || around.get("valid_score").is_some();
        self.root(&path, raw);
    }

    fn root(&mut self, path: &str, raw: &'a RawValue) {
        if let Some(object) = self.object(path, raw) {
            let empty_list = |raw: &&RawValue| raw.get().trim_start_matches('[').trim() == "]";
            let no_children = object.get("sub_tasks").is_some_and(|raw| empty_list(&raw));
            let no_category = object.get("task_category").is_none_or(|c| c.get() == "null");
            if no_children && no_category {
                let message = "the tree is empty: the root has neither sub_tasks nor a \
                               task_category; give it at least one leaf";
                self.problem(path, raw, message);
                return;
            }
        }
        self.node(path, raw, None, 1);
    }

    /// Reads the node and all below it. Recursion is bounded by [`MAX_DEPTH`].
    fn node(&mut self, path: &str, raw: &'a RawValue, parent: Option<u32>, depth: u32) {
        if depth > MAX_DEPTH {
            let message = format!("deeper than {MAX_DEPTH} levels; flatten the rubric");
            self.problem(path, raw, &message);
            return;
        }
        let Some(object) = self.object(path, raw) else {
            return;
        };
        let index = self.nodes.len();
        let mut node = Node {
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
        };
        let required = |parser: &mut Self, name: &'static str| {
            let found = object.get(name).map(|raw| Field { path, name, raw });
            if found.is_none() {
                let message = format!("missing field `{name}`");
                parser.problem(path, raw, &message);
            }
            found
        };
        let optional = |name: &'static str| {
            let raw = object.get(name).filter(|raw| raw.get() != "null")?;
            Some(Field { path, name, raw })
        };
        if let Some(field) = required(self, "id") {
            node.id = self.string(&field);
        }
        if let Some(field) = required(self, "requirements") {
            node.requirements = self.string(&field);
        }
        if let Some(field) = required(self, "weight") {
            node.weight = self.weight(&field);
        }
        let children = required(self, "sub_tasks").and_then(|field| self.list(&field));
        if let Some(field) = optional("finegrained_task_category") {
            node.fine_category = Some(self.string(&field));
        }
        let category = optional("task_category");
        node.category = category.as_ref().and_then(|field| self.category(field));
        node.grade = self.grade(&object, path, raw).map(Box::new);
        match (&children, &category) {
            (Some(children), Some(field)) if !children.is_empty() => {
                self.field_problem(
                    field,
                    "an inner node cannot have a category; only leaves do. Set it to null",
                );
            }
            (Some(children), None) if children.is_empty() => {
                let names = "Code Development, Code Execution, Result Analysis";
                let message = format!("a leaf without task_category; give it one of {names}");
                self.problem(path, raw, &message);
            }
            _ => {}
        }
        let extra = self.extra(&object, path, node.grade.is_some());
        node.extra = (!extra.is_empty()).then(|| Box::new(extra));
        if children.as_ref().is_some_and(Vec::is_empty) {
            node.leaf_index = Some(self.leaves);
            self.leaves += 1;
        }
        self.nodes.push(node);
        let mut total = 0.0;
        for (i, child) in children.into_iter().flatten().enumerate() {
            let first = self.nodes.len();
            let child_path = format!("{path}.sub_tasks[{i}]");
            self.node(&child_path, child, Some(index as u32), depth + 1);
            total += self.nodes.get(first).map_or(0.0, |child| child.weight);
        }
        if !total.is_finite() {
            let message = "the weights of sub_tasks sum to more than a number can hold; scale \
                           them down";
            self.problem(path, raw, message);
        }
        self.nodes[index].end = self.nodes.len() as u32;
    }

    fn grade(&mut self, object: &RawObject<'a>, path: &str, raw: &'a RawValue) -> Option<Grade> {
        let field = |name: &'static str| object.get(name).map(|raw| Field { path, name, raw });
        if let Some(score) = field("score").filter(|_| self.null_is_ungraded) {
            return self.own_grade(&score, field("explanation"));
        }
        let (score, valid) = match (field("score"), field("valid_score")) {
            (None, None) if !self.graded => return None,
            (Some(score), Some(valid)) => (score, valid),
            (score, _) => {
                let name = if score.is_none() { "score" } else { "valid_score" };
                let message = format!("missing field `{name}`: the file is a graded tree");
                self.problem(path, raw, &message);
                return None;
            }
        };
        let number = score.raw.get().parse::<f64>().ok().filter(|s| (0.0..=1.0).contains(s));
        if number.is_none() {
            let message = format!("{} is no score: a number from 0 to 1", shortened(score.raw));
            self.field_problem(&score, &message);
        }
        // Published graded trees have 1.0 for true on some leaves.
        let is_valid = match valid.raw.get() {
            "true" | "1" | "1.0" => Some(true),
            "false" | "0" | "0.0" => Some(false),
            _ => None,
        };
        if is_valid.is_none() {
            let message = format!("{} is neither true nor false", shortened(valid.raw));
            self.field_problem(&valid, &message);
        }
        let explanation = match field("explanation").filter(|f| f.raw.get() != "null") {
            Some(field) => self.string(&field),
            None => String::new(),
        };
        let judge_metadata = field("judge_metadata").map_or(Value::Null, |f| self.value(&f));
        Some(Grade {
            score: number.unwrap_or(0.0),
            valid: is_valid.unwrap_or(false),
            explanation,
            judge_metadata,
        })
    }

    /// A grade of Tribunal's own scored tree: a number, or null for what has no score.
    fn own_grade(
        &mut self,
        score: &Field<'a, '_>,
        explanation: Option<Field<'a, '_>>,
    ) -> Option<Grade> {
        let missing = score.raw.get() == "null";
        let number = score.raw.get().parse::<f64>().ok().filter(|s| (0.0..=1.0).contains(s));
        if number.is_none() && !missing {
            let message = format!("{} is no score: a number from 0 to 1", shortened(score.raw));
            self.field_problem(score, &message);
        }
        let explanation = explanation.filter(|field| field.raw.get() != "null");
        Some(Grade {
            score: number.unwrap_or(0.0),
            valid: number.is_some(),
            explanation: explanation.map_or(String::new(), |field| self.string(&field)),
            judge_metadata: Value::Null,
        })
    }

    /// The fields that are not Tribunal's. Those of a grade are, where the node has one.
    fn extra(&mut self, object: &RawObject<'a>, path: &str, graded: bool) -> Map<String, Value> {
        const KNOWN: [&str; 6] = [
            "id",
            "requirements",
            "weight",
            "sub_tasks",
            "task_category",
            "finegrained_task_category",
        ];
        const OF_GRADE: [&str; 4] = ["score", "valid_score", "explanation", "judge_metadata"];
        let mut extra = Map::new();
        for (name, raw) in &object.0 {
            let known =
                KNOWN.contains(&name.as_ref()) || (graded && OF_GRADE.contains(&name.as_ref()));
            if !known {
                match serde_json::from_str(raw.get()) {
                    Ok(value) => drop(extra.insert(name.clone().into_owned(), value)),
                    Err(error) => {
                        let path = format!("{path}.{name}");
                        self.problem(&path, raw, &without_position(&error));
                    }
                }
            }
        }
        extra
    }
}
