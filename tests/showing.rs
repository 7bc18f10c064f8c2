//! What people see while `codeforge serve` works, and who waits for whom: the real program, real git over HTTP, a real
//! database; the forge is a fake that remembers, and is slow or dead where a story wants it to be.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::hooks::Hook;
use common::forge_server::{BOT, FakeComment, Fault};
use common::town::{JobRow, Town};
use common::{Reply, Rule};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

/// A workflow of a command, with these steps.
fn look(steps: &str) -> String {
    format!("on: {{ command: {{ name: look }} }}\nsteps: {steps}\ndeliver: none\n")
}

/// A change that is older than the server: nothing runs on it by itself.
fn old_change(town: &Town, branch: &str) -> u64 {
    let change = town.forge.open("ann", branch, "Please.");
    town.forge.commit_by("ann", branch, "main", &[("src/a.txt", Some("one\nTWO\nthree\n"))]);
    town.forge.keep_head(change, &town.forge.tip(branch).unwrap());
    change
}

/// What our one comment under a change says.
fn said(town: &Town, change: u64) -> String {
    let ours = town.comments_of_ours(change);
    assert!(ours.len() <= 1, "{ours:#?}");
    ours.into_iter().next().map(|it| it.body).unwrap_or_default()
}

/// Waits until our one comment under a change says all of this.
async fn says(town: &Town, change: u64, words: &[&str]) {
    town.until(&format!("{words:?}"), || async {
        words.iter().all(|words| said(town, change).contains(words)).then_some(())
    })
    .await;
}

/// Waits until a commit's check is in a state.
async fn is_checked(town: &Town, commit: &str, state: &str) {
    town.until(&format!("{state} at {commit}"), || async {
        let memory = town.forge.memory();
        let last = memory.statuses.iter().rev().find(|(at, ..)| at == commit).map(|(.., state)| state.clone());
        (last.as_deref() == Some(state)).then_some(())
    })
    .await;
}

async fn job_of(town: &Town, change: u64, state: &str) -> JobRow {
    let change = i64::try_from(change).unwrap();
    town.until(&format!("a job is {state}"), || async {
        town.jobs().await.into_iter().find(|job| job.change == Some(change) && job.state == state)
    })
    .await
}

