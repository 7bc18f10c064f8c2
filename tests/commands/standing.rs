//! How a job stands, told in its comment; and why a run did what it did.

use crate::common::{ModelServer, Reply, Rule, TestRepo, spoken};
use crate::shop::{KINDS, Shop, WORKFLOWS, one};
use codeforge::adapter::clock::SystemClock;
use codeforge::adapter::{git, sqlite};
use codeforge::model::forge::ForgeKind;
use codeforge::model::id::RunId;
use codeforge::model::job::{Job, JobEnd};
use codeforge::model::places;
use codeforge::port::forge::{Sticky, Thread};
use codeforge::port::queue::Which;
use codeforge::port::store::RunHead;
use codeforge::server::progress::{Progress, Shown};
use serde_json::json;
use std::sync::Arc;

/// The comment of a run that was there stays below, with what it remembers; the run's own result is left alone.
#[tokio::test]
async fn a_workflows_comment_shows_how_its_job_stands() {
    for kind in KINDS {
        let shop = Shop::open(kind).await;
        let (thread, key) = (Thread::Change(shop.change), "ask");
        let memory = "<!-- codeforge:memory {\"head\":null} -->";
        let sticky = Sticky { thread, key, body: "### CodeForge ask — 2 findings", memory: Some(memory) };
        shop.forge.stick(&sticky).await.unwrap();
        shop.say("ann", "/codeforge ask why?").await;
        let shown = Progress { forge: &*shop.forge, queue: &*shop.queue, phrase: "/codeforge", now_ms: shop.now_ms };
        let (job, lease) = shop.begin().await;
        shown.show(&job, Some("answer")).await.unwrap();
        let body = one(&shop).await;
        assert!(body.contains("⚙️ **ask** running, at `answer`") && body.contains("2 findings"), "{kind:?}: {body}");
        assert_eq!(shop.forge.recall(thread, &[key]).await.unwrap()[key], memory, "{kind:?}");
        let writes = shop.server.asked().iter().filter(|it| it.method != "GET").count();
        shown.show(&job, Some("answer")).await.unwrap();
        shown.show(&job, Some("other")).await.unwrap();
        assert_eq!(
            shop.server.asked().iter().filter(|it| it.method != "GET").count(),
            writes,
            "{kind:?}: at most a few a minute"
        );
        shop.forge.stick(&Sticky { body: "### CodeForge ask — no findings", ..sticky }).await.unwrap();
        let end = JobEnd::Done { conclusion: "success".into(), cost_usd: None, url: None, note: None };
        shop.queue.end(&lease, &end, shop.now_ms).await.unwrap();
        shown.show(&shop.only().await, None).await.unwrap();
        assert!(one(&shop).await.ends_with("### CodeForge ask — no findings"), "{kind:?}: the run's own words stay");
        let last = shop.server.memory().statuses.last().unwrap().clone();
        assert_eq!((last.1.as_str(), last.2.as_str()), ("codeforge/ask", "success"), "{kind:?}");
    }
}

/// One says it at a time, and says what is true then: not what was true when it was asked to.
#[tokio::test]
async fn an_older_word_never_follows_a_newer_one() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("ann", "/codeforge ask why?").await;
    let shown = Progress { forge: &*shop.forge, queue: &*shop.queue, phrase: "/codeforge", now_ms: shop.now_ms };
    let (running, lease) = shop.begin().await;
    // Somebody else is at it: another server, or the run.
    let voice = shop.queue.voice(&running.id).await.unwrap().unwrap();
    assert_eq!(shown.show(&running, None).await.unwrap(), Shown::Later);
    drop(voice);
    // The run has said itself what there is to say.
    let file = places::job(shop.folder.path(), &running.id).join(places::VOICE);
    std::fs::write(&file, "1").unwrap();
    assert_eq!(shown.show(&running, None).await.unwrap(), Shown::Later);
    assert!(one(&shop).await.starts_with("⏳ **ask** queued"), "{}", one(&shop).await);
    std::fs::write(&file, "").unwrap();
    let end = JobEnd::Done { conclusion: "success".into(), cost_usd: None, url: None, note: None };
    shop.queue.end(&lease, &end, shop.now_ms).await.unwrap();
    assert_eq!(shop.queue.shown_otherwise(0, 9).await.unwrap(), [(shop.served.clone(), running.id.clone())]);
    assert_eq!(shown.show(&running, None).await.unwrap(), Shown::Now);
    assert!(one(&shop).await.starts_with("✅ **ask** done"), "{}", one(&shop).await);
    assert_eq!(shop.queue.shown_otherwise(0, 9).await.unwrap(), []);
    // A newer one of the same workflow speaks; that the older one was put back and cancelled is its own matter.
    shop.say("ann", "/codeforge ask how?").await;
    shop.queue.requeue(&running.id, shop.now_ms).await.unwrap();
    let which = Which { id: Some(running.id.clone()), most: 1, ..Which::default() };
    shop.queue.cancel(&which, "no more", shop.now_ms).await.unwrap();
    assert_eq!(shown.show(&running, None).await.unwrap(), Shown::Now);
    assert!(one(&shop).await.starts_with("⏳ **ask** queued"), "{}", one(&shop).await);
    assert_eq!(shop.server.memory().statuses.last().unwrap().2, "pending");
}

/// A run whose agent was refused something; its journal is put into the server's under the job's id.
async fn denied(shop: &Shop, job: &Job) {
    let asking = WORKFLOWS[0].1.replace("architect", "coder");
    let repo = TestRepo::with(&[("a.txt", "x\n"), (".codeforge/workflows/ask.yml", &asking)]);
    let server = ModelServer::start(vec![
        Rule::when().turn(0).reply(Reply::call("shell", json!({ "command": "git push origin HEAD:main" }))),
        Rule::when().turn(1).reply(Reply::call("finish", json!({ "summary": "It is slow." }))),
    ])
    .await;
    let mut command = repo.codeforge(&["run", "ask", "-i", "task=why?", "--sandbox", "none", "--deliver", "none"]);
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "2");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(server.unmatched().is_empty(), "{}\n{:#?}", spoken(&output), server.unmatched());
    let repository = git::open(repo.path()).unwrap();
    let store = sqlite::open(repository.state_dir(), Arc::new(SystemClock)).await.unwrap();
    let (head, summary) = store.runs(1).await.unwrap().remove(0);
    let rows = store.rows(&head.id).await.unwrap();
    let head = RunHead { id: RunId(job.id.clone()), ..head };
    let fence = shop.journal.create(&head, &rows, "test").await.unwrap();
    shop.journal.release(&head.id, fence).await.unwrap();
    assert!(summary.ending.is_some());
}

#[tokio::test]
async fn why_something_was_refused_is_explained_from_the_journal() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("rita", "/codeforge ask why is it slow?").await;
    let (job, lease) = shop.begin().await;
    denied(&shop, &job).await;
    let end = JobEnd::Done { conclusion: "success".into(), cost_usd: None, url: None, note: None };
    shop.queue.end(&lease, &end, shop.now_ms).await.unwrap();
    shop.say("rita", "/codeforge explain why did you not push?").await;
    let body = shop.ours().await.remove(1);
    for words in [
        "### ✅ CodeForge ask `JOB0` — done",
        "git push origin HEAD:main",
        "Policy `headless-safe-sandbox`",
        "| denied |",
        "Not known: what a model had in mind",
    ] {
        assert!(body.contains(words), "{words}: {body}");
    }
    let place = body.lines().find(|line| line.contains("git push")).unwrap();
    assert!(place.contains("headless-safe-sandbox, built in:7"), "the rule's file and line: {place}");
}
