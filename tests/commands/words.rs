//! What a comment starts, what it is answered, and what stays words.

use crate::common::forge_server::{BOT, Fault};
use crate::shop::{KINDS, Shop, one};
use codeforge::model::event::{Comment, Event, EventKind};
use codeforge::model::forge::ForgeKind;
use codeforge::model::job::{Job, JobEnd, JobState};
use insta::assert_snapshot;
use std::time::Instant;

#[tokio::test]
async fn a_command_is_seen_within_a_second_and_its_job_is_shown() {
    for kind in KINDS {
        let shop = Shop::open(kind).await;
        let begun = Instant::now();
        let said = shop.say("rita", "/codeforge ask why is it slow?").await;
        assert_eq!(shop.reactions(said), ["eyes"]);
        assert!(begun.elapsed().as_millis() < 1000, "{kind:?}: {:?}", begun.elapsed());
        let body = one(&shop).await;
        insta::allow_duplicates! {
        assert_snapshot!(body, @r#"
        ⏳ **ask** queued · job `JOB0` on `HEAD` · asked by rita

        `/codeforge cancel JOB0`

        <!-- codeforge:above -->
        "#);
        }
        let statuses = shop.server.memory().statuses.clone();
        assert_eq!(statuses, [(shop.head(), "codeforge/ask".to_owned(), "pending".to_owned())], "{kind:?}");
    }
}

#[tokio::test]
async fn short_words_and_free_text_start_what_the_configuration_says() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("rita", "/ask model=big max_cost_usd=2.50 why?").await;
    let job = shop.only().await;
    let settings: Vec<(&str, &str)> =
        job.new.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((job.new.workflow.as_str(), settings), ("ask", vec![("max_cost_usd", "2.50"), ("model", "big")]));
    shop.say("mo", "@codeforge what does\nthis do?").await;
    let text =
        shop.jobs().await.iter().filter_map(|job| job.new.event.command.clone()).map(|it| it.text).collect::<Vec<_>>();
    assert!(text.contains(&"what does\nthis do?".to_owned()), "{text:?}");
}

#[tokio::test]
async fn settings_that_are_not_allowed_are_refused_with_a_word() {
    let shop = Shop::open(ForgeKind::Github).await;
    for (text, why) in [
        ("/ask policy=trusted why?", "lets no comment choose a policy"),
        ("/ask model=small why?", "is not allowed in a comment; allowed: big"),
        ("/ask max_cost_usd=4 why?", "at most 3.00"),
        ("/ask max_cost_usd=lots why?", "is not an amount"),
        ("/ask colour=red why?", "the command gives the input"),
    ] {
        let said = shop.say("ann", text).await;
        let body = one(&shop).await;
        assert!(body.contains(why) || body.contains(&why.replace('_', "&#95;")), "{text}: {body}");
        assert!(shop.reactions(said).is_empty(), "nothing was begun");
    }
    assert!(shop.jobs().await.is_empty());
}

#[tokio::test]
async fn an_unknown_command_gets_one_answer_with_the_nearest_name() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("ann", "/codeforge satus").await;
    assert_snapshot!(one(&shop).await, @r#"
    ### CodeForge — no command `satus`

    Did you mean `/codeforge status`?

    `/codeforge help` lists what there is.
    "#);
    shop.say("ann", "/codeforge implemnt it").await;
    assert!(one(&shop).await.contains("Did you mean `/codeforge implement`?"), "the same comment says it");
    for (text, says) in [
        ("/codeforge help!", "Did you mean `/codeforge help`?"),
        ("/codeforge Révision", "no command `révision`"),
        ("/codeforge", "Nothing stands after `/codeforge`."),
    ] {
        shop.say("eve", text).await;
        assert!(!one(&shop).await.contains(says), "strangers hear nothing: {text}");
        shop.say("ann", text).await;
        assert!(one(&shop).await.contains(says), "{text}: {}", one(&shop).await);
    }
}

