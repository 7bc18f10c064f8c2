//! What servers serve, asked over real HTTP: each in its own shape, and what is not there or talks nonsense. Then the
//! command that shows it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]
mod common;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use axum::{Json, body};
use codeforge::adapter::catalog::Asker;
use codeforge::model::catalog::{Listing, Served, Server};
use codeforge::port::model::Catalog;
use common::{ModelServer, Reply, Rule, TestRepo, codeforge, ok, spoken};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server with these routes; its address without a path.
async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

async fn ask(provider: &str, base_url: String, key: Option<&str>) -> Listing {
    let asker = Asker::new(Arc::new(|name| (name == "KEY").then(|| "sk-secret".to_owned())));
    let api_key = key.map(str::to_owned);
    asker.list(&Server { provider: provider.into(), base_url, api_key, known_by: "test".into(), named: true }).await
}

fn served(listing: Listing) -> Vec<Served> {
    match listing {
        Listing::Served(models) => models,
        other => panic!("{other:?}"),
    }
}

/// Name, input and output price, context, longest answer, tools, whether it chats.
type Row<'a> = (&'a str, Option<(f64, f64)>, Option<u64>, Option<u64>, Option<bool>, bool);

fn row(model: &Served) -> Row<'_> {
    let price = model.price.map(|price| (price.input_per_mtok, price.output_per_mtok));
    (&model.model, price, model.context_window, model.max_output, model.tools, model.chats())
}

