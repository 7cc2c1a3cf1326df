//! The values of a rubric file's fields, each of its type or a problem.
//!
//! Owns reading one value and saying where a problem is. What the fields of a node mean together
//! is `parse`'s.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::{MAX_PROBLEMS, Parser, Problem};
use crate::category::Category;

/// A JSON object with its values still unread, in document order.
pub(super) struct RawObject<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

/// A field's name and value, and the path of the object that holds it.
pub(super) struct Field<'a, 'p> {
    pub(super) path: &'p str,
    pub(super) name: &'static str,
    pub(super) raw: &'a RawValue,
}

// === impl Parser ===

impl<'a> Parser<'a> {
    pub(super) fn object(&mut self, path: &str, raw: &'a RawValue) -> Option<RawObject<'a>> {
        match serde_json::from_str::<RawObject<'a>>(raw.get()) {
            Ok(object) => {
                let mut names: Vec<&str> = object.0.iter().map(|(name, _)| &**name).collect();
                names.sort_unstable();
                if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                    let message = format!("the field `{}` stands twice", twice[0]);
                    self.problem(path, raw, &message);
                }
                Some(object)
            }
            Err(_) => {
                let message = format!(
                    "{} is no node: a JSON object with id, requirements, weight, sub_tasks",
                    shortened(raw)
                );
                self.problem(path, raw, &message);
                None
            }
        }
    }

    pub(super) fn string(&mut self, field: &Field<'a, '_>) -> String {
        serde_json::from_str(field.raw.get()).unwrap_or_else(|_| {
            let message = format!("{} is not a string", shortened(field.raw));
            self.field_problem(field, &message);
            String::new()
        })
    }

    pub(super) fn weight(&mut self, field: &Field<'a, '_>) -> f64 {
        let shown = shortened(field.raw);
        let message = match field.raw.get().parse::<f64>() {
            Ok(weight) if weight.is_finite() && weight >= 0.0 => return weight,
            Ok(weight) if weight.is_finite() => {
                format!("{shown} is negative; weights are 0 or more")
            }
            Ok(_) => format!("{shown} is not finite; weights are numbers from 0"),
            Err(_) => format!("{shown} is not a number; weights are numbers from 0"),
        };
        self.field_problem(field, &message);
        0.0
    }

    pub(super) fn list(&mut self, field: &Field<'a, '_>) -> Option<Vec<&'a RawValue>> {
        let list = serde_json::from_str(field.raw.get()).ok();
        if list.is_none() {
            let message = format!("{} is not a list of nodes", shortened(field.raw));
            self.field_problem(field, &message);
        }
        list
    }

    pub(super) fn category(&mut self, field: &Field<'a, '_>) -> Option<Category> {
        let name: Option<String> = serde_json::from_str(field.raw.get()).ok();
        let category = name.as_deref().and_then(Category::from_name);
        let message = match category {
            Some(Category::Subtree) if !self.graded => {
                "`Subtree` is for graded trees, where a cut node has one fractional score"
                    .to_owned()
            }
            Some(category) => return Some(category),
            None => format!(
                "unknown category {}; expected Code Development, Code Execution or Result Analysis",
                shortened(field.raw)
            ),
        };
        self.field_problem(field, &message);
        // A node with a category, though a wrong one, is not to be blamed for having none.
        Some(Category::CodeDevelopment)
    }

    pub(super) fn value(&mut self, field: &Field<'a, '_>) -> Value {
        serde_json::from_str(field.raw.get()).unwrap_or_else(|error| {
            self.field_problem(field, &without_position(&error));
            Value::Null
        })
    }

    // Problems.

    pub(super) fn field_problem(&mut self, field: &Field<'a, '_>, message: &str) {
        self.problem(&format!("{}.{}", field.path, field.name), field.raw, message);
    }

    pub(super) fn problem(&mut self, path: &str, raw: &'a RawValue, message: &str) {
        if self.problems.len() == MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        // `raw` borrows from `text`: the distance of their starts is its place.
        let offset = (raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let (line, column) = line_and_column(self.text.as_bytes(), offset.min(self.text.len()));
        self.problems.push(Problem {
            path: path.to_owned(),
            line,
            column,
            message: message.to_owned(),
        });
    }
}

// === impl RawObject ===

impl<'a> RawObject<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    fields.push((Cow::Owned(name), map.next_value()?));
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The value's text as an error shows it: one line, at most 40 characters.
pub(super) fn shortened(raw: &RawValue) -> String {
    let mut chars = raw.get().chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = chars.by_ref().take(40).collect();
    let dots = if chars.next().is_some() { "…" } else { "" };
    format!("`{text}{dots}`")
}

/// serde_json's message without the position, which stands at the line's start already.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

pub(super) fn line_and_column(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1);
    (line, offset - start + 1)
}
