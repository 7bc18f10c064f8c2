//! Tables of prices, and finding a model in them. Pure: a table is a document like any other.

use super::kinds::Date;
use super::library::Loaded;
use crate::model::catalog::PriceOrigin;
use crate::model::usage::Price;
use globset::{GlobBuilder, GlobMatcher};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// A table older than so many days is worth a look.
pub const STALE_AFTER_DAYS: i64 = 180;

/// What models cost: `.codeforge/pricing.yml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CodeForge prices")]
pub struct PricingDoc {
    /// The day that the prices are of: `2026-11-24`.
    pub as_of: Date,
    /// Providers whose models cost nothing by the token, beside `ollama`, `lmstudio` and `vllm`.
    #[serde(default)]
    pub local: Vec<String>,
    /// Prices by the provider's name for a model, or by a glob (`claude-sonnet-4*`, `openrouter/*:free`).
    #[serde(default)]
    pub models: IndexMap<String, PriceDoc>,
}

/// What a model costs, in US dollars per million tokens, and how much fits into it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceDoc {
    /// US dollars per million prompt tokens.
    #[schemars(range(min = 0))]
    pub input: f64,
    /// US dollars per million completion tokens.
    #[schemars(range(min = 0))]
    pub output: f64,
    /// US dollars per million prompt tokens read from the cache. Default: as `input`.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cache_read: Option<f64>,
    /// US dollars per million prompt tokens written to the cache. Default: as `input`.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cache_write: Option<f64>,
    /// Context window, in tokens.
    #[serde(default)]
    #[schemars(range(min = 1000))]
    pub context_window: Option<u64>,
    /// Longest answer that the model can give, in tokens.
    #[serde(default)]
    #[schemars(range(min = 16))]
    pub max_output: Option<u64>,
}

impl PriceDoc {
    /// As a price.
    pub fn price(&self) -> Price {
        Price {
            input_per_mtok: self.input,
            output_per_mtok: self.output,
            cache_read_per_mtok: self.cache_read,
            cache_write_per_mtok: self.cache_write,
        }
    }
}

/// All tables that there are, the repository's before the shipped one.
#[derive(Debug, Clone, Default)]
pub struct Pricing {
    tables: Vec<Table>,
}

#[derive(Debug, Clone)]
struct Table {
    loaded: Loaded<PricingDoc>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    /// Characters that stand for themselves: the more, the closer the entry.
    literal: usize,
    /// Whether it is a name and no glob.
    name: bool,
    doc: PriceDoc,
}

/// What tables say of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Its price, with where that is from.
    pub price: Option<(Price, PriceOrigin)>,
    /// Context window, in tokens.
    pub context_window: Option<u64>,
    /// Longest answer that it can give, in tokens.
    pub max_output: Option<u64>,
}

/// How old a table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Age {
    /// Its file.
    pub file: String,
    /// The day that its prices are of.
    pub as_of: String,
    /// Days since then.
    pub days: i64,
    /// Whether it ships with the program.
    pub builtin: bool,
}

impl Age {
    /// Whether the prices are worth a look.
    pub fn is_stale(&self) -> bool {
        self.days > STALE_AFTER_DAYS
    }
}

impl Pricing {
    /// Adds a table.
    pub fn add(&mut self, loaded: Loaded<PricingDoc>) {
        let entries = loaded.doc.models.iter().map(|(key, doc)| {
            let literal = literal(key);
            Entry { key: key.clone(), literal, name: literal == key.chars().count(), doc: *doc }
        });
        self.tables.push(Table { entries: entries.collect(), loaded });
        self.tables.sort_by_key(|table| table.loaded.builtin);
    }

    /// What the tables say of a provider's model: for each value the closest entry of the first table that has one.
    /// Of a local provider's models only an entry counts that names the provider (`ollama/…`).
    pub fn look_up(&self, provider: &str, model: &str) -> Found {
        let local = |table: &Table| table.loaded.doc.local.iter().any(|name| name == provider);
        let of_its_own = format!("{provider}/");
        let is_local = self.tables.iter().any(local);
        let names = names(provider, model);
        let mut found = Found::default();
        for table in &self.tables {
            let entry = table.closest(&names, |entry| !is_local || entry.key.starts_with(&of_its_own));
            if let Some(Entry { key, doc, .. }) = entry {
                found.price = found.price.or_else(|| {
                    let (file, as_of) = (table.file(), table.loaded.doc.as_of.0.clone());
                    Some((doc.price(), PriceOrigin::Table { file, as_of, entry: key.clone() }))
                });
                found.context_window = found.context_window.or(doc.context_window);
                found.max_output = found.max_output.or(doc.max_output);
            }
            if found.price.is_none() && local(table) {
                found.price = Some((Price::default(), PriceOrigin::Local));
            }
        }
        found
    }

