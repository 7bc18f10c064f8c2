//! The real LiteLLM proxy between CodeForge and a scripted provider: costs that it computes, tags that it routes by,
//! models and prices that it lists. `scripts/setup` installs it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]
mod common;

use common::{ModelServer, Reply, Rule, TestRepo, spoken};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A proxy of this test's own; ended when dropped.
struct LiteLlm {
    child: Child,
    port: u16,
    /// Its master key: nobody else's.
    key: String,
    folder: tempfile::TempDir,
}

impl LiteLlm {
    /// Starts the proxy in front of `upstream` and waits until it answers.
    fn start(config: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "scripts/setup keeps its downloads under the home folder")]
        let home = PathBuf::from(std::env::var("HOME").unwrap());
        let program = home.join(".cache/codeforge/peers/litellm/venv/bin/litellm");
        assert!(program.exists(), "{} is missing: scripts/setup brings it", program.display());
        let mut folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut noise = [0; 16];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
        let key = format!("sk-{}", noise.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        // Between finding a free port and taking it, somebody else may: then it is tried with another.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            #[expect(clippy::disallowed_methods, reason = "the proxy is started as people start it")]
            let mut command = Command::new(&program);
            command
                .args(["--config", "config.yaml", "--host", "127.0.0.1", "--telemetry", "False", "--port"])
                .arg(port.to_string())
                .current_dir(folder.path())
                .env_clear()
                .envs([("PATH", "/usr/bin:/bin"), ("HOME", folder.path().to_str().unwrap()), ("LANG", "C.UTF-8")])
                .envs([("LITELLM_MASTER_KEY", key.as_str()), ("LITELLM_LOCAL_MODEL_COST_MAP", "True")])
                .envs([("LITELLM_MODE", "PRODUCTION"), ("DISABLE_ADMIN_UI", "True"), ("LITELLM_TELEMETRY", "False")])
                .stdin(Stdio::null())
                .stderr(log.try_clone().unwrap())
                .stdout(log);
            let child = command.spawn().unwrap();
            let mut proxy = Self { child, port, key: key.clone(), folder };
            if proxy.comes_up() {
                return proxy;
            }
            folder = std::mem::replace(&mut proxy.folder, tempfile::tempdir().unwrap());
        }
        panic!("LiteLLM does not start:\n{}", std::fs::read_to_string(folder.path().join("log")).unwrap());
    }

    /// Whether it answers before it ends. Python needs some seconds to read all of it, on a busy machine many.
    fn comes_up(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(180);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "LiteLLM does not answer:\n{}", self.log());
            let mut said = String::new();
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = stream.write_all(b"GET /health/liveliness HTTP/1.0\r\nHost: localhost\r\n\r\n");
                let _ = stream.read_to_string(&mut said);
            }
            if said.starts_with("HTTP/1.1 200") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs the binary in the repository, with the proxy's key.
    fn codeforge(&self, repo: &TestRepo, arguments: &[&str]) -> Output {
        repo.codeforge(arguments).env("PROXY_KEY", &self.key).output().unwrap()
    }

    /// The same, ended well; what it printed, as JSON.
    fn json(&self, repo: &TestRepo, arguments: &[&str]) -> Value {
        let output = self.codeforge(repo, arguments);
        assert!(output.status.success(), "{}\n--- LiteLLM\n{}", spoken(&output), self.log());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for LiteLlm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two deployments of one name, told apart by tags; one with a price of LiteLLM's own list, which needs no upstream;
/// one that nobody has a price of.
const PROXY: &str = r#"
model_list:
  - model_name: team-coder
    litellm_params: { model: openai/dear-model, api_key: none, api_base: "UPSTREAM", tags: [dear],
      input_cost_per_token: 0.00001, output_cost_per_token: 0.00005 }
    model_info: { max_input_tokens: 64000, max_output_tokens: 4000, mode: chat, supports_function_calling: true }
  - model_name: team-coder
    litellm_params: { model: openai/cheap-model, api_key: none, api_base: "UPSTREAM", tags: [cheap],
      input_cost_per_token: 0.000002, output_cost_per_token: 0.000008 }
    model_info: { max_input_tokens: 32000, max_output_tokens: 4000, mode: chat, supports_function_calling: true }
  - model_name: canned
    litellm_params: { model: openai/gpt-4o, api_key: none, mock_response: "pong" }
  - model_name: unheard-of
    litellm_params: { model: openai/unheard-of, api_key: none, api_base: "UPSTREAM" }
router_settings: { enable_tag_filtering: true, num_retries: 0 }
general_settings: { master_key: os.environ/LITELLM_MASTER_KEY }
litellm_settings: { drop_params: true }
"#;

const CONFIG: &str = r#"
models:
  cheap: { provider: litellm, model: team-coder, base_url: "ADDRESS", api_key: env://PROXY_KEY, tags: [cheap] }
  dear: { provider: litellm, model: team-coder, base_url: "ADDRESS", api_key: env://PROXY_KEY, tags: [dear] }
  canned: { provider: litellm, model: canned, base_url: "ADDRESS", api_key: env://PROXY_KEY, tools: false }
  gone: { provider: litellm, model: gone, base_url: "ADDRESS", api_key: env://PROXY_KEY }
scenarios: { default: [cheap], review: [dear] }
"#;

/// What a run reserves for the proxy's names. What an answer cost, the proxy says.
const PRICES: &str = "as_of: 2026-11-24\nmodels:\n  litellm/team-*: { input: 12, output: 60 }\n";

const WORKFLOW: &str = r#"
name: work
steps:
  code: { mode: coder, prompt: "Write it." }
  look: { mode: reviewer, needs: [code], prompt: "Look at it." }
deliver: { as: none }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_through_the_real_proxy_costs_what_the_proxy_says_and_goes_where_its_tags_lead() {
    let finish = |name: &str| Reply::call("finish", json!({ "summary": format!("{name} is done") }));
    let code = || Rule::when().model("cheap-model").system("You are the coder");
    let upstream = ModelServer::start(vec![
        code()
            .turn(0)
            .reply(Reply::call("write_file", json!({ "path": "a.txt", "content": "hello\n" })).usage(1000, 50)),
        code().turn(1).tool_result("a.txt").reply(finish("code").usage(2000, 10)),
        Rule::when().model("dear-model").system("You are the reviewer").reply(finish("look").usage(100, 10)),
    ])
    .await;
    let proxy = LiteLlm::start(&PROXY.replace("UPSTREAM", upstream.url()));
    let repo = TestRepo::with(&[("README.md", "x\n")]);
    repo.write(".codeforge/config.yml", CONFIG.replace("ADDRESS", &proxy.url()));
    repo.write(".codeforge/pricing.yml", PRICES);
    repo.write(".codeforge/workflows/work.yml", WORKFLOW);

    // Costs are the proxy's, from the last chunk of its stream; the table's prices are reserved only.
    let account = proxy.json(&repo, &["run", "work", "--sandbox", "native", "--format", "json"]);
    upstream.finished();
    let trajectory = std::fs::read_to_string(account["trajectory"].as_str().unwrap()).unwrap();
    let lines: Vec<Value> = trajectory.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bills: Vec<Value> = lines
        .iter()
        .filter(|line| line.get("cost_from").is_some())
        .map(|line| json!([line["model"], line["usage"]["input"], line["cost_usd"], line["cost_from"]]))
        .collect();
    assert_eq!(
        bills,
        [
            json!(["cheap", 1000, 0.0024, "provider"]),
            json!(["cheap", 2000, 0.00408, "provider"]),
            json!(["dear", 100, 0.0015, "provider"]),
        ],
        "{trajectory}"
    );
    let reserved = lines.iter().filter_map(|line| line["cost_usd_at_most"].as_f64());
    assert!(reserved.clone().count() == 3 && reserved.clone().all(|cost| cost > 0.1), "{trajectory}");
    assert!(!trajectory.contains(&proxy.key));

    the_proxy_lists_its_models_and_prices(&proxy, &repo);
    the_proxys_models_are_tested(&proxy, &repo, &upstream);
}

fn the_proxy_lists_its_models_and_prices(proxy: &LiteLlm, repo: &TestRepo) {
    let list = proxy.json(repo, &["models", "list", "--format", "json"]);
    let address = format!("{}/v1", proxy.url());
    let server = list["servers"].as_array().unwrap().iter().find(|it| it["base_url"] == address.as_str()).unwrap();
    let rows: Vec<Value> = server["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| {
            json!([
                model["model"],
                model["price"]["input_per_mtok"],
                model["price"]["output_per_mtok"],
                model["price_from"]["source"],
                model["context_window"],
                model["tags"]
            ])
        })
        .collect();
    assert_eq!(
        rows,
        [
            // Whichever deployment answers: the dearest price, the smallest window.
            json!(["team-coder", 10.0, 50.0, "server", 32000, ["dear", "cheap"]]),
            json!(["canned", 2.5, 10.0, "server", 128_000, []]),
            json!(["unheard-of", null, null, null, 128_000, []]),
        ]
    );
    let own: Vec<Value> = list["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| json!([model["name"], model["price"]["input_per_mtok"], model["served"], model["scenarios"]]))
        .collect();
    assert_eq!(
        own,
        [
            json!(["cheap", 12.0, true, ["default"]]),
            json!(["dear", 12.0, true, ["review"]]),
            json!(["canned", null, true, []]),
            json!(["gone", null, false, []]),
        ]
    );
    // The same proxy, found by the environment alone.
    let mut command = repo.codeforge(&["models", "show", "litellm/canned"]);
    let output = command.envs([("LITELLM_BASE_URL", proxy.url()), ("LITELLM_API_KEY", proxy.key.clone())]).output();
    let said = spoken(&output.unwrap());
    assert!(said.contains("$2.5 a million tokens in, $10 out") && said.contains("LITELLM_API_KEY sk-…"), "{said}");
    assert!(!said.contains(&proxy.key), "{said}");
}

fn the_proxys_models_are_tested(proxy: &LiteLlm, repo: &TestRepo, upstream: &ModelServer) {
    upstream.add(Rule::when().model("dear-model").reply(Reply::call("ping", json!({})).usage(30, 4)));
    let output = proxy.codeforge(repo, &["models", "test", "dear", "canned", "gone", "--format", "json"]);
    assert_eq!(output.status.code(), Some(5), "{}", spoken(&output));
    let tried: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |at: usize| json!([tried[at]["name"], tried[at]["ok"], tried[at]["cost_from"], tried[at]["tools"]]);
    assert_eq!(row(0), json!(["dear", true, "provider", "work"]));
    assert_eq!(tried[0]["cost_usd"], json!(0.0005));
    assert_eq!(row(1), json!(["canned", true, "provider", "off"]));
    assert!(tried[1]["cost_usd"].as_f64().unwrap() > 0.0);
    assert_eq!(row(2), json!(["gone", false, "unknown", "-"]));
    assert!(tried[2]["error"].as_str().unwrap().contains("gone"), "{}", tried[2]);
    upstream.finished();
}