fn ollama() -> Router {
    let show = |Json(asked): Json<Value>| async move {
        match asked["model"].as_str() {
            Some("qwen3:8b") => Json(json!({ "capabilities": ["completion", "tools"],
                "model_info": { "general.architecture": "qwen3", "qwen3.context_length": 40960 } }))
            .into_response(),
            Some("nomic-embed-text:latest") => {
                Json(json!({ "capabilities": ["embedding"], "model_info": {} })).into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    };
    let tags = json!({ "models": [{ "name": "qwen3:8b", "model": "qwen3:8b", "size": 5 },
        { "name": "nomic-embed-text:latest" }, { "name": "gone:latest" }] });
    Router::new().route("/api/tags", get(|| async { Json(tags) })).route("/api/show", post(show))
}

#[tokio::test]
async fn each_kind_of_server_is_asked_in_its_own_way() {
    let base = serve(ollama()).await;
    let found = served(ask("ollama", format!("{base}/v1"), None).await);
    assert_eq!(
        found.iter().map(row).collect::<Vec<_>>(),
        [
            ("qwen3:8b", None, Some(40_960), None, Some(true), true),
            ("nomic-embed-text:latest", None, None, None, Some(false), false),
            ("gone:latest", None, None, None, None, true),
        ]
    );

    let list = json!({ "data": [
        { "id": "qwen2.5-coder-7b", "type": "llm", "max_context_length": 32768, "loaded_context_length": 8192, "capabilities": ["tool_use"] },
        { "id": "bge-m3", "type": "embeddings", "max_context_length": 8192 } ] });
    let base = serve(Router::new().route("/api/v0/models", get(|| async { Json(list) }))).await;
    let found = served(ask("lmstudio", format!("{base}/v1"), None).await);
    let expected = [
        ("qwen2.5-coder-7b", None, Some(8192), None, Some(true), true),
        ("bge-m3", None, Some(8192), None, None, false),
    ];
    assert_eq!(found.iter().map(row).collect::<Vec<_>>(), expected);

    // An older LM Studio, and any other server of OpenAI's protocol: vLLM says its window, OpenRouter its prices.
    let list = json!({ "object": "list", "data": [
        { "id": "meta/llama", "object": "model", "max_model_len": 4096 },
        { "id": "maker/m", "context_length": 200000, "supported_parameters": ["tools", "stop"],
          "pricing": { "prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003" },
          "top_provider": { "max_completion_tokens": 64000 } },
        { "id": "openrouter/auto", "pricing": { "prompt": "-1", "completion": "-1" } },
        { "id": "mistral-x", "type": "base", "max_context_length": 9000, "capabilities": { "function_calling": true } },
        { "id": "two words" }, { "id": "hid\u{202e}den" }, { "id": "x".repeat(300) }, { "id": 7 }, {} ] });
    let base = serve(Router::new().route("/v1/models", get(|| async { Json(list) }))).await;
    for provider in ["openrouter", "lmstudio", "vllm", "openai", "litellm"] {
        let found = served(ask(provider, format!("{base}/v1"), None).await);
        assert_eq!(
            found.iter().map(row).collect::<Vec<_>>(),
            [
                ("meta/llama", None, Some(4096), None, None, true),
                ("maker/m", Some((3.0, 15.0)), Some(200_000), Some(64_000), Some(true), true),
                ("openrouter/auto", None, None, None, None, true),
                ("mistral-x", None, Some(9000), None, Some(true), true),
            ],
            "{provider}"
        );
        assert_eq!(found[1].price.unwrap().cache_read_per_mtok, Some(0.3));
    }

    let list = |headers: HeaderMap| async move {
        let has = |name: &str, value: &str| headers.get(name).is_some_and(|it| it == value);
        let fine = has("x-api-key", "sk-secret") && has("anthropic-version", "2023-06-01");
        if !fine || headers.contains_key("authorization") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        Json(json!({ "data": [{ "type": "model", "id": "claude-x", "display_name": "X" }], "has_more": false }))
            .into_response()
    };
    let base = serve(Router::new().route("/v1/models", get(list))).await;
    let found = served(ask("anthropic", format!("{base}/v1"), Some("env://KEY")).await);
    assert_eq!(found.iter().map(row).collect::<Vec<_>>(), [("claude-x", None, None, None, None, true)]);
}

#[tokio::test]
async fn deployments_of_one_name_are_as_dear_as_the_dearest_and_as_small_as_the_smallest() {
    let deployment = |name: &str, info: Value, tag: &str| json!({ "model_name": name, "litellm_params": { "model": "x", "tags": [tag] }, "model_info": info });
    let list = json!({ "data": [
        deployment("team", json!({ "input_cost_per_token": 3e-6, "output_cost_per_token": 1.5e-5, "max_input_tokens": 200000,
            "cache_creation_input_token_cost": 3.75e-6, "supports_function_calling": true, "mode": "chat" }), "dear"),
        deployment("team", json!({ "input_cost_per_token": 1e-7, "output_cost_per_token": 4e-7, "max_input_tokens": 32000,
            "supports_function_calling": true, "mode": "chat" }), "cheap"),
        deployment("odd", json!({ "input_cost_per_token": 0, "output_cost_per_token": 0, "litellm_provider": null }), "x"),
        deployment("own", json!({ "input_cost_per_token": 0, "output_cost_per_token": 0, "litellm_provider": "ollama" }), "x"),
        deployment("emb", json!({ "mode": "embedding" }), "x") ] });
    let key = |request: &Request| request.headers().get("authorization").is_some_and(|it| it == "Bearer sk-secret");
    let info = move |request: Request| async move {
        if key(&request) { Json(list).into_response() } else { StatusCode::UNAUTHORIZED.into_response() }
    };
    let base = serve(Router::new().route("/model/info", get(info))).await;
    // The same proxy under the name that a person who knows nothing of LiteLLM gives it.
    for provider in ["litellm", "openai"] {
        let found = served(ask(provider, format!("{base}/v1"), Some("env://KEY")).await);
        assert_eq!(
            found.iter().map(row).collect::<Vec<_>>(),
            [
                ("team", Some((3.0, 15.0)), Some(32_000), None, Some(true), true),
                ("odd", None, None, None, None, true),
                ("own", Some((0.0, 0.0)), None, None, None, true),
                ("emb", None, None, None, None, false),
            ]
        );
        assert_eq!(
            (found[0].tags.join(" "), found[0].price.unwrap().cache_write_per_mtok),
            ("dear cheap".into(), Some(3.75))
        );
    }
}

#[tokio::test]
async fn who_is_not_there_or_talks_nonsense_is_an_answer() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}/v1", free.local_addr().unwrap());
    drop(free);
    let says = |listing: Listing, part: &str| match listing {
        Listing::Absent(why) => assert!(format!("absent: {why}").contains(part), "{why}"),
        Listing::Refused(why) => assert!(format!("refused: {why}").contains(part), "{why}"),
        Listing::Served(models) => panic!("{models:?}"),
    };
    for provider in ["ollama", "litellm", "lmstudio", "openai", "anthropic"] {
        says(ask(provider, nobody.clone(), None).await, "absent: ");
    }
    let elsewhere = serve(Router::new().fallback(any(|| async { Json(json!({ "data": [{ "id": "trap" }] })) }))).await;
    let to = format!("{elsewhere}/v1/models");
    let answers: [(&str, Router); 5] = [
        (
            "refused: it answers 401 Unauthorized (it wants another key)",
            Router::new().fallback(|| async { StatusCode::UNAUTHORIZED }),
        ),
        ("refused: its answer is no JSON", Router::new().fallback(|| async { "<html>" })),
        ("refused: its list of models is none", Router::new().fallback(|| async { Json(json!([1])) })),
        // The key would go along.
        (
            "refused: it answers 307",
            Router::new().fallback(move || {
                let to = to.clone();
                async move { Redirect::temporary(&to) }
            }),
        ),
        (
            "absent: no answer within 2 s",
            Router::new().fallback(|| async {
                let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
                Response::new(body::Body::from_stream(never))
            }),
        ),
    ];
    for (part, routes) in answers {
        let base = serve(routes).await;
        let begun = Instant::now();
        says(ask("openrouter", format!("{base}/v1"), Some("env://KEY")).await, part);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    says(
        ask("openrouter", elsewhere, Some("env://OTHER")).await,
        "refused: its key is to be in OTHER, which is not set",
    );
    says(ask("openrouter", "u:hunter2@h".into(), None).await, "refused: ");
}

fn models(repo: &TestRepo, arguments: &[&str], env: &[(&str, &str)]) -> std::process::Output {
    let mut command = repo.codeforge(arguments);
    command.envs(env.iter().copied());
    command.output().unwrap()
}

const PRICES: &str = "as_of: 2026-01-02\nmodels:\n  team-*: { input: 1, output: 2, context_window: 9000 }\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_what_there_is_what_it_costs_and_where_that_is_from() {
    let ollama = serve(ollama()).await;
    let server = ModelServer::start(vec![]).await;
    let repo = TestRepo::with(&[("README.md", "x")]);
    repo.write(".codeforge/pricing.yml", PRICES);
    repo.write(
        ".codeforge/config.yml",
        format!(
            "models:\n  main: {{ provider: openai, model: gpt-4.1, api_key: env://MAIN_KEY }}\n  agreed: {{ provider: openai, \
             model: m, base_url: \"{url}\", api_key: env://NO_KEY, price: {{ input_per_mtok: 7, output_per_mtok: 8 }} }}\n  \
             team: {{ provider: openai, model: team-x, base_url: \"{url}\" }}\n  odd: {{ provider: openai, model: odd, \
             base_url: \"{url}\" }}\n  small: {{ provider: ollama, model: \"qwen3:8b\", base_url: \"{ollama}\" }}\n  \
             gone: {{ provider: ollama, model: other, base_url: \"{ollama}\" }}\nscenarios:\n  default: [main, team]\n  \
             background: [small]\n",
            url = server.url()
        ),
    );
    let key = "sk-proj-abcdefghijklmnop3f9a";
    let env = [("MAIN_KEY", key), ("OLLAMA_HOST", ollama.as_str()), ("HTTPS_PROXY", "http://127.0.0.1:9")];
    let output = models(&repo, &["models", "list", "--format", "json"], &env);
    assert!(output.status.success(), "{}", spoken(&output));
    assert!(!spoken(&output).contains(key), "{}", spoken(&output));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows: Vec<_> = list["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| {
            let price = &model["price"];
            json!([
                model["name"],
                price["input_per_mtok"],
                model["price_from"]["source"],
                model["price_from"]["file"],
                model["context_window"],
                model["key"]["shown"],
                model["key"]["present"],
                model["scenarios"],
                model["served"]
            ])
        })
        .collect();
    assert_eq!(
        rows,
        [
            json!(["main", 2.0, "table", "built in", 1_047_576, "sk-…3f9a", true, ["default"], null]),
            json!(["agreed", 7.0, "config", null, 128_000, null, false, [], null]),
            json!(["team", 1.0, "table", ".codeforge/pricing.yml", 9000, null, null, ["default"], null]),
            json!(["odd", null, null, null, 128_000, null, null, [], null]),
            json!(["small", 0.0, "local", null, 128_000, null, null, ["background"], true]),
            json!(["gone", 0.0, "local", null, 128_000, null, null, [], false]),
        ]
    );
    let of = |url: &str| list["servers"].as_array().unwrap().iter().find(|it| it["base_url"] == url).unwrap().clone();
    let asked = of(&format!("{ollama}/v1"));
    assert_eq!((&asked["state"], &asked["known_by"]), (&json!("served"), &json!("OLLAMA_HOST")));
    let names: Vec<&Value> = asked["models"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
    // What only embeds is no model for a step.
    assert_eq!(names, ["ollama/qwen3:8b", "ollama/gone:latest"]);
    assert_eq!(
        (&asked["models"][0]["price_from"]["source"], &asked["models"][0]["context_window"]),
        (&json!("local"), &json!(40_960))
    );
    assert_eq!(of("https://api.openai.com/v1")["state"], "absent");
    assert_eq!(list["prices"][0]["stale"], true);

    // For people: the same, and that the repository's prices are old.
    let output = models(&repo, &["models", "list"], &env);
    let said = spoken(&output);
    for part in [
        "the prices in .codeforge/pricing.yml are of 2026-01-02",
        "MAIN_KEY sk-…3f9a",
        "NO_KEY missing",
        "$7/$8",
        "its server does not list it",
        "ollama at",
        "2 models",
        "built in, 20",
    ] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    assert!(
        !said.contains("lmstudio") || said.contains("lmstudio at http://127.0.0.1:1234/v1 (usual address)"),
        "{said}"
    );
    let said = ok(repo.codeforge(&["models", "show", "team", "--offline"]).env("OLLAMA_HOST", &ollama));
    for part in ["$1 a million tokens in, $2 out", ".codeforge/pricing.yml, 2026-01-02, entry `team-*`", "9,000 tokens"]
    {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    let said = ok(repo.codeforge(&["models", "show", "ollama/qwen3:8b"]).env("OLLAMA_HOST", &ollama));
    assert!(said.contains("40,960 tokens"), "{said}");
    let output = models(&repo, &["models", "show", "nope", "--offline"], &env);
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    server.finished();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_one_tiny_request_and_a_model_that_fails_is_code_5_with_advice() {
    let asked_little = |asked: &common::model_server::Asked| {
        asked.body["max_tokens"] == 16 || asked.body["max_completion_tokens"] == 16
    };
    let rule = |model: &str| Rule::when().model(model).matches("16 tokens", asked_little);
    let server = ModelServer::start(vec![
        rule("gpt-4.1").reply(Reply::call("ping", json!({})).usage(50, 6)),
        rule("team-x").reply(Reply::text("Pong!").usage(40, 5).cost(0.0005)),
        rule("plain").matches("no tools", |asked| asked.tools().is_empty()).reply(Reply::text("OK").no_usage()),
        rule("bad").reply(Reply::error(401, "no such key", None)),
    ])
    .await;
    let repo = TestRepo::with(&[("README.md", "x")]);
    let url = server.url();
    repo.write(
        ".codeforge/config.yml",
        format!(
            "models:\n  good: {{ provider: openai, model: gpt-4.1, base_url: \"{url}\" }}\n  words: {{ provider: openai, model: \
             team-x, base_url: \"{url}\" }}\n  plain: {{ provider: openai, model: plain, base_url: \"{url}\", tools: false \
             }}\n  bad: {{ provider: openai, model: bad, base_url: \"{url}\", api_key: env://BAD }}\n"
        ),
    );
    let output = models(&repo, &["models", "test", "--format", "json"], &[("BAD", "sk-abcdefghijklmnopqrstu")]);
    assert_eq!(output.status.code(), Some(5), "{}", spoken(&output));
    let tried: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows: Vec<Value> = tried
        .as_array()
        .unwrap()
        .iter()
        .map(|it| json!([it["name"], it["ok"], it["usage"]["input"], it["cost_usd"], it["cost_from"], it["tools"]]))
        .collect();
    assert_eq!(
        rows,
        [
            json!(["good", true, 50, 0.000148, "price_table", "work"]),
            json!(["words", true, 40, 0.0005, "provider", "not called"]),
            json!(["plain", true, null, null, "unknown", "off"]),
            json!(["bad", false, null, null, "unknown", "-"]),
        ]
    );
    let error = tried[3]["error"].as_str().unwrap();
    assert!(error.contains("The server refused the key in BAD (sk-…rstu)"), "{error}");
    server.finished();
    assert_eq!(
        codeforge().args(["models", "test"]).current_dir(repo.path()).args(["nope"]).output().unwrap().status.code(),
        Some(2)
    );
}

const LOOK: &str = "name: look\nsteps: { a: { mode: researcher, prompt: Look. } }\ndeliver: { as: none }\n";

/// The bill of a run of one call that is configured by nothing but these variables.
async fn bill(model: &str, env: impl FnOnce(&str) -> Vec<(&'static str, String)>) -> Value {
    let finish = Reply::call("finish", json!({ "summary": "seen" })).usage(1000, 100);
    let server = ModelServer::start(vec![Rule::when().model(model).reply(finish)]).await;
    let repo = TestRepo::with(&[("README.md", "x"), (".codeforge/workflows/look.yml", LOOK)]);
    let mut command = repo.codeforge(&["run", "look", "--sandbox", "native", "--format", "json"]);
    let account: Value = serde_json::from_str(&ok(command.envs(env(server.url())))).unwrap();
    server.finished();
    let trajectory = std::fs::read_to_string(account["trajectory"].as_str().unwrap()).unwrap();
    let lines = trajectory.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let bill = lines.into_iter().find(|line| line.get("cost_from").is_some()).unwrap();
    json!([bill["model"], bill["cost_usd"], bill["cost_from"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_or_an_address_alone_is_enough_for_a_run_under_a_dollar_cap() {
    // The shipped table has the price of Anthropic's usual model: 1000 tokens at $3 and 100 at $15 a million.
    let anthropic = bill("claude-sonnet-4-6", |url| {
        vec![("ANTHROPIC_API_KEY", "sk-ant-abcdefghijklmnopqrstuv".into()), ("ANTHROPIC_BASE_URL", url.into())]
    });
    assert_eq!(anthropic.await, json!(["env", 0.0045, "price_table"]));
    // What runs here is known to cost nothing.
    let ollama = bill("qwen3:8b", |url| {
        vec![("OLLAMA_HOST", url.trim_end_matches("/v1").into()), ("CODEFORGE_MODEL", "qwen3:8b".into())]
    });
    assert_eq!(ollama.await, json!(["env", 0.0, "price_table"]));
}

#[test]
fn a_broken_table_of_prices_stops_what_relies_on_it() {
    let repo = TestRepo::with(&[("README.md", "x"), (".codeforge/workflows/look.yml", LOOK)]);
    repo.write(".codeforge/pricing.yml", "as_of: 2026-01-02\nmodels:\n  gpt-4.1: { input: 0.1 }\n");
    for arguments in [["models", "list"], ["run", "look"], ["validate", "--strict"]] {
        let output = models(&repo, &arguments, &[("OPENAI_API_KEY", "k")]);
        let said = spoken(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("the key `output` is missing") && said.contains(".codeforge/pricing.yml:3:12"), "{said}");
    }
    // Old prices are no mistake, not even a warning.
    repo.write(".codeforge/pricing.yml", "as_of: 2024-01-02\nmodels: {}\n");
    let output = models(&repo, &["validate", "--strict"], &[]);
    let said = spoken(&output);
    assert!(output.status.success() && said.contains("[stale-prices]"), "{said}");
}