/// A forge that takes connections, and says nothing for ever.
struct Hanging {
    url: String,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Hanging {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { url, asked, task }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A comment on a change of a repository.
fn comment_of(repository: &str, number: u64) -> Hook {
    let body = json!({
        "action": "created",
        "comment": { "id": number, "body": format!("/codeforge help {number}"), "user": { "login": "ann" } },
        "issue": { "number": 7, "title": "A title", "pull_request": { "url": "https://forge.example/7" } },
        "repository": { "full_name": repository, "default_branch": "main" },
        "sender": { "login": "ann", "type": "User" },
    });
    let id = format!("{repository}-{number}");
    let event = "issue_comment".to_owned();
    let (kind, by) = (String::new(), "ann".to_owned());
    Hook { id, event, kind, body: body.to_string().into_bytes(), by, answers: Vec::new() }
}

/// A forge that is dead keeps its own repositories waiting, and nobody else; what comes of one repository stays in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_hangs_keeps_only_its_own_repositories_waiting() {
    let dead = Hanging::start().await;
    let mut plan = Town::of(ForgeKind::Github).workflow("look", &look("{ work: { run: \"true\" } }"));
    // More of them than there are places.
    let stuck: Vec<String> = (0..40).map(|n| format!("acme/stuck-{n}")).collect();
    for name in &stuck {
        plan = plan.beside(name, &dead.url);
    }
    let town = plan.build().await;
    let change = old_change(&town, "topic");
    town.starts().await;
    for name in &stuck {
        for number in 0..2 {
            assert_eq!(town.hooks.send(&comment_of(name, number)).await, 202);
        }
    }
    town.until("the dead forge is asked", || async { (dead.asked.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    let begun = Instant::now();
    let asked = town.person("ann").comments(change, "/codeforge look").await;
    town.until("it is acknowledged", || async {
        town.comment(asked).reactions.contains(&"eyes".to_owned()).then_some(())
    })
    .await;
    // A second or so; the machine may be busy. The dead forge is waited for sixty.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}\n{}", begun.elapsed(), town.log());
    job_of(&town, change, "done").await;
    let begun = "SELECT count(*) FROM deliveries WHERE repository LIKE 'acme/stuck%' AND attempts > 0";
    let at_once = town.count(begun).await;
    assert!((1..=8).contains(&at_once), "{at_once} bodies are held for one dead forge");
    let second = "SELECT count(*) FROM deliveries WHERE id LIKE 'acme/stuck%-1' AND attempts > 0";
    assert_eq!(town.count(second).await, 0, "the second one waits for the first");
    // The first of these is asked about for long, and the second not at all.
    let slow = Fault::slow("GET", &format!("/pulls/{change}"), Duration::from_secs(3));
    town.forge.fail(slow);
    town.person("ann").comments(change, "/codeforge look again").await;
    town.person("ann").pushes("other", &[("b.txt", "1\n")]).await;
    let handled = "SELECT count(*) FROM deliveries WHERE repository = 'acme/widgets' AND state = 'handled'";
    town.until("both are handled", || async { (town.count(handled).await >= 3).then_some(()) }).await;
    let overtaken = "SELECT count(*) FROM deliveries a JOIN deliveries b ON a.repository = b.repository
                     WHERE a.number < b.number AND a.handled_ms > b.handled_ms";
    assert_eq!(town.count(overtaken).await, 0, "{:#?}", town.decided().await);
}

/// The run does not wait until it is shown; and what is shown late is what is true then.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_at_once_however_slow_the_forge_is() {
    let town = Town::of(ForgeKind::Github).workflow("look", &look("{ work: { run: \"sleep 1\" } }")).build().await;
    let change = old_change(&town, "topic");
    let head = town.forge.tip("topic").unwrap();
    town.starts().await;
    // What is shown begins with a look at what stands there.
    town.forge.fail(Fault::slow("GET", &format!("/issues/{change}/comments"), Duration::from_secs(20)).times(9));
    town.person("ann").comments(change, "/codeforge look").await;
    job_of(&town, change, "done").await;
    let shown = town.forge.memory().statuses.clone();
    assert!(shown.is_empty(), "the run waited for the forge: {shown:?}");
    assert_eq!(said(&town, change), "", "the run waited for the forge");
    town.forge.memory().clear_faults();
    says(&town, change, &["✅ **look** done"]).await;
    town.settles().await;
    is_checked(&town, &head, "success").await;
    let written = town.forge.asked().into_iter().filter(|it| it.method != "GET" && it.path.contains("comments"));
    let written: Vec<String> = written.map(|it| it.body["body"].as_str().unwrap_or_default().to_owned()).collect();
    let done = written.iter().position(|body| body.contains("✅ **look** done")).unwrap();
    let after = written.iter().skip(done).find(|body| body.contains("running") || body.contains("queued"));
    assert_eq!(after, None, "an older word after the last one: {written:#?}");
}

/// A job that waits and is cancelled says so where it said that it is queued, and why.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_that_is_cancelled_says_so_and_why() {
    let plan = Town::of(ForgeKind::Github).workflow("look", &look("{ work: { run: \"sleep 300\" } }"));
    let town = plan.serve("limits: { workers: 2, per_repository: 1 }").build().await;
    let (first, other) = (old_change(&town, "first"), old_change(&town, "other"));
    let third = old_change(&town, "third");
    town.starts().await;
    let ann = town.person("ann");
    ann.comments(first, "/codeforge look").await;
    job_of(&town, first, "running").await;
    let queued = async |change: u64, branch: &str| {
        ann.comments(change, "/codeforge look").await;
        let job = job_of(&town, change, "waiting").await;
        says(&town, change, &["queued", &job.id]).await;
        let head = town.forge.tip(branch).unwrap();
        is_checked(&town, &head, "pending").await;
        (job.id, head)
    };
    // A push.
    let (id, head) = queued(other, "other").await;
    let new = ann.pushes("other", &[("c.txt", "1\n")]).await;
    says(&town, other, &["⏹️ **look** cancelled", &id, &new[..10]]).await;
    is_checked(&town, &head, "error").await;
    // A command.
    let (id, head) = queued(third, "third").await;
    ann.comments(third, "/codeforge cancel").await;
    let told = || {
        let ours = town.comments_of_ours(third);
        ours.into_iter().any(|it| it.body.contains("**look** cancelled") && it.body.contains("cancelled by ann"))
    };
    town.until("it is shown as cancelled", || async { told().then_some(()) }).await;
    is_checked(&town, &head, "error").await;
    assert!(town.jobs().await.iter().any(|job| job.id == id && job.state == "cancelled"));
    // The operator, from another process.
    let (id, head) = queued(other, "other").await;
    let cancelled = town.codeforge(&["queue", "cancel", &id, "--config", "serve.yml"]);
    assert!(cancelled.status.success(), "{}", common::spoken(&cancelled));
    says(&town, other, &["⏹️ **look** cancelled", &id, "machine"]).await;
    is_checked(&town, &head, "error").await;
    // A close. The commit is the same: the newest job's word counts.
    let (id, head) = queued(other, "other").await;
    ann.closes(other).await;
    says(&town, other, &["⏹️ **look** cancelled", &id, "was closed by ann"]).await;
    is_checked(&town, &head, "error").await;
}

/// The forge takes nothing while jobs die, and the server is killed. Hours later there is another server, and the forge is
/// back: how they ended is shown, also of the one of which nothing was ever shown.
#[tokio::test(flavor = "multi_thread")]
async fn what_died_while_the_forge_was_away_is_shown_once_it_is_back() {
    let ask = look("{ work: { mode: reviewer, prompt: \"Look.\", output: { schema: review } } }");
    let broken = Rule::when().system("You are the reviewer").reply(Reply::status(500)).times(2);
    let plan = Town::of(ForgeKind::Github).workflow("look", &ask).model(vec![broken]);
    let town = plan.serve("retries: { attempts: 1 }").build().await;
    let dying = ["first", "other"].map(|branch| (old_change(&town, branch), town.forge.tip(branch).unwrap()));
    town.starts().await;
    for (change, head) in &dying {
        town.forge.fail(Fault::status("POST", &format!("/statuses/{head}"), 503).times(1000));
        town.person("ann").comments(*change, "/codeforge look").await;
    }
    let first = job_of(&town, dying[0].0, "dead").await;
    job_of(&town, dying[1].0, "dead").await;
    town.until("it was tried to show it", || async { (town.forge.count("POST", &dying[0].1) > 0).then_some(()) }).await;
    town.kill();
    assert!(town.forge.memory().statuses.is_empty(), "{:?}", town.forge.memory().statuses);
    town.alters("DELETE FROM notes WHERE name = 'shown/' || ?", &[first.id.as_str()]).await;
    town.alters("UPDATE jobs SET updated_ms = updated_ms - 20000000", &[]).await;
    town.forge.memory().clear_faults();
    town.starts().await;
    for (change, head) in &dying {
        says(&town, *change, &["💀 **look** failed too often"]).await;
        is_checked(&town, head, "error").await;
    }
}

/// Two servers on one database hear the same comment at the same moment, and each finds that there is no answer yet.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_answer_at_once_leave_one_comment() {
    for kind in KINDS {
        let town = Town::of(kind).build().await;
        let change = old_change(&town, "topic");
        town.starts().await;
        let _other = town.leaves();
        town.starts().await;
        let end = if kind == ForgeKind::Gitlab { "/notes" } else { "/comments" };
        town.forge.fail(Fault::slow("GET", end, Duration::from_secs(5)).times(2));
        town.person("ann").comments(change, "/codeforge help").await;
        let made = || town.forge.count("POST", end);
        town.until("both answer", || async { (made() >= 2).then_some(()) }).await;
        town.settles().await;
        town.until("one of them is gone", || async { (town.comments_of_ours(change).len() == 1).then_some(()) }).await;
        let ours = town.comments_of_ours(change);
        let gone: Vec<_> = town.forge.asked().into_iter().filter(|it| it.method == "DELETE").collect();
        assert_eq!((made(), gone.len()), (2, 1), "{kind:?}");
        let id: u64 = gone[0].path.rsplit('/').next().unwrap().parse().unwrap();
        assert!(ours[0].id < id, "{kind:?}: the first one stays");
        assert!(ours[0].body.contains("what you can ask for"), "{kind:?}: {}", ours[0].body);
    }
}

/// The comment names the step that runs, a few times a minute at most.
#[tokio::test(flavor = "multi_thread")]
async fn the_step_that_runs_is_named_at_a_bounded_rate() {
    let mut steps: Vec<String> = Vec::new();
    for n in 1..=12 {
        let needs = if n > 1 { format!("needs: [s{}], ", n - 1) } else { String::new() };
        steps.push(format!("s{n}: {{ {needs}run: \"sleep 0.5\" }}"));
    }
    steps.push("last: { needs: [s12], run: \"sleep 300\" }".to_owned());
    let text = look(&format!("{{ {} }}", steps.join(", ")));
    let town = Town::of(ForgeKind::Github).workflow("look", &text).build().await;
    let change = old_change(&town, "topic");
    let head = town.forge.tip("topic").unwrap();
    town.starts().await;
    let begun = Instant::now();
    town.person("ann").comments(change, "/codeforge look").await;
    says(&town, change, &["⚙️ **look** running, at `last`"]).await;
    // One when it began, and one each twenty seconds.
    let most = 1 + usize::try_from(begun.elapsed().as_secs() / 20).unwrap().max(1);
    let written = town.forge.asked().into_iter().filter(|it| it.method != "GET" && it.body["body"].is_string());
    let written: Vec<String> = written.map(|it| it.body["body"].as_str().unwrap().to_owned()).collect();
    let running = written.iter().filter(|body| body.contains("running")).count();
    assert!(running <= most && most < 12, "thirteen steps were named in {running} updates: {written:#?}");
    // The check follows its comment.
    let named = || {
        let mut words = town.forge.asked().into_iter().filter(|it| it.path.ends_with(&head));
        words.any(|it| it.body["description"] == "running, at last").then_some(())
    };
    town.until("the check names the step", async || named()).await;
}

/// The server is about to say that a run is under way while that run says what it found: the result stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_says_is_not_written_over() {
    let text = "on: { command: { name: look } }\nsteps: { work: { run: \"sleep 1\" } }\ndeliver: comment\n";
    let town = Town::of(ForgeKind::Github).gated().workflow("look", text).build().await;
    let change = old_change(&town, "topic");
    town.starts().await;
    town.forge.fail(Fault::slow("GET", "/comments", Duration::from_secs(3)).times(3));
    town.person("ann").comments(change, "/codeforge look").await;
    town.settles().await;
    assert_eq!(town.work().await, ["look: done success"], "{:#?}", town.jobs().await);
    let ours: Vec<FakeComment> = town.comments_of_ours(change);
    assert_eq!(ours.len(), 1, "{ours:#?}");
    assert!(ours[0].author == BOT && ours[0].body.contains("### "), "{}", ours[0].body);
    assert!(!ours[0].body.contains("codeforge:above"), "{}", ours[0].body);
}