/// A comment may give one workflow several commands: each is carried out, or answered.
#[tokio::test]
async fn each_line_of_a_comment_is_a_command_of_its_own() {
    let shop = Shop::open(ForgeKind::Github).await;
    let id = shop
        .say("ann", "/codeforge ask one\n/codeforge ask two\n/codeforge ask one\n/codeforge ask three nosuch=1")
        .await;
    let tasks = |jobs: Vec<Job>| {
        let mut tasks: Vec<String> = jobs.iter().map(|job| job.new.event.command.clone().unwrap().text).collect();
        tasks.sort();
        tasks
    };
    assert_eq!(tasks(shop.jobs().await), ["one", "three nosuch=1", "two"]);
    shop.say("ann", "/codeforge ask nosuch=1 four\n/codeforge ask five").await;
    assert_eq!(tasks(shop.jobs().await).len(), 4, "one of them cannot be carried out");
    let said = shop.ours().await;
    assert!(
        said.iter().any(|it| it.contains("was not carried out") && it.contains("nosuch")),
        "and that is said: {said:#?}"
    );
    assert_eq!(shop.reactions(id), ["eyes"]);
}

/// Trust 11: access is the API's to say, of who sent it; programs and our own words start nothing.
#[tokio::test]
async fn trust_11_nobody_without_the_right_gets_anything() {
    for (kind, there) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let shop = Shop::open(kind).await;
        if there {
            // Something to retry and to explain, to cancel and to approve.
            shop.say("rita", "/codeforge ask why?").await;
            let (_, lease) = shop.begin().await;
            let end = JobEnd::Done { conclusion: "failure".into(), cost_usd: None, url: None, note: None };
            shop.queue.end(&lease, &end, shop.now_ms).await.unwrap();
            shop.say("ann", "/codeforge mend the parser").await;
        }
        let before = (shop.jobs().await, shop.ours().await);
        let mut said = Vec::new();
        for text in ["mend it", "satus", "help", "status", "cancel", "retry", "approve", "deny", "explain"] {
            said.push(shop.say("eve", &format!("/codeforge {text}")).await);
        }
        said.push(shop.say("rita", "/codeforge mend it").await);
        // Triage is less than writing.
        shop.server.memory().members.insert("tess".into(), "triage".into());
        said.push(shop.say("tess", "/codeforge mend it").await);
        said.push(shop.say("rita", "/codeforge satus").await);
        for status in [500, 404] {
            shop.server
                .fail(Fault::status("GET", "/permission", status).times(9))
                .fail(Fault::status("GET", "username=mo", status).times(9));
            said.push(shop.say("mo", "/codeforge mend it").await);
            shop.server.memory().clear_faults();
        }
        assert!(said.iter().all(|id| shop.reactions(*id).is_empty()), "{kind:?} {there}");
        assert_eq!((shop.jobs().await, shop.ours().await), before, "{kind:?} {there}");
    }
}

/// Trust 11 and 48: what we write is heard again by nobody.
#[tokio::test]
async fn trust_11_our_own_answers_start_nothing() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("ann", "/codeforge help").await;
    let help = shop.server.memory().comments.last().unwrap().clone();
    for actor in [BOT, "ann"] {
        let comment = Comment {
            id: help.id,
            body: format!("{}\n\n/codeforge ask x", help.body),
            author: Some(actor.into()),
            ..Comment::default()
        };
        shop.hear(&shop.event(actor, Some(comment))).await;
    }
    let program = Event { actor_is_bot: true, ..shop.event("ann", None) };
    let comment = Comment { id: 9, body: "/codeforge ask x".into(), author: Some("ann".into()), ..Comment::default() };
    shop.hear(&Event {
        kind: EventKind::IssueComment,
        action: Some("created".into()),
        comment: Some(comment),
        ..program
    })
    .await;
    assert_eq!((shop.jobs().await.len(), shop.ours().await.len()), (0, 1));
}

