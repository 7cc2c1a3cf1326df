//! Tables of results as pictures.
//!
//! Owns two SVG plots: grouped bars with error bars, and curves over time with the human baseline
//! as a line of its own. Colours are Okabe and Ito's, which people with any colour vision can
//! tell apart.

use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};

use super::{By, Estimate, ResultsRow, ResultsTable, system_name};
use crate::text::sanitize_line;

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 540);

/// Okabe and Ito's colours without yellow, which is too light for lines.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Dark grey: error bars are seen on it.
const HUMAN: RGBColor = RGBColor(110, 110, 110);

/// A name in a legend, at most.
const MAX_NAME: usize = 40;

/// A picture that cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

/// Bars of one colour: a value or none in each group.
struct Series {
    name: String,
    human: bool,
    values: Vec<Option<Value>>,
}

/// A curve: its points in time, or one without a time.
struct System {
    name: String,
    human: bool,
    points: Vec<(Option<f64>, Value)>,
}

/// A score in percent with its error.
#[derive(Clone, Copy)]
struct Value {
    mean: f64,
    se: Option<f64>,
}

type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;

/// Draws a table: curves where it is by elapsed time, else grouped bars, by requirement type or by
/// paper. `human` is the agent that is the human baseline.
///
/// # Errors
///
/// The drawing library's.
pub fn svg(table: &ResultsTable, human: Option<&str>) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        match table.by {
            By::Elapsed => curves(table, human, &area)?,
            _ => {
                let (groups, series) = bars_of(table, human);
                bars(table, &groups, &series, &area)?;
            }
        }
        area.present().map_err(failed)?;
    }
    Ok(text)
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

fn caption(table: &ResultsTable) -> String {
    let papers = table.papers.len();
    let over = if papers == 1 { "1 paper".to_owned() } else { format!("{papers} papers") };
    let simulated = if table.simulated { ", SIMULATED JUDGE" } else { "" };
    format!("Score in percent, mean over {over} and seeds, ± standard error{simulated}")
}

/// A row's name in a legend, and whether it is the human baseline.
fn name(row: &ResultsRow, human: Option<&str>) -> (String, bool) {
    let agent = row.agent.as_deref();
    let name = match agent {
        Some(agent) => system_name(agent, row.scaffold.as_deref()),
        None => row.scaffold.clone().unwrap_or_else(|| "no scaffold".to_owned()),
    };
    let mut name = sanitize_line(&name);
    if name.chars().count() > MAX_NAME {
        name = name.chars().take(MAX_NAME - 1).chain(['…']).collect();
    }
    (name, agent.is_some() && agent == human)
}

fn colour(series: usize, human: bool) -> RGBColor {
    if human { HUMAN } else { COLOURS[series % COLOURS.len()] }
}

// === bars ===

/// Groups and series of a table that is not by time.
fn bars_of(table: &ResultsTable, human: Option<&str>) -> (Vec<String>, Vec<Series>) {
    let mut groups: Vec<String> = Vec::new();
    let mut series: Vec<Series> = Vec::new();
    let mut put = |row: &ResultsRow, group: String, value: Option<Value>| {
        let (name, human) = name(row, human);
        let at = match groups.iter().position(|known| *known == group) {
            Some(at) => at,
            None => {
                groups.push(group);
                groups.len() - 1
            }
        };
        let of = match series.iter().position(|known| known.name == name) {
            Some(of) => of,
            None => {
                series.push(Series { name, human, values: Vec::new() });
                series.len() - 1
            }
        };
        let values = &mut series[of].values;
        values.resize(values.len().max(at + 1), None);
        values[at] = value;
    };
    for row in &table.rows {
        let score = Value::of(&row.score);
        match (&row.paper, row.category) {
            (Some(paper), _) => put(row, sanitize_line(paper), score),
            (None, Some(category)) => put(row, category.name().to_owned(), score),
            (None, None) => {
                put(row, "Score".to_owned(), score);
                for (category, estimate) in &row.by_category {
                    let value = estimate.as_ref().and_then(Value::of);
                    put(row, category.name().to_owned(), value);
                }
            }
        }
    }
    (groups, series)
}

