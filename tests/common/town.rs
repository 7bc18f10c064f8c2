//! A town: a forge that remembers and tells, people who do things there, a scripted model, and the real `codeforge serve`.
//!
//! ```ignore
//! let town = Town::of(ForgeKind::Github).model(script).start().await;
//! let change = town.person("ann").opens_change("topic", &[("a.txt", "one\n")]).await;
//! town.person("ann").comments(change, "/codeforge review").await;
//! town.settles().await;
//! assert_eq!(town.comments_of_ours(change).len(), 1);
//! ```

mod people;

pub use people::Person;

use super::forge_server::hooks::{HOOK_SECRET, Hooks, Seen, What};
use super::forge_server::{BOT, FakeApp, FakeChange, FakeComment, FakeIssue, ForgeServer, TOKEN};
use super::{ModelServer, Script, codeforge, ok};
use codeforge::model::forge::ForgeKind;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a town may take to come to rest.
const REST: Duration = Duration::from_secs(90);
/// How many jobs are over, and shown at the forge as if they were not.
const SHOWN_OTHERWISE: &str = "SELECT count(*) FROM jobs j JOIN notes n ON n.name = 'shown/' || j.id
    WHERE j.state IN ('done', 'cancelled', 'dead') AND n.value NOT LIKE '% ' || j.state || ' %'";
/// How many webhooks nobody has looked at yet.
const UNHEARD: &str = "SELECT count(*) FROM deliveries WHERE state = 'waiting'";
/// The key that the model is asked with.
pub const MODEL_KEY: &str = "sk-town-71f0c2aa9d3e4b58";
/// The key that marks are signed with.
pub const MARKER_KEY: &str = "marker-key-5b1f2e8c6a9d4073";