/// Trust 12: an edit runs only commands that are new, and only its author's.
#[tokio::test]
async fn trust_12_an_edited_comment_runs_only_what_is_new() {
    let shop = Shop::open(ForgeKind::Github).await;
    let id = shop.say("ann", "/codeforge ask one").await;
    let edited = |actor: &str, before: &str, body: &str| {
        let (before, body, author) = (Some(before.to_owned()), body.to_owned(), Some("ann".to_owned()));
        let comment = Comment { id, body, before, author, ..Comment::default() };
        Event { action: Some("edited".into()), ..shop.event(actor, Some(comment)) }
    };
    shop.hear(&edited("ann", "/codeforge ask one", "/codeforge ask one\nplease")).await;
    shop.hear(&edited("mo", "/codeforge ask one", "/codeforge ask two")).await;
    assert_eq!(shop.jobs().await.len(), 1);
    shop.hear(&edited("ann", "/codeforge ask one", "/codeforge ask one\n\n/codeforge ask two")).await;
    let mut asked: Vec<String> = shop.jobs().await.into_iter().map(|job| job.new.event.command.unwrap().text).collect();
    asked.sort();
    assert_eq!(asked, ["one", "two"], "each as it was when it was given");
}

/// Trust 14: quoted commands and those in code run nothing.
#[tokio::test]
async fn trust_14_quoted_commands_run_nothing() {
    let shop = Shop::open(ForgeKind::Github).await;
    for text in [
        "> /codeforge cancel",
        "> quoted\n> \n> /codeforge ask x",
        "> quoted\n/codeforge ask x",
        "- item\n/codeforge ask x",
        "```\n/codeforge ask x\n```",
        "~~~sh\n/codeforge ask x\n~~~",
        "    /ask x",
        "- @codeforge why?",
        "1. /codeforge ask x",
        "`/codeforge help`",
        "please /codeforge ask x",
        "see /ask x",
        "# /codeforge ask x",
        "<p>\n/codeforge ask x\n</p>",
        "<!--\n/codeforge ask x\n-->",
        "| /codeforge ask x |\n|---|\n| /codeforge ask x |",
    ] {
        let said = shop.say("ann", text).await;
        assert!(shop.reactions(said).is_empty(), "{text}");
    }
    assert_eq!((shop.jobs().await.len(), shop.ours().await.len()), (0, 0));
}

/// Trust 48: what others wrote acts on nobody in our answers.
#[tokio::test]
async fn trust_48_our_answers_act_on_nobody() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("ann", "/codeforge mend fixes #1 @all [x](http://evil.example) <img src=//evil.example>").await;
    shop.say("ann", "/codeforge cancel @all").await;
    for body in shop.ours().await {
        // In a span of code nothing acts.
        let body = body.replace("`@all`", "");
        for word in ["@all", "](http", "<img", "fixes #1"] {
            assert!(!body.contains(word), "{word}: {body}");
        }
        assert!(!body.lines().any(|line| line.starts_with('/')), "{body}");
    }
}

#[tokio::test]
async fn a_running_job_is_cancelled_by_who_asked_for_it_or_may_write() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("rita", "/codeforge ask why?").await;
    let (_, lease) = shop.begin().await;
    shop.server.memory().members.insert("bob".into(), "read".into());
    shop.say("bob", "/codeforge cancel").await;
    assert_eq!(shop.only().await.state, JobState::Running, "bob may only read, and did not ask for it");
    shop.say("rita", "/codeforge cancel").await;
    let renewed = shop.queue.renew(&lease, shop.now_ms, 60_000).await.unwrap();
    assert!(format!("{renewed:?}").contains("cancelled by rita"), "{renewed:?}");
    assert!(shop.ours().await[1].contains("it was running and stops now"), "{:#?}", shop.ours().await);
}

#[tokio::test]
async fn a_job_that_ended_badly_runs_once_more_but_only_on_what_it_was_about() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("ann", "/codeforge ask why?").await;
    let (_, lease) = shop.begin().await;
    let end = JobEnd::Done { conclusion: "failure".into(), cost_usd: Some("0.5".into()), url: None, note: None };
    shop.queue.end(&lease, &end, shop.now_ms).await.unwrap();
    shop.say("mo", "/codeforge retry").await;
    assert_eq!(shop.jobs().await.iter().filter(|job| job.state == JobState::Waiting).count(), 1);
    let (_, lease) = shop.begin().await;
    shop.queue.end(&lease, &end, shop.now_ms).await.unwrap();
    shop.server.commit_by("ann", "topic", "main", &[("src/c.txt", Some("x\n"))]);
    shop.say("mo", "/codeforge retry").await;
    assert_eq!(shop.jobs().await.len(), 2);
    assert!(shop.ours().await.iter().any(|body| body.contains("the change was pushed to since")));
}

