//! Medians, quartiles and percentiles.

use serde::Serialize;

/// The middle of some figures, and where their middle half is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Self { median: at(&figures, 0.5), low: at(&figures, 0.25), high: at(&figures, 0.75) }
    }
}

/// The figure below which this share of them is, between two if need be; they are sorted, and not none.
pub(crate) fn at(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}