/// Gates that pass: policies ask for some before anything is handed over.
const PASSING: &str = "gates:\n  tests: { run: \"true\" }\n  lint: { run: \"true\" }\n";
/// The rest of a workflow after its `on`. Two steps, the second one slow: there is time to do something meanwhile. Ends in
/// a change.
pub const SLOW: &str = "steps:
  one: { run: \"echo one > made.txt\" }
  two: { needs: [one], run: \"sleep 3; echo two >> made.txt\" }
deliver: { as: pull_request, title: Made, branch: \"codeforge/slow/{{ key }}\" }
";

/// A town that is being planned.
pub struct Plan {
    kind: ForgeKind,
    files: Vec<(String, String)>,
    script: Script,
    serve: String,
    beside: Vec<(String, String)>,
    members: Vec<(String, String)>,
    app: Option<FakeApp>,
    env: Vec<(String, String)>,
}

impl Plan {
    /// A file on `main`.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    /// A workflow of the repository's own.
    #[must_use]
    pub fn workflow(self, name: &str, text: &str) -> Self {
        let path = format!(".codeforge/workflows/{name}.yml");
        self.file(&path, &format!("name: {name}\n{text}"))
    }

    /// Gates that pass.
    #[must_use]
    pub fn gated(self) -> Self {
        self.file(".codeforge/config.yml", PASSING)
    }

    /// What the model says.
    #[must_use]
    pub fn model(mut self, script: Script) -> Self {
        self.script.extend(script);
        self
    }

    /// More of `serve.yml`, at its top level.
    #[must_use]
    pub fn serve(mut self, yaml: &str) -> Self {
        self.serve.push_str(yaml);
        self.serve.push('\n');
        self
    }

    /// The server is an App at the forge, instead of an account with a token.
    #[must_use]
    pub fn app(mut self) -> Self {
        self.app = Some(FakeApp::new("Iv1.town", 77));
        self
    }

    /// Another GitHub repository that is served, at a forge of this address; its webhooks have the same secret.
    #[must_use]
    pub fn beside(mut self, name: &str, address: &str) -> Self {
        self.beside.push((name.to_owned(), address.to_owned()));
        self
    }

    /// Somebody with a role (`admin`, `maintain`, `write`, `triage`, `read`).
    #[must_use]
    pub fn member(mut self, name: &str, role: &str) -> Self {
        self.members.push((name.to_owned(), role.to_owned()));
        self
    }

    /// A variable of the server's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A forge that takes writes as fast as they come.
    #[must_use]
    pub fn hasty(self) -> Self {
        self.env("CODEFORGE_WRITES_APART_MS", "1")
    }

    /// Builds it, and starts the server.
    pub async fn start(self) -> Town {
        let town = self.build().await;
        town.starts().await;
        town
    }

    /// Builds it; the server does not run yet.
    pub async fn build(self) -> Town {
        let files: Vec<(&str, &str)> = self.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let forge = ForgeServer::with(self.kind, &files).await;
        for (name, role) in self.members {
            forge.memory().members.insert(name, role);
        }
        let model = ModelServer::start(self.script).await;
        let folder = tempfile::tempdir().unwrap();
        let word = match self.kind {
            ForgeKind::Github => "github",
            ForgeKind::Gitlab => "gitlab",
            _ => "gitea",
        };
        let server = forge.git_url().replace("/acme/widgets.git", "");
        let api = forge.api();
        let login = match &self.app {
            None => "token: env://TOWN_TOKEN".to_owned(),
            Some(app) => {
                let file = folder.path().join("app.pem");
                std::fs::write(&file, app.key()).unwrap();
                format!("app: {{ id: \"{}\", private_key: \"file://{}\" }}", app.id, file.display())
            }
        };
        forge.memory().app = self.app;
        let beside = self.beside.iter().map(|(name, address)| {
            format!(
                "  - {{ forge: github, name: {name}, server: \"{address}\", api: \"{address}\", token: env://TOWN_TOKEN, \
                 secrets: [env://TOWN_HOOK] }}\n"
            )
        });
        let beside: String = beside.collect();
        let serve = format!(
            "listen: 127.0.0.1:0\nstate: state\nmarker_key: env://TOWN_MARKER_KEY\nrepositories:\n  - {{ forge: {word}, name: acme/widgets, \
             server: \"{server}\", api: \"{api}\", {login}, secrets: [env://TOWN_HOOK] }}\n{beside}env:\n  CODEFORGE_LLM_API_KEY: env://CODEFORGE_LLM_API_KEY\n  CODEFORGE_LLM_BASE_URL: env://CODEFORGE_LLM_BASE_URL\n  \
             CODEFORGE_MODEL: env://CODEFORGE_MODEL\n  CODEFORGE_LLM_PRICE_INPUT: env://CODEFORGE_LLM_PRICE_INPUT\n  \
             CODEFORGE_LLM_PRICE_OUTPUT: env://CODEFORGE_LLM_PRICE_OUTPUT\n  CODEFORGE_LLM_ATTEMPTS: env://CODEFORGE_LLM_ATTEMPTS\n{}{}",
            if self.serve.contains("sweep:") { "" } else { "sweep: false\n" },
            self.serve
        );
        std::fs::write(folder.path().join("serve.yml"), serve).unwrap();
        let hooks = Hooks::of(self.kind);
        let seen = Mutex::new(Seen::of(&forge));
        let (kind, env) = (self.kind, self.env);
        Town { kind, forge, hooks, model, folder, env, seen, server: Mutex::default(), log: Arc::default() }
    }
}

/// The town; its server ends when it is dropped.
pub struct Town {
    pub kind: ForgeKind,
    pub forge: ForgeServer,
    pub hooks: Hooks,
    pub model: ModelServer,
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
    seen: Mutex<Seen>,
    server: Mutex<Option<Child>>,
    log: Arc<Mutex<Vec<String>>>,
}

/// A job, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobRow {
    pub id: String,
    pub workflow: String,
    pub state: String,
    pub conclusion: String,
    pub note: String,
    pub change: Option<i64>,
    pub attempts: i64,
    pub actor: String,
    pub approved_by: String,
    pub cost: String,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Town {
    /// A small repository with a change's usual people: `ann` and `bob` may write, `tess` triages, `root` is an admin;
    /// `eve` is nobody.
    pub fn of(kind: ForgeKind) -> Plan {
        let plan = Plan {
            kind,
            files: Vec::new(),
            script: Vec::new(),
            serve: String::new(),
            beside: Vec::new(),
            members: Vec::new(),
            app: None,
            env: Vec::new(),
        };
        let plan = plan.file("README.md", "hello\n").file("src/a.txt", "one\ntwo\nthree\n");
        plan.member("ann", "write").member("bob", "write").member("tess", "triage").member("root", "admin")
    }

    /// The folder of `serve.yml` and of the server's state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the server, and sends webhooks to it from now on.
    pub async fn starts(&self) {
        let mut command = codeforge();
        command.current_dir(self.folder()).args(["serve", "--config", "serve.yml", "--format", "json"]);
        for (name, value) in [
            ("TOWN_TOKEN", TOKEN),
            ("TOWN_HOOK", HOOK_SECRET),
            ("TOWN_MARKER_KEY", MARKER_KEY),
            ("CODEFORGE_LLM_API_KEY", MODEL_KEY),
            ("CODEFORGE_LLM_BASE_URL", self.model.url()),
            ("CODEFORGE_MODEL", "scripted-1"),
            ("CODEFORGE_LLM_PRICE_INPUT", "1"),
            ("CODEFORGE_LLM_PRICE_OUTPUT", "1"),
            ("CODEFORGE_LLM_ATTEMPTS", "1"),
            ("CODEFORGE_SANDBOX", "native"),
        ] {
            command.env(name, value);
        }
        command.envs(self.env.iter().cloned());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::clone(&self.log);
        let from = locked(&log).len();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                locked(&log).push(line);
            }
        });
        *locked(&self.server) = Some(child);
        let address = self
            .until("the server listens", || async {
                let line = locked(&self.log)[from..].iter().find(|line| line.contains("\"listening\"")).cloned()?;
                let line: Value = serde_json::from_str(&line).ok()?;
                Some(format!("http://{}", line["address"].as_str()?))
            })
            .await;
        self.hooks.go_to(&address);
    }

    /// Ends the server as a power cut does.
    pub fn kill(&self) {
        let mut child = locked(&self.server).take().expect("a server");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the server to stop, as an init system does; gives its exit code.
    pub async fn stops(&self) -> Option<i32> {
        let pid = locked(&self.server).as_ref().expect("a server").id();
        ok(super::clean("kill").args(["-TERM", &pid.to_string()]));
        let status = self
            .until("the server ends", || async {
                locked(&self.server).as_mut().and_then(|child| child.try_wait().unwrap())
            })
            .await;
        *locked(&self.server) = None;
        status.code()
    }

    /// The server's process.
    pub fn pid(&self) -> String {
        locked(&self.server).as_ref().expect("a server").id().to_string()
    }

    /// Leaves the server alone, so that another one can be started beside it; it is killed when this is dropped.
    pub fn leaves(&self) -> Left {
        Left(locked(&self.server).take().expect("a server"))
    }

    /// Whether the server's process runs.
    pub fn runs(&self) -> bool {
        locked(&self.server).as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// What the server wrote.
    pub fn log(&self) -> String {
        locked(&self.log).join("\n")
    }

    /// Waits for something, and panics with the server's log where it does not come.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, mut look: impl FnMut() -> F) -> T {
        let end = Instant::now() + REST;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < end, "{what}: not within {REST:?}\n{}\n{:#?}", self.log(), self.model.unmatched());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a job that fits.
    pub async fn job(&self, what: &str, fits: impl Fn(&JobRow) -> bool) -> JobRow {
        self.until(what, || async { self.jobs().await.into_iter().find(|job| fits(job)) }).await
    }

    /// Sends what nobody took while the server was away, as a forge does that is asked to.
    pub async fn redelivers(&self) {
        for hook in self.hooks.missed() {
            self.hooks.send(&hook).await;
        }
    }

    /// Waits until nothing is left to do: every webhook looked at, no job waiting or running, nothing new at the forge.
    /// What the server did there is told to it, as a forge does.
    pub async fn settles(&self) {
        self.until("the town settles", || async {
            let busy = self.count(UNHEARD).await
                + self.count("SELECT count(*) FROM jobs WHERE state IN ('waiting', 'running')").await
                + self.count(SHOWN_OTHERWISE).await;
            if busy > 0 {
                return None;
            }
            // What is said after a job ended is said by now, or soon: two looks must agree.
            let before = Seen::of(&self.forge);
            tokio::time::sleep(Duration::from_millis(150)).await;
            let told = self.echoes().await;
            (told == 0 && before.news(&self.forge, &Seen::of(&self.forge)).is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until every webhook was looked at.
    pub async fn decides(&self) {
        self.until("every webhook is looked at", || async { (self.count(UNHEARD).await == 0).then_some(()) }).await;
    }

    /// Tells what our own account did since the last time; how much that was.
    pub async fn echoes(&self) -> usize {
        let now = Seen::of(&self.forge);
        let before = std::mem::replace(&mut *locked(&self.seen), now.clone());
        let news = before.news(&self.forge, &now);
        for what in &news {
            if let What::Change { number, .. } | What::Synchronized { number, .. } = what {
                self.keeps_head(*number);
            }
            self.hooks.tell(&self.forge, BOT, what).await;
        }
        news.len()
    }

    fn keeps_head(&self, number: u64) {
        let head = self.change(number).head;
        if let Some(tip) = self.forge.tip(&head) {
            self.forge.keep_head(number, &tip);
        }
    }

    /// Puts the clock a day on: all that the server remembers of its time tables is a day older, so that each is due once
    /// more. Waits until what they start is over.
    pub async fn a_night_passes(&self) {
        let tables = "SELECT count(*) FROM notes WHERE name LIKE 'tick/%'";
        self.until("the time tables are known", || async { (self.count(tables).await > 0).then_some(()) }).await;
        let tables = self.count(tables).await;
        let scheduled = "json_extract(event, '$.schedule.at') IS NOT NULL";
        let due = format!("SELECT count(*) FROM jobs WHERE {scheduled} AND key NOT LIKE '%day ago'");
        self.alters(&format!("UPDATE jobs SET key = key || ' a day ago' WHERE {scheduled}"), &[]).await;
        let older = "UPDATE notes SET value = CAST(value AS INTEGER) - 86400000 WHERE name LIKE 'tick/%'";
        self.alters(older, &[]).await;
        self.until("the night comes", || async { (self.count(&due).await >= tables).then_some(()) }).await;
        self.settles().await;
    }

    async fn database(&self) -> Option<SqliteConnection> {
        let file = self.folder().join("state/serve.db");
        if !file.exists() {
            return None;
        }
        SqliteConnection::connect(&format!("sqlite://{}?mode=rw", file.display())).await.ok()
    }

    /// A number from the server's database.
    pub async fn count(&self, sql: &str) -> i64 {
        let Some(mut database) = self.database().await else { return 0 };
        let number = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.to_owned())).fetch_one(&mut database).await;
        number.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Changes something in the server's database, as only a test does.
    pub async fn alters(&self, sql: &str, values: &[&str]) {
        let mut database = self.database().await.expect("a database");
        let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        for value in values {
            query = query.bind((*value).to_owned());
        }
        query.execute(&mut database).await.unwrap();
    }

    /// The jobs, oldest first.
    pub async fn jobs(&self) -> Vec<JobRow> {
        let Some(mut database) = self.database().await else { return Vec::new() };
        let sql =
            "SELECT id, workflow, state, conclusion, note, change, attempts, actor, approved_by, cost_usd FROM jobs
                   ORDER BY created_ms, rowid";
        let rows = sqlx::query(sql).fetch_all(&mut database).await.unwrap();
        let text = |row: &sqlx::sqlite::SqliteRow, name: &str| row.get::<Option<String>, _>(name).unwrap_or_default();
        rows.iter()
            .map(|row| JobRow {
                id: text(row, "id"),
                workflow: text(row, "workflow"),
                state: text(row, "state"),
                conclusion: text(row, "conclusion"),
                note: text(row, "note"),
                change: row.get("change"),
                attempts: row.get("attempts"),
                actor: text(row, "actor"),
                approved_by: text(row, "approved_by"),
                cost: text(row, "cost_usd"),
            })
            .collect()
    }

    /// The jobs as `workflow: state conclusion`.
    pub async fn work(&self) -> Vec<String> {
        let jobs = self.jobs().await;
        jobs.iter()
            .map(|job| format!("{}: {} {}", job.workflow, job.state, job.conclusion).trim_end().to_owned())
            .collect()
    }

    /// What each time table's job was due at, oldest first.
    pub async fn due(&self) -> Vec<String> {
        let Some(mut database) = self.database().await else { return Vec::new() };
        let sql = "SELECT json_extract(event, '$.schedule.at') AS at FROM jobs WHERE at IS NOT NULL ORDER BY rowid";
        sqlx::query_scalar(sql).fetch_all(&mut database).await.unwrap()
    }

    /// The report that a workflow's newest job left; empty: none.
    pub async fn report(&self, workflow: &str) -> String {
        let job = self.jobs().await.into_iter().rfind(|job| job.workflow == workflow).expect("such a job");
        std::fs::read_to_string(self.state().join("jobs").join(job.id).join("report/report.md")).unwrap_or_default()
    }

    /// The log that a workflow's newest job left.
    pub async fn newest_log(&self, workflow: &str) -> String {
        let job = self.jobs().await.into_iter().rfind(|job| job.workflow == workflow).expect("such a job");
        self.log_of(&job.id)
    }

    /// The one issue that our account opened.
    pub fn kept_issue(&self) -> FakeIssue {
        let memory = self.forge.memory();
        let ours: Vec<&FakeIssue> = memory.issues.iter().filter(|issue| issue.author == BOT).collect();
        assert_eq!(ours.len(), 1, "{ours:#?}\n{}", self.log());
        ours[0].clone()
    }

    /// What was decided about each delivery.
    pub async fn decided(&self) -> Vec<String> {
        let Some(mut database) = self.database().await else { return Vec::new() };
        let sql = "SELECT source || ' ' || event || ' ' || state || ': ' || coalesce(note, '') FROM deliveries ORDER BY number";
        sqlx::query_scalar(sql).fetch_all(&mut database).await.unwrap()
    }

    /// Somebody.
    pub fn person<'a>(&'a self, name: &'a str) -> Person<'a> {
        Person { town: self, name }
    }

    /// A change as the forge has it.
    pub fn change(&self, number: u64) -> FakeChange {
        self.forge.memory().changes.iter().find(|change| change.number == number).cloned().expect("a change")
    }

    /// The changes that our account opened.
    pub fn changes_of_ours(&self) -> Vec<FakeChange> {
        self.forge.memory().changes.iter().filter(|change| change.author == BOT).cloned().collect()
    }

    /// The comments under a number, by our account.
    pub fn comments_of_ours(&self, number: u64) -> Vec<FakeComment> {
        let ends = format!(" {number}");
        let memory = self.forge.memory();
        memory.comments.iter().filter(|it| it.author == BOT && it.thread.ends_with(&ends)).cloned().collect()
    }

    /// A comment by its number.
    pub fn comment(&self, id: u64) -> FakeComment {
        self.forge.memory().comments.iter().find(|comment| comment.id == id).cloned().expect("a comment")
    }

    /// All that our account wrote, for what must not be in it.
    pub fn said(&self) -> String {
        let memory = self.forge.memory();
        let comments = memory.comments.iter().filter(|comment| comment.author == BOT).map(|it| it.body.clone());
        let changes = memory
            .changes
            .iter()
            .filter(|change| change.author == BOT)
            .flat_map(|it| [it.title.clone(), it.body.clone()]);
        let remarks = memory.remarks.iter().filter(|remark| remark.author == BOT).map(|remark| remark.body.clone());
        comments.chain(changes).chain(remarks).collect::<Vec<_>>().join("\n---\n")
    }

    /// How many requests the forge had that change something: pushes and GraphQL's mutations, too.
    pub fn writes(&self) -> usize {
        self.forge.memory().written
    }

    /// A state folder's journal of runs.
    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// What the run of a job wrote; empty: nothing yet.
    pub fn log_of(&self, job: &str) -> String {
        std::fs::read_to_string(self.state().join("jobs").join(job).join("log")).unwrap_or_default()
    }

    /// The job of [`SLOW`], once its second step is at work: what the first one did is in the journal.
    pub async fn in_the_second_step(&self) -> JobRow {
        let begins = |job: &JobRow| self.log_of(&job.id).contains("two: command begins");
        self.job("the second step", |job| job.state == "running" && begins(job)).await
    }

    /// Runs a command of ours beside the server.
    pub fn codeforge(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = codeforge();
        command.current_dir(self.folder()).args(arguments).output().unwrap()
    }
}

/// A server that is not the town's any more.
pub struct Left(Child);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Town {
    #[expect(clippy::print_stderr, reason = "whoever looks for what went wrong needs the server's side of it")]
    fn drop(&mut self) {
        if let Some(mut child) = locked(&self.server).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", locked(&self.log).join("\n"));
            eprintln!("--- questions that no rule matched\n{:#?}", self.model.unmatched());
        }
    }
}

/// A time zone in which it is two at night just now, and some minutes.
pub fn where_it_is_two() -> String {
    let hour = i64::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour());
    // East of Greenwich the names of these zones have a minus.
    match (2 - hour).rem_euclid(24) {
        0 => "Etc/GMT".to_owned(),
        ahead @ 1..=12 => format!("Etc/GMT-{ahead}"),
        ahead => format!("Etc/GMT+{}", 24 - ahead),
    }
}

/// How often each word is there.
pub fn tally<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}