#[tokio::test]
async fn help_and_status_say_what_there_is_in_one_comment_each() {
    let shop = Shop::open(ForgeKind::Github).await;
    shop.say("rita", "/codeforge help").await;
    assert_snapshot!(one(&shop).await, @r#"
    ### CodeForge — what you can ask for

    | command | who | what it does |
    |---|---|---|
    | `/codeforge ask TEXT` or `/ask` | read | Answers a question. |
    | `/codeforge dependency-update TEXT` | write | Update dependencies with the package manager, run the checks, and mend what breaks. |
    | `/codeforge docs TEXT` | write | Bring the documentation in line with the code. |
    | `/codeforge fix TEXT` | write | Plan a change, make it, test it, review it, and hand it over as a patch, in CI as a pull request. |
    | `/codeforge implement TEXT` | write | Plan a change, make it with gates, and hand it over as a patch, in CI as a pull request; without a review. |
    | `/codeforge lint-fix` | write | Run the repository's own fixers and formatters, check the result, hand it over. No model, no cost. |
    | `/codeforge mend TEXT` | write | Repairs something. Names its price first, and waits for a yes. |
    | `/codeforge review TEXT` | read | Review a change, or what is named; nothing is changed. |
    | `/codeforge security-audit TEXT` | write | Look for what an attacker could use, in a change or in the whole repository; nothing is changed. |
    | `/codeforge triage TEXT` | triage | Say of an issue what it is about, where in the code, how urgent, and what is missing. |
    | `/codeforge help` | read | This. |
    | `/codeforge status` or `/s` | read | How the jobs here stand, what they cost, what they made. |
    | `/codeforge cancel [ID]` | write, or who asked | Ends a job, or all of them here. |
    | `/codeforge retry [ID]` | as the workflow | Runs a job that ended once more. |
    | `/codeforge approve [ID] [max=USD]` | write | Says yes to a price that was named. |
    | `/codeforge deny [ID]` | write | Says no to it. |
    | `/codeforge explain [ID] [TEXT]` | read | Why a run did what it did: rules, checks, limits. |

    `@codeforge` and a question in your own words is the command `ask`. For one run a command may set `max_cost_usd=…`, `model=big`. A command is the first thing on a line of its own; in quotes, lists and code it is only words. `key=value` pairs stand before the text.

    Example: `/codeforge ask what to do, in a sentence`
    "#);
    shop.say("ann", "/codeforge mend the parser").await;
    shop.say("rita", "/s").await;
    shop.say("rita", "/codeforge status").await;
    let ours = shop.ours().await;
    assert_eq!(ours.len(), 3, "{ours:#?}");
    assert_snapshot!(ours[2], @r#"
    ### CodeForge — 1 job, 1 under way

    | job | workflow | state | cost | asked by | result |
    |---|---|---|---|---|---|
    | `JOB0` | `mend` | ✋ waits for a yes | – | ann | – |

    `/codeforge cancel [ID]` · `/codeforge retry [ID]` · `/codeforge explain [ID]`
    "#);
}

#[tokio::test]
async fn one_person_gets_so_many_answers_and_no_more() {
    let mut shop = Shop::open(ForgeKind::Github).await;
    for text in ["help", "status", "explain", "satus", "help", "status", "cancel", "retry"] {
        shop.say("ann", &format!("/codeforge {text}")).await;
    }
    let written = || shop.server.asked().iter().filter(|it| it.method != "GET" && it.path.contains("comments")).count();
    let before = written();
    let said = shop.say("ann", "/codeforge approve").await;
    assert_eq!((written() - before, shop.reactions(said)), (1, vec!["eyes".to_owned()]), "heard, done, not answered");
    shop.say("mo", "/codeforge help").await;
    shop.now_ms += 3_600_001;
    shop.say("ann", "/codeforge approve").await;
    assert!(shop.ours().await.iter().any(|body| body.contains("Nothing here waits for a yes")));
}
