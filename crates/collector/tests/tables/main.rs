//! Tables and comparisons of graded trees, against numbers computed by hand or in another way.

mod compare;
mod real;
mod results;
mod support;