/// Where the forge does not say whose the token is, our comment is known by its signature: how a job stands is said in it,
/// and what was found before is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_comment_remembers_stays_where_the_forge_does_not_say_who_we_are() {
    let text = "on: { command: { name: look, access: write } }\npolicy: plan-readonly\nsteps:\n  \
                review: { mode: reviewer, prompt: \"{{ event.change.diff }}\", output: { schema: review } }\ndeliver: review\n";
    let finding = json!({ "file": "src/a.txt", "line": 2, "severity": "high", "what": "It shouts." });
    let output = json!({ "approved": false, "summary": "No.", "findings": [finding] });
    let finish = Reply::call("finish", json!({ "summary": "Looked.", "output": output }));
    let script = vec![Rule::when().user("+TWO").reply(finish).always()];
    let town = Town::of(ForgeKind::Gitea).gated().workflow("look", text).model(script).build().await;
    let change = old_change(&town, "topic");
    town.forge.fail(Fault::status("GET", "/user", 403).times(u32::MAX));
    town.starts().await;
    for round in 1..=2 {
        town.person("ann").comments(change, "/codeforge look").await;
        town.settles().await;
        let job = town.jobs().await.pop().unwrap();
        assert_eq!(job.conclusion, "success", "{round}: {job:#?}\n{}", town.log());
        let log = town.log_of(&job.id);
        assert_eq!(log.contains("was looked at before"), round == 2, "{round}: {log}");
        let ours = town.comments_of_ours(change);
        assert_eq!(ours.len(), 1, "{round}: {ours:#?}");
        assert!(!ours[0].body.contains("queued"), "{round}: {}", ours[0].body);
    }
}

