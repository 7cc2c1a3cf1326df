//! The page of a graded tree: header, tree, leaf panel, icicle, what-if.
//!
//! Owns what the page is given. One code for both: a file holds every leaf's words, a served page
//! asks for them one by one.

mod header;
mod leaf;
mod nodes;
mod outline;

use serde::Serialize;

use self::{header::Header, nodes::Vocabulary};
pub use self::{leaf::leaf_body, nodes::Nodes};
use crate::{
    model::GradedTree,
    page::{Connect, Page, PageError, Rendered},
};

const STYLES: [&str; 2] = [include_str!("../assets/plot.css"), include_str!("../assets/tree.css")];

const SCRIPTS: [&str; 7] = [
    include_str!("../assets/tree/model.js"),
    include_str!("../assets/tree/view.js"),
    include_str!("../assets/tree/rows.js"),
    include_str!("../assets/tree/panel.js"),
    include_str!("../assets/tree/icicle.js"),
    include_str!("../assets/tree/live.js"),
    include_str!("../assets/tree/main.js"),
];

/// Where a served page asks for what it does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Served {
    /// The run's address on the server, such as `/runs/3317d841f1e9e7a2`.
    pub run: String,
    /// Links of the page's navigation, each with its text.
    pub links: Vec<(String, String)>,
}

/// What the scripts read.
#[derive(Serialize)]
struct Data<'t> {
    schema: &'static str,
    name: &'t str,
    served: Option<&'t Served>,
    vocabulary: Vocabulary,
    nodes: Nodes,
}

/// What the template reads.
#[derive(Serialize)]
struct Context<'t> {
    header: Header<'t>,
    /// The nested tree for readers without scripts, as HTML that is escaped already.
    outline: minijinja::Value,
    served: Option<&'t Served>,
}

/// The page of a graded tree: a file, or `served`.
///
/// # Errors
///
/// A template fails.
pub fn tree_page(tree: &GradedTree, served: Option<&Served>) -> Result<Rendered, PageError> {
    let data = Data {
        schema: "tribunal.page/1",
        name: &tree.name,
        served,
        vocabulary: Vocabulary::default(),
        nodes: Nodes::of(tree),
    };
    let title = format!("{} · Tribunal", tree.name);
    let page = Page {
        template: "tree.html",
        title: &title,
        styles: &STYLES,
        scripts: &SCRIPTS,
        data: Some(serde_json::to_string(&data)?),
        connect: if served.is_some() { Connect::Server } else { Connect::Nowhere },
    };
    let outline = minijinja::Value::from_safe_string(outline::outline(tree, served)?);
    page.render(Context { header: Header::of(tree), outline, served })
}
