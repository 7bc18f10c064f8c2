//! The models there are: each with its price, its sizes and the scenarios that it is for.

use super::agents::{CONTEXT_WINDOW, MAX_OUTPUT, model_ref};
use crate::model::catalog::PriceOrigin;
use crate::model::chat::ModelRef;
use crate::workflow::schema::{ConfigDoc, Library, ModelDoc, Pricing};
use std::collections::BTreeSet;

/// A model that steps can use.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The model as a run would ask it.
    pub model: ModelRef,
    /// Whether it is from the environment; else from the configuration.
    pub from_environment: bool,
    /// Where its price is from; `None`: nobody knows its price.
    pub price_from: Option<PriceOrigin>,
    /// The scenarios that may use it.
    pub scenarios: Vec<String>,
}

/// All models of the configuration and the environment, as a run would use them. An environment's model whose name the
/// configuration takes is not among them.
pub fn known(library: &Library, environment: &[ModelRef]) -> Vec<Known> {
    let config = &library.config;
    let configured = config.models.iter().map(|(name, doc)| (model_ref(name, doc), Some(doc)));
    let found = environment.iter().filter(|model| !config.models.contains_key(&model.name));
    let all = configured.chain(found.map(|model| (model.clone(), None)));
    let routes = routes(config, environment);
    let known = all.map(|(mut model, doc)| {
        let price_from = complete(&mut model, doc, &library.pricing);
        let uses = routes.iter().filter(|(_, names)| names.contains(&model.name));
        Known {
            from_environment: doc.is_none(),
            price_from,
            scenarios: uses.map(|(scenario, _)| scenario.clone()).collect(),
            model,
        }
    });
    known.collect()
}

/// Each scenario with its models: those that the configuration routes, and the default one.
fn routes(config: &ConfigDoc, environment: &[ModelRef]) -> Vec<(String, Vec<String>)> {
    let names: BTreeSet<&str> = config.scenarios.keys().map(String::as_str).chain(["default"]).collect();
    let route = |scenario: &str| {
        let names = chain(config, scenario);
        if !names.is_empty() {
            return names;
        }
        let found: Vec<String> = environment.iter().map(|model| model.name.clone()).collect();
        if found.is_empty() { config.models.keys().cloned().collect() } else { found }
    };
    names.into_iter().map(|scenario| (scenario.to_owned(), route(scenario))).collect()
}

/// The names that the configuration routes a scenario to: its own, else the default scenario's; empty where it has
/// neither.
pub(super) fn chain(config: &ConfigDoc, scenario: &str) -> Vec<String> {
    let routed = |scenario: &str| config.scenarios.get(scenario).map(|names| names.as_slice());
    let names = routed(scenario).filter(|names| !names.is_empty()).or_else(|| routed("default"));
    names.unwrap_or_default().iter().map(|name| name.0.clone()).collect()
}

/// Fills in the price and the sizes that a model was not given, from the tables, and says where the price is from.
/// `doc`: what the configuration says of it.
pub fn complete(model: &mut ModelRef, doc: Option<&ModelDoc>, pricing: &Pricing) -> Option<PriceOrigin> {
    let found = pricing.look_up(&model.provider, &model.model);
    let said = |configured: fn(&ModelDoc) -> Option<u64>, own: u64| match doc {
        Some(doc) => configured(doc),
        None => Some(own).filter(|own| *own > 0),
    };
    let window = said(|doc| doc.context_window, model.context_window);
    model.context_window = window.or(found.context_window).unwrap_or(CONTEXT_WINDOW);
    let longest = said(|doc| doc.max_output, model.max_output);
    model.max_output = longest.unwrap_or_else(|| found.max_output.unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT));
    if model.price.is_some() {
        return Some(if doc.is_some() { PriceOrigin::Config } else { PriceOrigin::Environment });
    }
    let (price, origin) = found.price?;
    model.price = Some(price);
    Some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{self, Source};

    const CONFIG: &str = "models:\n  main: { provider: anthropic, model: claude-sonnet-4-5 }\n  agreed: { provider: openai, \
                          model: gpt-4.1, max_output: 30000, price: { input_per_mtok: 1, output_per_mtok: 3 } }\n  \
                          here: { provider: ollama, model: \"qwen3:8b\", context_window: 40000 }\n  \
                          odd: { provider: litellm, model: team-model }\nscenarios:\n  default: [main, agreed]\n  \
                          background: here\n";

    #[test]
    fn prices_and_sizes_are_filled_in_and_say_where_they_are_from() {
        let mut sources = workflow::builtin();
        sources.push(Source { path: ".codeforge/config.yml".into(), text: CONFIG.into(), builtin: false });
        let library = workflow::load(&sources, &|_| None);
        let bare =
            ModelRef { name: "env".into(), provider: "openai".into(), model: "gpt-4o".into(), ..ModelRef::default() };
        let known = known(&library, std::slice::from_ref(&bare));
        let rows: Vec<_> = known
            .iter()
            .map(|it| {
                let price = it.model.price.map(|price| (price.input_per_mtok, price.output_per_mtok));
                let from = match &it.price_from {
                    Some(PriceOrigin::Table { entry, .. }) => entry.clone(),
                    other => format!("{other:?}"),
                };
                let sizes = (it.model.context_window, it.model.max_output);
                (it.model.name.as_str(), price, from, sizes, it.scenarios.join(" "))
            })
            .collect();
        let (default, background) = ("default".to_owned(), "background".to_owned());
        assert_eq!(
            rows,
            [
                ("main", Some((3.0, 15.0)), "claude-sonnet-4*".into(), (200_000, 8192), default.clone()),
                ("agreed", Some((1.0, 3.0)), "Some(Config)".into(), (1_047_576, 30_000), default),
                ("here", Some((0.0, 0.0)), "Some(Local)".into(), (40_000, 8192), background),
                ("odd", None, "None".into(), (128_000, 8192), String::new()),
                ("env", Some((2.5, 10.0)), "gpt-4o".into(), (128_000, 8192), String::new()),
            ]
        );
        // What nothing routes goes to the environment's model.
        let unrouted = super::known(&workflow::load(&workflow::builtin(), &|_| None), &[bare]);
        assert_eq!(unrouted[0].scenarios, ["default"]);
    }
}
