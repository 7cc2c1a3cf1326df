//! A table of results as a page: agents over papers, seeds and time, with the plot above it.
//!
//! Owns the layout. Cells, remarks and the picture are the collector's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use tribunal_collector::results::{
    By, ResultsTable,
    plot::{self, PlotError},
    render::{Cells, remarks, table_cells},
};

use crate::page::{Connect, Page, PageError, Rendered};

/// A table that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ResultsPageError {
    /// Its plot cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A template fails.
    #[error(transparent)]
    Page(#[from] PageError),
}

#[derive(Serialize)]
struct Context {
    /// The plot in base64: as a picture it can neither act nor style.
    plot: String,
    simulated: bool,
    table: Cells,
    remarks: Vec<String>,
}

/// The page of a table. `human` is the agent that is the human baseline.
///
/// # Errors
///
/// The plot cannot be drawn, or the template fails.
pub fn results_page(
    table: &ResultsTable,
    human: Option<&str>,
) -> Result<Rendered, ResultsPageError> {
    let title = match table.by {
        By::Elapsed => "Scores over time",
        By::Category => "Scores by requirement type",
        By::Paper => "Scores by paper",
        By::Agent | By::Scaffold => "Scores",
    };
    let page = Page {
        template: "results.html",
        title,
        styles: &[],
        scripts: &[],
        data: None,
        connect: Connect::Nowhere,
    };
    Ok(page.render(Context {
        plot: STANDARD.encode(plot::svg(table, human)?),
        simulated: table.simulated,
        table: table_cells(table),
        remarks: remarks(table),
    })?)
}

#[cfg(test)]
mod tests {
    use tribunal_collector::{
        GradedTree,
        results::{Entry, Labels, ResultsOptions},
    };

    use super::*;

    const TREE: &str = r#"{"id": "r", "requirements": "all", "weight": 1, "task_category": "Code Development",
        "sub_tasks": [], "score": 1, "valid_score": true, "explanation": ""}"#;

    #[test]
    fn the_table_stands_behind_the_plot_and_names_do_nothing() {
        let tree = GradedTree::parse("t", TREE.as_bytes()).unwrap();
        let entry = |hours: f64| {
            let labels = Labels {
                paper: "rice".to_owned(),
                agent: "<img src=x onerror=alert(1)>".to_owned(),
                seed: "1".to_owned(),
                elapsed_hours: Some(hours),
                ..Labels::default()
            };
            Entry::graded(labels, &tree)
        };
        let options = ResultsOptions { by: By::Elapsed, ..ResultsOptions::default() };
        let table = ResultsTable::new(vec![entry(1.0), entry(3.0)], &options, Vec::new()).unwrap();
        let page = results_page(&table, None).unwrap();
        assert_eq!(page.html.matches("<img").count(), 1, "the plot alone");
        assert!(page.html.contains("&lt;img src=x onerror=alert(1)&gt;"));
        assert_eq!(page.html.matches("<tr>").count(), 3, "a heading and two times");
        assert!(page.html.contains("100.0"), "percent");
    }
}