    /// How old the tables are. `now_ms`: milliseconds since 1970, UTC.
    pub fn ages(&self, now_ms: i64) -> Vec<Age> {
        let age = |table: &Table| {
            let as_of = table.loaded.doc.as_of.0.clone();
            Some(Age { days: days_since(&as_of, now_ms)?, file: table.file(), as_of, builtin: table.loaded.builtin })
        };
        self.tables.iter().filter_map(age).collect()
    }

    /// The documents of the tables.
    pub fn documents(&self) -> impl Iterator<Item = &Loaded<PricingDoc>> {
        self.tables.iter().map(|table| &table.loaded)
    }
}

impl Table {
    fn file(&self) -> String {
        if self.loaded.builtin { "built in".to_owned() } else { self.loaded.document.file.clone() }
    }

    fn closest(&self, names: &[String], counts: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let rank = |entry: &Entry| names.iter().position(|name| entry.matches(name));
        let found = self.entries.iter().filter(|entry| counts(entry)).filter_map(|entry| Some((rank(entry)?, entry)));
        found.max_by_key(|(rank, entry)| (entry.literal, entry.name, Reverse(*rank))).map(|(_, entry)| entry)
    }
}

impl Entry {
    /// Whether a name is meant. A glob is compiled only for names that begin as it does. One that cannot be is a problem
    /// of its document already, and means nothing.
    fn matches(&self, name: &str) -> bool {
        if self.name {
            return self.key.eq_ignore_ascii_case(name);
        }
        let begin = self.key.find(['*', '?', '[', '{', '\\']).unwrap_or(self.key.len());
        let begins = name
            .as_bytes()
            .get(..begin)
            .is_some_and(|it| self.key.as_bytes().get(..begin).is_some_and(|own| own.eq_ignore_ascii_case(it)));
        begins && glob(&self.key).is_ok_and(|glob| glob.is_match(name))
    }
}

/// The names that a model is looked up by: with its provider, alone, without a maker's prefix; each also without the
/// day of its version.
fn names(provider: &str, model: &str) -> Vec<String> {
    let tail = model.rsplit_once('/').map(|(_, tail)| tail.to_owned());
    let whole = [format!("{provider}/{model}"), model.to_owned()];
    let mut names = Vec::new();
    for name in whole.into_iter().chain(tail) {
        let short = undated(&name).map(str::to_owned);
        names.push(name);
        names.extend(short);
    }
    names
}

/// A name without `-20250807`, `-2025-08-07`, `@20250807` or `-latest` at its end; `None` where it has none of these.
fn undated(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_suffix("-latest") {
        return Some(rest);
    }
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, day) = name.rsplit_once(['-', '@'])?;
    if digits(day, 8) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-')?;
    let (rest, year) = rest.rsplit_once('-')?;
    (digits(day, 2) && digits(month, 2) && digits(year, 4)).then_some(rest)
}

/// Compiles a key.
///
/// # Errors
/// It is no glob.
pub fn glob(key: &str) -> Result<GlobMatcher, globset::Error> {
    GlobBuilder::new(key).case_insensitive(true).build().map(|glob| glob.compile_matcher())
}

/// Characters of a key that stand for themselves; a class (`[-.]`) counts as one.
fn literal(key: &str) -> usize {
    let mut inside = false;
    let mut count = 0;
    for letter in key.chars() {
        match letter {
            '[' => inside = true,
            ']' => {
                inside = false;
                count += 1;
            }
            '*' | '?' | '{' | '}' | ',' | '\\' => {}
            _ if !inside => count += 1,
            _ => {}
        }
    }
    count
}

