//! What a question cost, attempts that failed included.

use super::dialect::Billed;
use crate::model::chat::{Bill, ModelRef};
use crate::model::usage::{CostSource, NanoUsd};

/// The bill of one request.
pub(super) fn bill(model: &ModelRef, billed: Option<Billed>) -> Bill {
    let usage = billed.map(|billed| billed.usage);
    let provider = billed.and_then(|billed| billed.cost);
    let table = || Some(model.price.as_ref()?.of(&usage?));
    let (cost, source) = match (provider, table()) {
        (Some(cost), _) => (Some(cost), CostSource::Provider),
        (None, Some(cost)) => (Some(cost), CostSource::PriceTable),
        (None, None) => (None, CostSource::Unknown),
    };
    Bill { model: model.name.clone(), usage, cost, source }
}

/// Adds what attempts that failed had cost. Where one part is unknown, so is the sum.
pub(super) fn together(lost: Option<Bill>, last: Bill) -> Bill {
    let Some(lost) = lost else { return last };
    let usage = lost.usage.zip(last.usage).map(|(mut sum, usage)| {
        sum += usage;
        sum
    });
    let cost = lost.cost.zip(last.cost).map(|(a, b): (NanoUsd, NanoUsd)| a.plus(b));
    let source = match cost {
        None => CostSource::Unknown,
        Some(_) if lost.source == last.source => last.source,
        Some(_) => CostSource::PriceTable,
    };
    Bill { model: last.model, usage, cost, source }
}