fn bars(
    table: &ResultsTable,
    groups: &[String],
    series: &[Series],
    area: &Area<'_>,
) -> Result<(), PlotError> {
    let values = series.iter().flat_map(|series| series.values.iter().flatten());
    let mut chart = ChartBuilder::on(area)
        .caption(caption(table), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..groups.len().max(1) as f64, 0.0..top(values))
        .map_err(failed)?;
    // A label stands in the middle of its group, which is where the mesh has one of its lines.
    let label = |x: &f64| {
        let group = groups.get(x.floor() as usize).filter(|_| (x.fract() - 0.5).abs() < 1e-6);
        group.cloned().unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(groups.len() * 2 + 1)
        .x_label_formatter(&label)
        .y_desc("%")
        .light_line_style(WHITE.mix(0.0))
        .draw()
        .map_err(failed)?;
    let width = 0.8 / series.len().max(1) as f64;
    for (number, of) in series.iter().enumerate() {
        let colour = colour(number, of.human);
        let bar = |(group, value): (usize, &Option<Value>)| {
            let value = (*value)?;
            let left = group as f64 + 0.1 + width * number as f64;
            Some((left, value))
        };
        let drawn: Vec<(f64, Value)> = of.values.iter().enumerate().filter_map(bar).collect();
        let shapes = drawn.iter().map(|(left, value)| {
            Rectangle::new([(*left, 0.0), (left + width * 0.9, value.mean)], colour.filled())
        });
        chart
            .draw_series(shapes)
            .map_err(failed)?
            .label(of.name.as_str())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        let errors = drawn.iter().filter_map(|(left, value)| {
            let se = value.se?;
            let (low, high) = ((value.mean - se).max(0.0), value.mean + se);
            Some(ErrorBar::new_vertical(left + width * 0.45, low, value.mean, high, BLACK, 6))
        });
        chart.draw_series(errors).map_err(failed)?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

// === curves ===

fn curves(table: &ResultsTable, human: Option<&str>, area: &Area<'_>) -> Result<(), PlotError> {
    let mut systems: Vec<System> = Vec::new();
    for row in &table.rows {
        let (name, human) = name(row, human);
        let at = match systems.iter().position(|known| known.name == name) {
            Some(at) => at,
            None => {
                systems.push(System { name, human, points: Vec::new() });
                systems.len() - 1
            }
        };
        systems[at].points.extend(Value::of(&row.score).map(|value| (row.elapsed_hours, value)));
    }
    let hours = table.rows.iter().filter_map(|row| row.elapsed_hours).fold(0.0, f64::max);
    let values = systems.iter().flat_map(|of| of.points.iter().map(|(_, value)| value));
    let mut chart = ChartBuilder::on(area)
        .caption(caption(table), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..(hours * 1.04).max(1.0), 0.0..top(values))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("hours of work")
        .y_desc("%")
        .light_line_style(WHITE.mix(0.0))
        .draw()
        .map_err(failed)?;
    for (number, System { name, human, points }) in systems.iter().enumerate() {
        let colour = colour(number, *human);
        let mut line: Vec<(f64, f64)> =
            points.iter().filter_map(|(hours, value)| Some(((*hours)?, value.mean))).collect();
        if let (true, Some((_, value))) = (line.is_empty(), points.first()) {
            // A score without a time is a level.
            line = vec![(0.0, value.mean), (hours, value.mean)];
        }
        let style = colour.stroke_width(2);
        let legend = move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style);
        if *human {
            let dashed = DashedLineSeries::new(line, 8, 5, style);
            chart.draw_series(dashed).map_err(failed)?.label(name.as_str()).legend(legend);
        } else {
            let line = LineSeries::new(line, style).point_size(3);
            chart.draw_series(line).map_err(failed)?.label(name.as_str()).legend(legend);
        }
        let errors = points.iter().filter_map(|(hours, value)| {
            let (hours, se) = ((*hours)?, value.se?);
            let (low, high) = ((value.mean - se).max(0.0), value.mean + se);
            Some(ErrorBar::new_vertical(hours, low, value.mean, high, style, 6))
        });
        chart.draw_series(errors).map_err(failed)?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

type Chart<'a, 's> = ChartContext<'a, SVGBackend<'s>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn legend<'s: 'a, 'a>(
    chart: &mut Chart<'a, 's>,
    position: SeriesLabelPosition,
) -> Result<(), PlotError> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .draw()
        .map_err(failed)
}

/// The top of the axis: room for the highest value with its error, at most 100%.
fn top<'v>(values: impl Iterator<Item = &'v Value>) -> f64 {
    let highest = values.map(|value| value.mean + value.se.unwrap_or(0.0)).fold(0.0, f64::max);
    (highest * 1.2).clamp(5.0, 110.0)
}

// === impl Value ===

impl Value {
    /// In percent; `None` where there is no score.
    fn of(estimate: &Estimate) -> Option<Value> {
        let percent = |score: f64| score * 100.0;
        Some(Value { mean: percent(estimate.mean?), se: estimate.se.map(percent) })
    }
}
