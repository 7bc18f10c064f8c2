//! Models as people read them.

use super::{Asked, Context, Entry, Overview, key, shown};
use crate::model::catalog::{Listing, PriceOrigin};
use crate::model::usage::Price;
use crate::report::numbers::grouped;
use serde_json::Value;
use std::fmt::Write;

/// So many models of one server are listed without being asked for.
const LISTED: usize = 20;

/// All models and servers.
pub(super) fn list(overview: &Overview, all: bool, cx: &Context<'_>) -> String {
    let mut text = String::new();
    if !overview.models.is_empty() {
        let mut rows =
            vec![["NAME", "MODEL", "PRICE", "PRICE FROM", "CONTEXT", "KEY", "FROM", "SCENARIOS"].map(str::to_owned)];
        rows.extend(overview.models.iter().map(|entry| {
            let model = &entry.known.model;
            let gone = matches!(entry.served, Some(None));
            [
                model.name.clone(),
                format!("{}/{}", model.provider, model.model),
                short_price(model.price.as_ref()),
                origin(entry.known.price_from.as_ref()),
                grouped(model.context_window),
                key_text(model.api_key.as_deref(), cx),
                if gone { format!("{}; its server does not list it", entry.from) } else { entry.from.clone() },
                entry.known.scenarios.join(", "),
            ]
        }));
        table(&rows, "", &mut text);
        text.push_str("\nPrices are in US dollars per million tokens, in and out.\n");
    }
    let mut servers = String::new();
    for asked in &overview.servers {
        server(asked, all, &mut servers);
    }
    if !text.is_empty() && !servers.is_empty() {
        text.push('\n');
    }
    text + &servers
}

fn server(asked: &Asked, all: bool, text: &mut String) {
    let server = &asked.server;
    // What nobody named and nobody finds is nobody's business.
    if !server.named && !matches!(asked.listing, Listing::Served(_)) {
        return;
    }
    let _ = write!(text, "{} at {} ({}): ", server.provider, shown(&server.base_url), server.known_by);
    match &asked.listing {
        Listing::Absent(why) => {
            let _ = writeln!(text, "not there: {why}");
        }
        Listing::Refused(why) => {
            let _ = writeln!(text, "does not say what it serves: {why}");
        }
        Listing::Served(_) => {
            let count = asked.models.len();
            let more = if all || count <= LISTED { "" } else { "; `codeforge models list --all` shows them" };
            let _ = writeln!(text, "{count} {}{more}", if count == 1 { "model" } else { "models" });
            if all || count <= LISTED {
                let rows: Vec<[String; 5]> = asked.models.iter().map(row).collect();
                table(&rows, "  ", text);
            }
        }
    }
}

fn row(entry: &Entry) -> [String; 5] {
    let model = &entry.known.model;
    [
        model.model.clone(),
        short_price(model.price.as_ref()),
        origin(entry.known.price_from.as_ref()),
        grouped(model.context_window),
        model.tags.join(", "),
    ]
}

/// One model.
pub(super) fn one(entry: &Entry, cx: &Context<'_>) -> String {
    let model = &entry.known.model;
    let mut text = String::new();
    let mut line = |title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{title:<16}{value}");
        }
    };
    line("name", &model.name);
    line("from", &entry.from);
    line("provider", &model.provider);
    line("model", &model.model);
    line("address", &model.base_url.as_deref().map(shown).unwrap_or_default());
    line("key", &key_text(model.api_key.as_deref(), cx));
    match &model.price {
        Some(price) => {
            line("price", &format!("${} a million tokens in, ${} out", price.input_per_mtok, price.output_per_mtok));
            let cached = |price: Option<f64>| price.map(|price| format!("${price}")).unwrap_or_default();
            line("  cache read", &cached(price.cache_read_per_mtok));
            line("  cache write", &cached(price.cache_write_per_mtok));
        }
        None => {
            line("price", "unknown: what its server says an answer cost counts, and what it does not say is unknown")
        }
    }
    if let Some(from) = &entry.known.price_from {
        let entry = match from {
            PriceOrigin::Table { entry, .. } => format!(", entry `{entry}`"),
            _ => String::new(),
        };
        line("  from", &format!("{}{entry}", origin(Some(from))));
    }
    let asked = entry.served_price().filter(|price| Some(price) != model.price.as_ref());
    line("  its server says", &asked.map(|price| short_price(Some(&price))).unwrap_or_default());
    line("context window", &format!("{} tokens", grouped(model.context_window)));
    line("longest answer", &format!("{} tokens", grouped(model.max_output)));
    line("tools", if model.tools { "yes" } else { "no: calls are written in its text" });
    line("tags", &model.tags.join(", "));
    line("scenarios", &entry.known.scenarios.join(", "));
    let served = entry.served.as_ref().map(|served| if served.is_some() { "yes" } else { "no" });
    line("listed by server", served.unwrap_or_default());
    text
}

/// `$3/$15`, `$0`, `unknown`.
fn short_price(price: Option<&Price>) -> String {
    match price {
        None => "unknown".to_owned(),
        Some(price) if *price == Price::default() => "$0".to_owned(),
        Some(price) => format!("${}/${}", price.input_per_mtok, price.output_per_mtok),
    }
}

/// Where a price is from, with its day.
fn origin(from: Option<&PriceOrigin>) -> String {
    match from {
        None => "-".to_owned(),
        Some(PriceOrigin::Config) => "config.yml".to_owned(),
        Some(PriceOrigin::Environment) => "environment".to_owned(),
        Some(PriceOrigin::Table { file, as_of, .. }) => format!("{file}, {as_of}"),
        Some(PriceOrigin::Local) => "local".to_owned(),
        Some(PriceOrigin::Server) => "server".to_owned(),
    }
}

/// `OPENAI_API_KEY sk-…3f9a`, `OPENAI_API_KEY missing`, `none`.
fn key_text(reference: Option<&str>, cx: &Context<'_>) -> String {
    let key = key(reference, cx);
    match (key.get("name").and_then(Value::as_str), key.get("shown").and_then(Value::as_str)) {
        (None, _) => "none".to_owned(),
        (Some(name), Some(shown)) => format!("{name} {shown}"),
        (Some(name), None) => format!("{name} missing"),
    }
}

/// Rows with their columns aligned.
pub(super) fn table<const N: usize>(rows: &[[String; N]], indent: &str, text: &mut String) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{indent}{}", line.trim_end());
    }
}
