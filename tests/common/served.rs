//! `codeforge serve` as a process, and senders of signed webhooks.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use sqlx::ConnectOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The secret of the repositories' webhooks, unless a test says otherwise.
pub const SECRET: &str = "s3cret-of-the-webhook";

/// A server's folder: its settings, its secrets, its state.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// With this `serve.yml`; `@` in it stands for the folder.
    pub fn new(settings: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.secret("secret", SECRET);
        home.secret("token", "a-token-of-the-forge");
        home.settings(settings);
        home
    }

    /// A server of a GitHub, a GitLab and a Gitea repository, whose forges cannot be reached; `more` stands at the end.
    pub fn usual(more: &str) -> Self {
        Self::new(&format!("{USUAL}{more}"))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes `serve.yml` anew.
    pub fn settings(&self, text: &str) {
        let text = text.replace('@', &self.path().display().to_string());
        std::fs::write(self.path().join("serve.yml"), text).unwrap();
    }

    /// Writes a secret's file anew.
    pub fn secret(&self, name: &str, value: &str) {
        std::fs::write(self.path().join(name), format!("{value}\n")).unwrap();
    }

    /// Starts the server.
    pub async fn serve(&self) -> Served {
        Served::start(self.path()).await
    }

    /// The command that starts it.
    pub fn command(&self) -> std::process::Command {
        let mut command = super::codeforge();
        command.args(["serve", "--format", "json", "--config", "serve.yml"]).current_dir(self.path());
        command
    }

    /// A connection of our own to its database.
    pub async fn database(&self) -> sqlx::SqliteConnection {
        let file: PathBuf = self.path().join("state/serve.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        options.busy_timeout(Duration::from_secs(30)).connect().await.unwrap()
    }

    /// The deliveries' ids, in the order of arrival.
    pub async fn deliveries(&self) -> Vec<String> {
        let rows = sqlx::query_as::<_, (String,)>("SELECT id FROM deliveries ORDER BY number");
        let rows = rows.fetch_all(&mut self.database().await).await.unwrap();
        rows.into_iter().map(|(id,)| id).collect()
    }
}

const USUAL: &str = "listen: 127.0.0.1:0
state: state
repositories:
  - { forge: github, name: acme/widgets, server: http://127.0.0.1:9, token: file://@/token, secrets: [file://@/secret] }
  - { forge: gitlab, name: acme/widgets, server: http://127.0.0.1:9, token: file://@/token, secrets: [file://@/secret] }
  - { forge: gitea, name: acme/widgets, server: http://127.0.0.1:9, token: file://@/token, secrets: [file://@/secret] }
";

/// A server that runs; killed when dropped.
pub struct Served {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    lines: Arc<Mutex<Vec<Value>>>,
    http: reqwest::Client,
}

impl Served {
    async fn start(folder: &Path) -> Self {
        let mut command = super::codeforge();
        command.args(["serve", "--format", "json", "--config", "serve.yml"]).current_dir(folder);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (reader, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                kept.lock().unwrap().push(value);
            }
        });
        let mut served = Self { child, url: String::new(), lines, http: reqwest::Client::new() };
        let address = served.said("listening").await;
        served.url = format!("http://{}", address["address"].as_str().unwrap());
        served
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for its end, and gives its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        super::eventually("the server's end", || child.try_wait().unwrap()).await.code()
    }

    /// The log's lines so far.
    pub fn log(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line of this event, and gives the newest one.
    pub async fn said(&self, event: &str) -> Value {
        let what = format!("`{event}` in the log");
        super::eventually(&what, || self.log().into_iter().rev().find(|line| line["event"] == event)).await
    }

    /// Sends a request with these headers; gives status and body.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, Value) {
        let mut request = self.http.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Asks for a page; gives status and text.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Sends a webhook as GitHub does.
    pub async fn github(&self, id: &str, event: &str, body: &str) -> (u16, Value) {
        let signature = format!("sha256={}", signature(SECRET, body.as_bytes()));
        let headers = [("x-github-event", event), ("x-github-delivery", id), ("x-hub-signature-256", &*signature)];
        self.post("/webhooks/github", &headers, body.to_owned()).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// HMAC-SHA256 in hexadecimal digits.
pub fn signature(secret: &str, body: &[u8]) -> String {
    codeforge::text::hex(&mac(secret.as_bytes(), body))
}

/// HMAC-SHA256.
pub fn mac(secret: &[u8], body: &[u8]) -> Vec<u8> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    hmac.update(body);
    hmac.finalize().into_bytes().to_vec()
}

/// A comment as GitHub tells of it, told apart by its number.
pub fn comment(number: u32) -> String {
    serde_json::json!({
        "action": "created",
        "comment": { "id": number, "body": format!("comment {number}"), "user": { "login": "ada" } },
        "issue": { "number": 7, "title": "A title" },
        "repository": { "full_name": "acme/widgets", "default_branch": "main" },
        "sender": { "login": "ada", "type": "User" },
    })
    .to_string()
}
