//! The shell of every page: template, styles, scripts, data, and the policy that lets nothing else
//! in.
//!
//! Owns escaping and the content-security policy. A template never marks a text of others as
//! safe; a script or style runs only where its hash stands in the policy.

mod escape;
mod filters;

use std::{fmt::Write as _, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, Value, context, syntax::SyntaxConfig, value::Serde,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use self::escape::{escape, escape_json, visible};

/// Templates by name; one that stands between others is a file of `assets` and a line here.
const TEMPLATES: &[(&str, &str)] = &[
    ("base.html", include_str!("../assets/base.html")),
    ("audit.html", include_str!("../assets/audit.html")),
    ("compare.html", include_str!("../assets/compare.html")),
    ("desk.html", include_str!("../assets/desk.html")),
    ("desk_evidence.html", include_str!("../assets/desk_evidence.html")),
    ("exhibit.html", include_str!("../assets/exhibit.html")),
    ("leaf.html", include_str!("../assets/leaf.html")),
    ("link.html", include_str!("../assets/link.html")),
    ("results.html", include_str!("../assets/results.html")),
    ("runs.html", include_str!("../assets/runs.html")),
    ("shown.html", include_str!("../assets/shown.html")),
    ("summary.html", include_str!("../assets/summary.html")),
    ("tree.html", include_str!("../assets/tree.html")),
    ("tune.html", include_str!("../assets/tune.html")),
];

/// Colours, type, tables: what every page begins with.
const BASE_CSS: &str = include_str!("../assets/base.css");

/// Tables that are sorted by a click on a column's head: `<table class="sortable">`, a cell's
/// `data-sort` in place of its text where it is there.
const TABLE_JS: &str = include_str!("../assets/table.js");

/// A page to be rendered.
pub struct Page<'p> {
    /// The template, which extends `base.html`: it fills the blocks `header` and `main`.
    pub template: &'static str,
    /// The title.
    pub title: &'p str,
    /// Styles behind the base's, one after the other.
    pub styles: &'p [&'static str],
    /// Scripts behind the table's, one after the other in one function: what one declares, the
    /// next ones see.
    pub scripts: &'p [&'static str],
    /// What the scripts read as `data`; JSON.
    pub data: Option<String>,
    /// Where scripts may connect to.
    pub connect: Connect,
}

/// Where a page's scripts may connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connect {
    /// Nowhere: the page is a file.
    #[default]
    Nowhere,
    /// To the server that it came from.
    Server,
}

/// A page as text.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The whole document.
    pub html: String,
    /// Its content-security policy, which stands in the document too. As a header it may say more:
    /// a document cannot forbid to be framed.
    pub policy: String,
}

/// A page that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A template fails: a fault of this program.
    #[error("the page `{template}` cannot be rendered: {reason}")]
    Template {
        /// Its name.
        template: &'static str,
        /// What is wrong.
        reason: minijinja::Error,
    },
    /// What is to be shown cannot be written as JSON.
    #[error("the page's data cannot be written: {0}")]
    Data(#[from] serde_json::Error),
}

static ENVIRONMENT: LazyLock<Result<Environment<'static>, minijinja::Error>> =
    LazyLock::new(environment);

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_formatter(|out, _, value| {
        let written = match value.as_str() {
            _ if value.is_none() => Ok(()),
            Some(text) if value.is_safe() => out.write_str(text),
            Some(text) => out.write_str(&escape(text)),
            None if value.is_safe() => write!(out, "{value}"),
            None => out.write_str(&escape(&value.to_string())),
        };
        written.map_err(Into::into)
    });
    filters::add(&mut environment);
    for (name, template) in TEMPLATES {
        environment.add_template(name, template)?;
    }
    Ok(environment)
}

/// A template on its own, without the shell: a part of a page.
///
/// # Errors
///
/// The template fails.
pub fn fragment(template: &'static str, context: impl Serialize) -> Result<String, PageError> {
    render(template, Value::from(Serde(context)))
}

fn render(template: &'static str, context: Value) -> Result<String, PageError> {
    let failed = |reason| PageError::Template { template, reason };
    let environment = ENVIRONMENT.as_ref().map_err(|error| failed(copy(error)))?;
    environment.get_template(template).and_then(|t| t.render(context)).map_err(failed)
}

/// The same error again: the environment keeps its own.
fn copy(error: &minijinja::Error) -> minijinja::Error {
    minijinja::Error::new(error.kind(), format!("{error:#}"))
}

/// A source of the policy: the hash of a script or style as it stands in the document (CSP 3,
/// section 2.3.1).
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

// === impl Page ===

impl Page<'_> {
    /// The page with this context for its template.
    ///
    /// # Errors
    ///
    /// The template fails.
    pub fn render(&self, context: impl Serialize) -> Result<Rendered, PageError> {
        let style = format!("\n{BASE_CSS}{}", self.styles.concat());
        let script = self.script();
        let own = match self.connect {
            Connect::Nowhere => "'none'",
            Connect::Server => "'self'",
        };
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src {own}; \
             base-uri 'none'; form-action {own}",
            source(&script),
            source(&style)
        );
        let shell = context! {
            title => self.title,
            policy => &policy,
            style => Value::from_safe_string(style),
            script => Value::from_safe_string(script),
            data => self.data.as_deref().map(|data| Value::from_safe_string(escape_json(data))),
            version => env!("CARGO_PKG_VERSION"),
        };
        let html =
            render(self.template, context! { page => shell, ..Value::from(Serde(context)) })?;
        Ok(Rendered { html, policy })
    }

    fn script(&self) -> String {
        let mut script = "\n\"use strict\";\n(() => {\n".to_owned();
        for part in std::iter::once(&TABLE_JS).chain(self.scripts) {
            let _ = writeln!(script, "{part}");
        }
        script.push_str("})();\n");
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page<'p>(title: &'p str, data: &str) -> Page<'p> {
        Page {
            template: "base.html",
            title,
            styles: &["p { margin: 0 }\n"],
            scripts: &["const answer = 42;"],
            data: Some(data.to_owned()),
            connect: Connect::Nowhere,
        }
    }

    #[test]
    fn every_template_compiles() {
        let environment = ENVIRONMENT.as_ref().unwrap();
        assert_eq!(environment.templates().count(), TEMPLATES.len());
    }

    #[test]
    fn what_runs_is_what_the_policy_names() {
        let made = page("t", "{}").render(()).unwrap();
        for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let (_, rest) = made.html.split_once(&open).unwrap();
            let (content, after) = rest.split_once(&close).unwrap();
            assert!(!after.contains(&open), "one {tag}");
            let source = format!("{directive} {};", source(content));
            assert!(made.policy.contains(&source), "{source} in {}", made.policy);
        }
        assert!(!made.policy.contains("unsafe"), "{}", made.policy);
    }

    #[test]
    fn texts_of_others_do_nothing() {
        let hostile = "</title><script>alert(1)</script>\u{1b}[2J";
        let data = serde_json::json!({"text": hostile}).to_string();
        let made = page(hostile, &data).render(()).unwrap();
        assert_eq!(made.html.matches("<script>").count(), 1, "{}", made.html);
        assert!(!made.html.contains("alert(1)</script>"));
        assert!(!made.html.contains('\u{1b}'));
    }
}