fn days_since(day: &str, now_ms: i64) -> Option<i64> {
    let day: jiff::civil::Date = day.parse().ok()?;
    let today = jiff::Timestamp::from_millisecond(now_ms).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date();
    Some((today - day).get_days().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{self, Source};

    const OWN: &str = "as_of: 2026-06-01\nlocal: [farm]\nmodels:\n  gpt-4.1: { input: 1, output: 4 }\n  \
                       openrouter/deepseek*: { input: 7, output: 8 }\n  \"team-*\": { input: 0, output: 0 }\n  \
                       team-dear: { input: 9, output: 9, max_output: 500 }\n";

    fn tables(own: Option<&str>) -> Pricing {
        let mut sources = workflow::builtin();
        sources.extend(own.map(|text| Source {
            path: ".codeforge/pricing.yml".into(),
            text: text.into(),
            builtin: false,
        }));
        let library = workflow::load(&sources, &|_| None);
        assert!(library.diagnostics.is_empty(), "{:?}", library.diagnostics);
        library.pricing
    }

    fn price(tables: &Pricing, provider: &str, model: &str) -> Option<(f64, f64, String)> {
        let (price, origin) = tables.look_up(provider, model).price?;
        let from = match origin {
            PriceOrigin::Table { file, entry, .. } => format!("{file}: {entry}"),
            other => format!("{other:?}"),
        };
        Some((price.input_per_mtok, price.output_per_mtok, from))
    }

    fn row(input: f64, output: f64, from: &str) -> Option<(f64, f64, String)> {
        Some((input, output, from.to_owned()))
    }

    #[test]
    fn names_are_found_by_glob_with_their_maker_and_with_their_day() {
        let tables = tables(None);
        for (provider, model, expected) in [
            ("openai", "gpt-4.1", row(2.0, 8.0, "built in: gpt-4.1")),
            ("openai", "gpt-4.1-2025-04-14", row(2.0, 8.0, "built in: gpt-4.1")),
            ("openai", "gpt-4.1-mini", row(0.4, 1.6, "built in: gpt-4.1-mini")),
            // A variant that nobody listed is not taken for the model that it is named after.
            ("openai", "gpt-4.1-ultra", None),
            ("anthropic", "claude-sonnet-4-5-20250929", row(3.0, 15.0, "built in: claude-sonnet-4*")),
            ("openrouter", "anthropic/claude-sonnet-4.6", row(3.0, 15.0, "built in: claude-sonnet-4[-.]6*")),
            ("litellm", "gemini/gemini-2.5-pro", row(1.25, 10.0, "built in: gemini-2.5-pro")),
            ("openrouter", "google/gemini-2.5-flash", row(0.3, 2.5, "built in: gemini-2.5-flash")),
            ("openrouter", "meta/llama-9:free", row(0.0, 0.0, "built in: openrouter/*:free")),
            ("openai", "meta/llama-9:free", None),
            ("openai", "my-own-model", None),
        ] {
            assert_eq!(price(&tables, provider, model), expected, "{provider} {model}");
        }
        assert_eq!(tables.look_up("openai", "GPT-4o").context_window, Some(128_000));
    }

    #[test]
    fn local_models_are_known_to_cost_nothing_whatever_they_are_called() {
        let shipped = tables(None);
        for provider in ["ollama", "lmstudio", "vllm"] {
            assert_eq!(price(&shipped, provider, "gpt-4.1"), row(0.0, 0.0, "Local"), "{provider}");
        }
        assert_eq!(price(&shipped, "farm", "llama"), None);
        let own = tables(Some(&format!("{OWN}  ollama/rented*: {{ input: 1, output: 2 }}\n")));
        assert_eq!(price(&own, "farm", "llama"), row(0.0, 0.0, "Local"));
        assert_eq!(price(&own, "ollama", "rented:70b"), row(1.0, 2.0, ".codeforge/pricing.yml: ollama/rented*"));
    }

    #[test]
    fn the_repositorys_table_wins_entry_by_entry() {
        let tables = tables(Some(OWN));
        let own = |entry: &str| format!(".codeforge/pricing.yml: {entry}");
        assert_eq!(price(&tables, "openai", "gpt-4.1"), row(1.0, 4.0, &own("gpt-4.1")));
        assert_eq!(price(&tables, "openai", "gpt-4.1-mini"), row(0.4, 1.6, "built in: gpt-4.1-mini"));
        // The closest of a table's entries wins, and one with the provider is closer.
        assert_eq!(price(&tables, "openai", "team-dear"), row(9.0, 9.0, &own("team-dear")));
        assert_eq!(price(&tables, "openai", "team-cheap"), row(0.0, 0.0, &own("team-*")));
        let routed = row(7.0, 8.0, &own("openrouter/deepseek*"));
        assert_eq!(price(&tables, "openrouter", "deepseek/deepseek-chat"), routed);
        assert_eq!(price(&tables, "openai", "deepseek-chat"), row(0.28, 0.42, "built in: deepseek-chat"));
        // What an entry leaves out, the shipped table still says.
        let found = tables.look_up("openai", "gpt-4.1");
        assert_eq!((found.context_window, found.max_output), (Some(1_047_576), Some(32_768)));
    }

    #[test]
    fn a_table_grows_old() {
        let at = |day: &str| format!("{day}T12:00:00Z").parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let ages = tables(Some(OWN)).ages(at("2026-11-28"));
        assert_eq!((ages[0].days, ages[0].is_stale(), ages[0].file.as_str()), (180, false, ".codeforge/pricing.yml"));
        assert!(ages[1].builtin && !ages[1].is_stale());
        assert!(tables(Some(OWN)).ages(at("2026-11-29"))[0].is_stale());
    }
}