/// A command on a change that is not open costs nothing where what it makes could not be handed over, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_change_that_is_over_is_answered_before_it_costs_anything() {
    for kind in KINDS {
        let steps = "steps: { work: { run: \"echo made > made.txt\" } }";
        let of =
            |name: &str, deliver: &str| format!("on: {{ command: {{ name: {name} }} }}\n{steps}\ndeliver: {deliver}\n");
        let plan = Town::of(kind).gated().hasty();
        let plan = plan.workflow("mend", &of("mend", "{ as: push-to-branch, title: Mended }"));
        let town = plan.workflow("say", &of("say", "comment")).build().await;
        let change = old_change(&town, "topic");
        town.starts().await;
        let ann = town.person("ann");
        ann.closes(change).await;
        ann.comments(change, "/codeforge mend").await;
        town.settles().await;
        assert_eq!(town.work().await, Vec::<String>::new(), "{kind:?}: {:#?}", town.decided().await);
        let answer = town.comments_of_ours(change).pop().unwrap().body;
        assert!(answer.contains(&format!("change {change} is closed")), "{kind:?}: {answer}");
        // Words may stand under it.
        ann.comments(change, "/codeforge say").await;
        town.settles().await;
        assert_eq!(town.work().await, ["say: done success"], "{kind:?}: {:#?}", town.jobs().await);
    }
}
