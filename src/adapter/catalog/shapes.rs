//! Answers of servers → what they serve. Each has a shape of its own; what is not there is not known.

use crate::model::catalog::Served;
use crate::model::usage::Price;
use crate::text;
use serde_json::Value;

/// The longest name that a model is believed to have, in bytes.
const LONGEST_NAME: usize = 200;

/// LiteLLM's `GET /model/info`. Deployments of one name are one model: the dearest price and the smallest sizes hold
/// whichever of them answers. `None`: it is not that.
pub(super) fn litellm(body: &Value) -> Option<Vec<Served>> {
    let data = body.get("data")?.as_array()?;
    let mut models: Vec<Served> = Vec::new();
    for item in data {
        let Some(model) = item.get("model_name").and_then(name) else { continue };
        let (Some(info), Some(parameters)) = (item.get("model_info"), item.get("litellm_params")) else { continue };
        let cost = |key: &str| per_million(info.get(key)?);
        // A model that LiteLLM does not know gets zeros from it, which say nothing.
        let known = |cost: &f64| *cost > 0.0 || info.get("litellm_provider").is_some_and(|it| !it.is_null());
        let price = cost("input_cost_per_token").zip(cost("output_cost_per_token"));
        let served = Served {
            model,
            price: price.filter(|(input, output)| known(input) || known(output)).map(|(input, output)| Price {
                input_per_mtok: input,
                output_per_mtok: output,
                cache_read_per_mtok: cost("cache_read_input_token_cost"),
                cache_write_per_mtok: cost("cache_creation_input_token_cost"),
            }),
            context_window: info.get("max_input_tokens").and_then(number),
            max_output: info.get("max_output_tokens").and_then(number),
            tools: info.get("supports_function_calling").and_then(Value::as_bool),
            mode: info.get("mode").and_then(name),
            tags: parameters.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(name).collect(),
        };
        match models.iter_mut().find(|other| other.model == served.model) {
            Some(other) => merge(other, served),
            None => models.push(served),
        }
    }
    (!models.is_empty() || data.is_empty()).then_some(models)
}

fn merge(one: &mut Served, other: Served) {
    let larger = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a.max(b)).or(a).or(b);
    let smaller = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.min(b)).or(a).or(b);
    // Where one of them is unknown, so is what an answer costs.
    one.price = one.price.zip(other.price).map(|(a, b)| Price {
        input_per_mtok: a.input_per_mtok.max(b.input_per_mtok),
        output_per_mtok: a.output_per_mtok.max(b.output_per_mtok),
        cache_read_per_mtok: larger(a.cache_read_per_mtok, b.cache_read_per_mtok),
        cache_write_per_mtok: larger(a.cache_write_per_mtok, b.cache_write_per_mtok),
    });
    one.context_window = smaller(one.context_window, other.context_window);
    one.max_output = smaller(one.max_output, other.max_output);
    one.tools = one.tools.zip(other.tools).map(|(a, b)| a && b).or(one.tools).or(other.tools);
    one.tags.extend(other.tags.into_iter().filter(|tag| !one.tags.contains(tag)).collect::<Vec<_>>());
}

/// `GET /v1/models`, as OpenAI has it and with what others add: OpenRouter (`pricing`, `context_length`), vLLM
/// (`max_model_len`), LM Studio's own (`type`, `max_context_length`), Mistral, Anthropic.
pub(super) fn openai(body: &Value) -> Option<Vec<Served>> {
    let data = body.get("data")?.as_array()?;
    let models = data.iter().filter_map(|item| {
        let cost = |key: &str| per_million(item.pointer(&format!("/pricing/{key}"))?);
        let first = |keys: &[&str]| keys.iter().find_map(|key| item.pointer(key).and_then(number));
        let kind = item.get("type").filter(|kind| ["llm", "vlm", "embeddings"].iter().any(|it| *kind == it));
        Some(Served {
            model: item.get("id").and_then(name)?,
            price: cost("prompt").zip(cost("completion")).map(|(input, output)| Price {
                input_per_mtok: input,
                output_per_mtok: output,
                cache_read_per_mtok: cost("input_cache_read"),
                cache_write_per_mtok: cost("input_cache_write"),
            }),
            context_window: first(&[
                "/loaded_context_length",
                "/context_length",
                "/max_context_length",
                "/max_model_len",
                "/max_input_tokens",
            ]),
            max_output: first(&["/top_provider/max_completion_tokens", "/max_output_tokens"]),
            tools: functions(item),
            mode: item.get("mode").or(kind).and_then(name),
            tags: Vec::new(),
        })
    });
    Some(models.collect())
}

/// Whether a model can call functions: a word in a list (OpenRouter, LM Studio), or a switch of its own (Mistral).
fn functions(item: &Value) -> Option<bool> {
    let capabilities = item.get("capabilities");
    if let Some(switch) = capabilities.and_then(|it| it.get("function_calling")) {
        return switch.as_bool();
    }
    let words = item.get("supported_parameters").or(capabilities)?.as_array()?;
    Some(words.iter().any(|it| it == "tools" || it == "tool_use"))
}

/// Ollama's `GET /api/tags`.
pub(super) fn ollama(body: &Value) -> Option<Vec<Served>> {
    let models = body.get("models")?.as_array()?;
    let model = |item: &Value| item.get("model").or_else(|| item.get("name")).and_then(name);
    Some(models.iter().filter_map(|item| Some(Served { model: model(item)?, ..Served::default() })).collect())
}

/// Ollama's `POST /api/show`: what it knows of one model.
pub(super) fn ollama_model(body: &Value, served: &mut Served) {
    let info = body.get("model_info").and_then(Value::as_object).into_iter().flatten();
    let length = info.into_iter().find(|(key, _)| key.ends_with(".context_length")).and_then(|(_, it)| number(it));
    served.context_window = length;
    if let Some(capabilities) = body.get("capabilities").and_then(Value::as_array) {
        served.tools = Some(capabilities.iter().any(|it| it == "tools"));
        if !capabilities.iter().any(|it| it == "completion") {
            served.mode = Some("embedding".to_owned());
        }
    }
}

/// A name as it may be shown and sent: text of a server's, without anything that cannot be seen.
fn name(value: &Value) -> Option<String> {
    let name = value.as_str()?;
    let fine = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_whitespace);
    (fine && text::clean(name) == name && text::invisible(name) == name).then(|| name.to_owned())
}

/// A positive whole number.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| Some(value.as_f64()?.trunc() as u64)).filter(|number| *number > 0)
}

/// US dollars per token, as a number or a text → per million tokens. OpenRouter's `-1` stands for "it depends".
fn per_million(value: &Value) -> Option<f64> {
    let dollars = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    // To a millionth of a dollar: what is less is the noise of binary fractions.
    (dollars.is_finite() && dollars >= 0.0).then(|| (dollars * 1e12).round() / 1e6)
}
