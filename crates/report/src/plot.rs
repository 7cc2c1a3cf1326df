//! Plots as SVG: dots with intervals, and points in a plane.
//!
//! Owns the drawing, without style of its own: classes are the style sheet's, so that light and dark
//! are. The numbers behind a plot stand in a table of the page that shows it.

use std::fmt::Write as _;

use crate::page::escape;

/// A value with what it may be; all in the unit of the axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spot {
    /// Where the dot stands; `None` draws the interval alone.
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A point in a plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What it is called.
    pub name: String,
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub y: f64,
}

/// Shapes of series: told apart without colour too.
const SHAPES: usize = 4;

const ROW: f64 = 22.0;
const LEFT: f64 = 190.0;
const WIDE: f64 = 640.0;

/// Dots with intervals on [0, 1], a group of rows a label, a row a series in it. What has no value
/// is left out.
pub fn dots(title: &str, series: &[String], rows: &[(String, Vec<Option<Spot>>)]) -> String {
    let lines = rows.len() * series.len();
    let height = ROW * lines as f64 + 12.0 * rows.len() as f64 + 34.0;
    let x = |value: f64| LEFT + value.clamp(0.0, 1.0) * (WIDE - LEFT - 20.0);
    let mut svg = open(title, height);
    for tick in 0..=4 {
        let value = f64::from(tick) / 4.0;
        let at = x(value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"4\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            height - 26.0,
            height - 10.0
        );
    }
    let mut y = 16.0;
    for (label, spots) in rows {
        let _ = write!(svg, "<text x=\"0\" y=\"{:.1}\">{}</text>", y + 4.0, escape(label));
        for (number, spot) in spots.iter().enumerate() {
            if let Some(spot) = spot {
                let shape = number % SHAPES;
                let (low, high) = (x(spot.low), x(spot.high));
                let _ = write!(
                    svg,
                    "<g class=\"series s{shape}\"><title>{}: {}</title>\
                     <line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                    escape(series.get(number).map_or("", String::as_str)),
                    said(spot)
                );
                if let Some(value) = spot.value {
                    svg.push_str(&mark(shape, x(value), y));
                }
                svg.push_str("</g>");
            }
            y += ROW;
        }
        y += 12.0;
    }
    svg.push_str("</svg>");
    svg
}

/// Points in a plane, named beside them. Both axes begin at the smallest value that is there.
pub fn scatter(title: &str, x_axis: &str, y_axis: &str, points: &[Point]) -> String {
    const HEIGHT: f64 = 320.0;
    let (left, bottom) = (70.0, HEIGHT - 48.0);
    let range = |values: &dyn Fn(&Point) -> f64| {
        let low = points.iter().map(values).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(values).fold(f64::NEG_INFINITY, f64::max);
        let room = if high > low { (high - low) * 0.08 } else { high.abs().max(1.0) * 0.05 };
        // No cost and no time is negative.
        (if low >= 0.0 { (low - room).max(0.0) } else { low - room }, high + room)
    };
    let (x_range, y_range) = (range(&|p| p.x), range(&|p| p.y));
    let x =
        |value: f64| left + (value - x_range.0) / (x_range.1 - x_range.0) * (WIDE - left - 90.0);
    let y = |value: f64| bottom - (value - y_range.0) / (y_range.1 - y_range.0) * (bottom - 30.0);
    let mut svg = open(title, HEIGHT);
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{left} 8V{bottom}H{WIDE}\"/>\
         <text x=\"{left}\" y=\"{:.1}\">{}</text><text x=\"0\" y=\"12\">{}</text>",
        HEIGHT - 6.0,
        escape(x_axis),
        escape(y_axis)
    );
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let value = y_range.0 + share * (y_range.1 - y_range.0);
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.3}</text>",
            left - 6.0,
            y(value) + 4.0
        );
        let value = x_range.0 + share * (x_range.1 - x_range.0);
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(value),
            bottom + 16.0,
            tick_words(value)
        );
    }
    for point in points {
        let (at, up) = (x(point.x), y(point.y));
        let name = escape(&point.name);
        let _ = write!(svg, "<g class=\"series s0\"><title>{name}</title>{}</g>", mark(0, at, up));
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", at + 9.0, up + 4.0);
    }
    svg.push_str("</svg>");
    svg
}

/// About three digits that count.
fn tick_words(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-6).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg class=\"plot\" role=\"img\" aria-label=\"{0}\" viewBox=\"0 0 {WIDE} {height:.0}\" \
         width=\"{WIDE}\" height=\"{height:.0}\"><title>{0}</title>",
        escape(title)
    )
}

fn mark(shape: usize, x: f64, y: f64) -> String {
    match shape {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\"/>", x - 4.5, y - 4.5),
        2 => format!("<path d=\"M{x:.1} {:.1}l6 10h-12z\"/>", y - 6.0),
        _ => format!("<path d=\"M{x:.1} {:.1}l6 6l-6 6l-6-6z\"/>", y - 6.0),
    }
}

fn said(spot: &Spot) -> String {
    match spot.value {
        Some(value) if spot.low == spot.high => format!("{value:.4}"),
        Some(value) => format!("{value:.4}, from {:.4} to {:.4}", spot.low, spot.high),
        None => format!("from {:.4} to {:.4}", spot.low, spot.high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_numbers_are_finite() {
        let spot = Spot { value: Some(0.5), low: 0.25, high: 0.75 };
        let rows = [("<b>".to_owned(), vec![Some(spot), None])];
        let svg = dots("a & b", &["one".to_owned(), "<i>".to_owned()], &rows);
        assert!(
            svg.contains("&lt;b&gt;") && svg.contains("a &amp; b") && !svg.contains("<b>"),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 1);
        let point = |x, y| Point { name: "<p>".to_owned(), x, y };
        for points in [vec![], vec![point(1.0, 2.0)], vec![point(0.0, 0.0), point(5.0, 1.0)]] {
            let svg = scatter("t", "x", "y", &points);
            assert!(!svg.contains("<p>"));
            assert_eq!(svg.matches("<circle").count(), points.len());
            assert!(points.is_empty() || !(svg.contains("NaN") || svg.contains("inf")), "{svg}");
        }
    }
}
