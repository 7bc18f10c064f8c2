//! The door of `codeforge serve`: the real program, real HTTP, a real database.

mod common;

use base64::Engine;
use common::eventually;
use common::payloads;
use common::served::{Home, SECRET, Served, comment, mac, signature};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const MANY: &str = "limits: { requests_per_second: 1000000, burst: 1000000 }\n";

fn flipped(text: &str) -> String {
    let last = if text.ends_with('0') { '1' } else { '0' };
    format!("{}{last}", &text[..text.len() - 1])
}

/// trust.md 30. What is signed right is taken in, whatever it is: it is not parsed. What is not is refused, whatever it is.
#[tokio::test]
async fn trust_30_a_forged_webhook_is_refused_unparsed() {
    let home = Home::usual("");
    let served = home.serve().await;
    let body = "{ this is not JSON";
    let right = signature(SECRET, body.as_bytes());
    let (other, bent) = (signature("another secret", body.as_bytes()), flipped(&right));
    let prefixed = |digits: &str| format!("sha256={digits}");
    let standard = |secret: &[u8], at: i64| {
        let signed = mac(secret, format!("msg_1.{at}.{body}").as_bytes());
        format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(signed))
    };
    let now = jiff::Timestamp::now().as_second();
    let (soon, long_ago) = (now.to_string(), (now - 4000).to_string());
    let (fresh, stale) = (standard(SECRET.as_bytes(), now), standard(SECRET.as_bytes(), now - 4000));
    let (sha1, sha256, forged) = ("sha1=0123456789012345678901234567890123456789", prefixed(&right), prefixed(&bent));
    let (twice, short) = (prefixed(&other), prefixed(&right[..62]));
    let wrong: &[(&str, &[(&str, &str)])] = &[
        ("github", &[("x-github-event", "push")]),
        ("github", &[("x-github-event", "push"), ("x-hub-signature", sha1)]),
        ("github", &[("x-github-event", "push"), ("x-hub-signature-256", &forged)]),
        ("github", &[("x-github-event", "push"), ("x-hub-signature-256", &twice)]),
        ("github", &[("x-github-event", "push"), ("x-hub-signature-256", &short)]),
        ("github", &[("x-github-event", "push"), ("x-hub-signature-256", &right)]),
        ("gitlab", &[("x-gitlab-event", "Push Hook")]),
        ("gitlab", &[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", &SECRET[1..])]),
        (
            "gitlab",
            &[
                ("x-gitlab-event", "Push Hook"),
                ("webhook-id", "msg_1"),
                ("webhook-timestamp", &long_ago),
                ("webhook-signature", &stale),
            ],
        ),
        (
            "gitlab",
            &[
                ("x-gitlab-event", "Push Hook"),
                ("webhook-id", "msg_2"),
                ("webhook-timestamp", &soon),
                ("webhook-signature", &fresh),
            ],
        ),
        ("gitea", &[("x-gitea-event", "push")]),
        ("gitea", &[("x-gitea-event", "push"), ("x-gitea-signature", &bent)]),
        // A bad one is not made good by another header.
        ("gitea", &[("x-gitea-event", "push"), ("x-forgejo-signature", &bent), ("x-gitea-signature", &right)]),
    ];
    for (forge, headers) in wrong {
        let (status, said) = served.post(&format!("/webhooks/{forge}"), headers, body).await;
        assert_eq!(status, 401, "{forge} {headers:?}: {said}");
    }
    assert_eq!(home.deliveries().await, Vec::<String>::new());

    let right: &[(&str, &[(&str, &str)])] = &[
        ("github", &[("x-github-event", "push"), ("x-github-delivery", "1"), ("x-hub-signature-256", &sha256)]),
        ("gitlab", &[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", SECRET), ("idempotency-key", "2")]),
        ("gitea", &[("x-gitea-event", "push"), ("x-gitea-delivery", "3"), ("x-gitea-signature", &right)]),
    ];
    for (forge, headers) in right {
        let (status, said) = served.post(&format!("/webhooks/{forge}"), headers, body).await;
        assert_eq!((status, said["status"].as_str()), (202, Some("accepted")), "{forge}: {said}");
    }
    assert_eq!(home.deliveries().await, ["1", "2", "3"]);
    let log = served.log().iter().map(Value::to_string).collect::<String>();
    assert!(!log.contains("this is not JSON") && !log.contains(SECRET), "{log}");
}

/// trust.md 30, with GitHub's own words: what its documentation says of a secret, a payload and their signature. Nothing
/// that differs from it in one bit is taken in, and nothing weaker; GitLab's and Gitea's forms open their own doors only.
#[tokio::test]
async fn trust_30_githubs_published_signature_is_taken_and_nothing_near_it() {
    const KNOWN: &str = "It's a Secret to Everybody";
    const BODY: &str = "Hello, World!";
    const SHA256: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    // The same with SHA-1, as GitHub still sends it beside the other one.
    const SHA1: &str = "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59";
    let home = Home::usual(MANY);
    home.secret("secret", KNOWN);
    let served = home.serve().await;
    let github = async |headers: &[(&str, &str)], body: &[u8]| {
        let all: Vec<(&str, &str)> = [("x-github-event", "push"), ("x-github-delivery", "vector")]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        served.post("/webhooks/github", &all, body.to_vec()).await.0
    };
    let prefixed = format!("sha256={SHA256}");
    // Every bit of the signature, and every bit of the body.
    let bytes = codeforge::text::unhex(SHA256).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        let bent = format!("sha256={}", codeforge::text::hex(&bent));
        assert_eq!(github(&[("x-hub-signature-256", &bent)], BODY.as_bytes()).await, 401, "bit {bit} of the signature");
    }
    for bit in 0..BODY.len() * 8 {
        let mut bent = BODY.as_bytes().to_vec();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(github(&[("x-hub-signature-256", &prefixed)], &bent).await, 401, "bit {bit} of the body");
    }
    let longer = format!("{BODY}\n");
    assert_eq!(github(&[("x-hub-signature-256", &prefixed)], longer.as_bytes()).await, 401);
    assert_eq!(github(&[("x-hub-signature-256", &prefixed)], b"").await, 401);
    // Nothing, the weaker one only, the stronger one in other forms, and what other forges show.
    let half = format!("sha256={}", &SHA256[..32]);
    let (as_sha1, spaced) = (format!("sha1={SHA256}"), format!("sha256= {SHA256}"));
    let weak: [&[(&str, &str)]; 12] = [
        &[],
        &[("x-hub-signature", SHA1)],
        &[("x-hub-signature-256", SHA1)],
        &[("x-hub-signature", &prefixed)],
        &[("x-hub-signature-256", "")],
        &[("x-hub-signature-256", "sha256=")],
        &[("x-hub-signature-256", SHA256)],
        &[("x-hub-signature-256", &half)],
        &[("x-hub-signature-256", &as_sha1)],
        &[("x-hub-signature-256", &spaced)],
        &[("x-gitlab-token", KNOWN)],
        &[("x-gitea-signature", SHA256)],
    ];
    for headers in weak {
        assert_eq!(github(headers, BODY.as_bytes()).await, 401, "{headers:?}");
    }
    // GitLab's is the secret itself, Gitea's the digits alone.
    let other = async |forge: &str, headers: &[(&str, &str)]| {
        let own = match forge {
            "gitlab" => [("x-gitlab-event", "Push Hook"), ("idempotency-key", "vector")],
            _ => [("x-gitea-event", "push"), ("x-gitea-delivery", "vector")],
        };
        let all: Vec<(&str, &str)> = own.into_iter().chain(headers.iter().copied()).collect();
        served.post(&format!("/webhooks/{forge}"), &all, BODY).await.0
    };
    let (lower, bent) = (KNOWN.to_lowercase(), flipped(SHA256));
    let (token, digits) = ("x-gitlab-token", "x-gitea-signature");
    let wrong: [(&str, &str, &str); 8] = [
        ("gitlab", token, &KNOWN[1..]),
        ("gitlab", token, &lower),
        ("gitlab", token, SHA256),
        ("gitlab", "x-hub-signature-256", &prefixed),
        ("gitea", digits, &prefixed),
        ("gitea", digits, &bent),
        ("gitea", digits, &SHA1[5..]),
        ("gitea", token, KNOWN),
    ];
    for (forge, name, value) in wrong {
        assert_eq!(other(forge, &[(name, value)]).await, 401, "{forge} {name}: {value}");
    }
    assert_eq!(home.deliveries().await, Vec::<String>::new(), "nothing of it is kept");

    assert_eq!(github(&[("x-hub-signature-256", &prefixed)], BODY.as_bytes()).await, 202);
    assert_eq!(other("gitlab", &[(token, KNOWN)]).await, 202);
    assert_eq!(other("gitea", &[(digits, SHA256)]).await, 202);
    let log = served.log().iter().map(Value::to_string).collect::<String>();
    assert!(!log.contains(KNOWN) && !log.contains(BODY), "{log}");
}

/// trust.md 31, reliability.md 5.
#[tokio::test]
async fn trust_31_fifty_at_once_are_one_row_and_so_is_what_comes_after_a_restart() {
    let home = Home::usual(MANY);
    let body = comment(1);
    let mut words = Vec::new();
    for _ in 0..2 {
        let served = home.serve().await;
        let all = (0..50).map(|_| served.github("one-id", "issue_comment", &body));
        for (status, said) in futures::future::join_all(all).await {
            assert_eq!(status, 202, "{said}");
            words.push(said["status"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(words.iter().filter(|word| *word == "accepted").count(), 1, "{words:?}");
    assert_eq!(home.deliveries().await, ["one-id"]);
}

/// trust.md 46.
#[tokio::test]
async fn trust_46_one_body_under_fifty_ids_is_one_row() {
    let home = Home::usual(MANY);
    let served = home.serve().await;
    let body = comment(1);
    let ids: Vec<String> = (0..50).map(|number| format!("id-{number}")).collect();
    // Nor is it another one under another event's name, which no signature covers.
    let names = ["issue_comment", "issues"];
    let all = ids.iter().enumerate().map(|(at, id)| served.github(id, names[at % 2], &body));
    let said = futures::future::join_all(all).await;
    assert!(said.iter().all(|(status, _)| *status == 202), "{said:?}");
    assert_eq!(said.iter().filter(|(_, said)| said["status"] == "accepted").count(), 1, "{said:?}");
    assert_eq!(home.deliveries().await.len(), 1);
    // Another body under a known id is a delivery that was here, too.
    let (status, said) = served.github(&home.deliveries().await[0], "issue_comment", &comment(2)).await;
    assert_eq!((status, said["status"].as_str()), (202, Some("known")));
}

fn half_open(served: &Served, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.url.trim_start_matches("http://")).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn status_of(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

/// trust.md 32.
#[tokio::test]
async fn trust_32_half_open_connections_are_reaped_and_keep_nobody_out() {
    let more = "limits: { body: 100KB, header_timeout: 2s, body_timeout: 1s, connections: 300 }\n";
    let home = Home::usual(more);
    let served = home.serve().await;
    // More of them than there are places: the oldest give way.
    let mut open: Vec<TcpStream> =
        (0..500).map(|_| half_open(&served, "POST /webhooks/github HTTP/1.1\r\nhost: x\r\n")).collect();
    let begun = Instant::now();
    let (status, said) = served.github("good", "issue_comment", &comment(1)).await;
    assert_eq!(status, 202, "{said}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let ended =
        tokio::task::spawn_blocking(move || open.iter_mut().map(status_of).collect::<BTreeSet<_>>()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "reaped after {:?}", begun.elapsed());
    assert!(ended.iter().all(|line| line.is_empty() || line.contains("408")), "{ended:?}");

    // A body that does not come, and those that are too large: said, and found out.
    let head = |length: &str| {
        let signed = format!("x-github-event: push\r\nx-hub-signature-256: sha256={}\r\n", "0".repeat(64));
        format!("POST /webhooks/github HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{signed}{length}\r\n\r\n")
    };
    let mut slow = half_open(&served, &head("content-length: 50"));
    let mut large = half_open(&served, &head("content-length: 100001"));
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 100_001, "x".repeat(100_001));
    let mut found = half_open(&served, &(head("transfer-encoding: chunked") + &chunk));
    let lines = tokio::task::spawn_blocking(move || [&mut slow, &mut large, &mut found].map(status_of)).await.unwrap();
    let codes = lines.each_ref().map(|line| line.split(' ').nth(1).unwrap_or_default());
    assert_eq!(codes, ["408", "413", "413"]);
}

/// trust.md 32: whoever sends slowly gives way to whoever comes, before anybody knows whose a body is.
#[tokio::test(flavor = "multi_thread")]
async fn trust_32_slow_bodies_give_way() {
    let home = Home::usual("limits: { body_timeout: 60s, connections: 60 }\n");
    let served = home.serve().await;
    let signed = format!("x-github-event: push\r\nx-hub-signature-256: sha256={}\r\n", "0".repeat(64));
    let head = |length: &str| format!("POST /webhooks/github HTTP/1.1\r\nhost: x\r\n{signed}{length}\r\n\r\n");
    let large = |id: u32| comment(id).replace("A title", &"x".repeat(400 * 1024));
    let quick = async |id: u32, body: String, most: u64| {
        let begun = Instant::now();
        let (status, said) = served.github(&id.to_string(), "issue_comment", &body).await;
        assert_eq!(status, 202, "{said}");
        assert!(begun.elapsed() < Duration::from_secs(most), "{id}: {:?}", begun.elapsed());
    };
    // Those who say that much will come, and send nothing, take no place.
    let mut open: Vec<TcpStream> = (0..10).map(|_| half_open(&served, &head("content-length: 20000000"))).collect();
    open.extend((0..10).map(|_| half_open(&served, &head("transfer-encoding: chunked"))));
    quick(1, large(1), 1).await;
    // Those who send much, and then no more, keep their places for a moment.
    let begun = format!("{}{}", head("content-length: 20000000"), "x".repeat(300 * 1024));
    open.extend((0..8).map(|_| half_open(&served, &begun)));
    quick(2, large(2), 10).await;
    // Small ones on all connections that there are.
    open.extend((0..60).map(|_| half_open(&served, &head("content-length: 50"))));
    quick(3, comment(3), 10).await;
    assert_eq!(home.deliveries().await, ["1", "2", "3"]);
    drop(open);
}

/// reliability.md 7: an answer is 2xx once the row is there, whatever becomes of it; where it cannot be stored, the sender
/// is told to send it again, and the operator is told.
#[tokio::test]
async fn reliability_7_what_cannot_be_worked_on_is_stored_and_what_cannot_be_stored_is_an_alarm() {
    let home = Home::usual("");
    let served = home.serve().await;
    let signed = [("x-gitlab-event", "Note Hook"), ("x-gitlab-token", SECRET)];
    let (status, said) = served.post("/webhooks/gitlab", &signed, "nonsense").await;
    assert_eq!((status, said["status"].as_str()), (202, Some("accepted")));
    assert_eq!(served.get("/health/ready").await.0, 200);

    sqlx::query("ALTER TABLE deliveries RENAME TO away").execute(&mut home.database().await).await.unwrap();
    let (status, said) = served.post("/webhooks/gitlab", &signed, "more nonsense").await;
    assert_eq!(status, 503, "{said}");
    let alarm = served.said("webhook_not_stored").await;
    assert_eq!(alarm["level"], "alarm", "{alarm}");
    let (status, page) = served.get("/health/ready").await;
    assert!(status == 503 && page.contains("\"database\":{\"status\":\"failed\""), "{status} {page}");
    assert_eq!(served.get("/health/live").await.0, 200);

    sqlx::query("ALTER TABLE away RENAME TO deliveries").execute(&mut home.database().await).await.unwrap();
    let (status, said) = served.post("/webhooks/gitlab", &signed, "more nonsense").await;
    assert_eq!((status, said["status"].as_str()), (202, Some("accepted")), "it goes on by itself");
    assert_eq!(served.get("/health/ready").await.0, 200);
}

/// reliability.md 8, and what a kill leaves: every 202 is a row, and no answer takes longer than a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reliability_8_every_202_is_a_row_after_a_kill_in_mid_load() {
    let home = Home::usual(MANY);
    let served = std::sync::Arc::new(home.serve().await);
    let (pid, answered) = (served.pid(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let senders = (0..16).map(|sender: u32| {
        let (served, answered) = (served.clone(), answered.clone());
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            for number in 0.. {
                let (id, body) = (format!("{sender}-{number}"), comment(sender * 1_000_000 + number));
                let signature = format!("sha256={}", signature(SECRET, body.as_bytes()));
                let request = client.post(format!("{}/webhooks/github", served.url));
                let request = request.header("x-github-event", "issue_comment").header("x-github-delivery", &id);
                let begun = Instant::now();
                match request.header("x-hub-signature-256", signature).body(body).send().await {
                    Ok(answer) if answer.status() == 202 => answered.lock().unwrap().push((id, begun.elapsed())),
                    Ok(answer) => panic!("{}", answer.status()),
                    Err(_) => break,
                }
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    eventually("a thousand answers", || (answered.lock().unwrap().len() > 1000).then_some(())).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    for sender in senders {
        sender.await.unwrap();
    }
    let rows: BTreeSet<String> = home.deliveries().await.into_iter().collect();
    let mut answered = std::mem::take(&mut *answered.lock().unwrap());
    let lost: Vec<&String> = answered.iter().map(|(id, _)| id).filter(|id| !rows.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), answered.len());
    answered.sort_by_key(|(_, took)| *took);
    let p99 = answered[answered.len() * 99 / 100].1;
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
}

#[tokio::test]
async fn two_secrets_are_good_at_once_and_a_hangup_reads_them_anew() {
    let settings = |secrets: &str| {
        format!(
            "listen: 127.0.0.1:0\nstate: state\nrepositories:\n  - {{ forge: github, name: acme/widgets, server: \
             http://127.0.0.1:9, token: file://@/token, secrets: [{secrets}] }}\n"
        )
    };
    let home = Home::new(&settings("file://@/old"));
    home.secret("old", "the old one");
    home.secret("new", "the new one");
    let served = home.serve().await;
    let mut number = 0;
    let mut with = async |secret: &str| {
        number += 1;
        let body = comment(number);
        let signature = format!("sha256={}", signature(secret, body.as_bytes()));
        let headers = [("x-github-event", "issue_comment"), ("x-hub-signature-256", &*signature)];
        served.post("/webhooks/github", &headers, body).await.0
    };
    let read = |count: usize| {
        let said = served.log().iter().filter(|line| line["event"] == "settings_read").count();
        (said == count).then_some(())
    };
    assert_eq!((with("the old one").await, with("the new one").await), (202, 401));

    home.settings(&settings("file://@/old, file://@/new"));
    served.signal(Signal::SIGHUP);
    eventually("the settings are read", || read(1)).await;
    assert_eq!((with("the old one").await, with("the new one").await), (202, 202));

    // Bad settings change nothing and say why, as do secrets that are not there.
    home.settings("state: state\nrepositorys: []\n");
    served.signal(Signal::SIGHUP);
    let kept = served.said("settings_kept").await;
    let why = kept["why"].as_str().unwrap();
    assert!(why.contains("serve.yml:2:1: unknown key `repositorys`") && kept["level"] == "alarm", "{why}");
    assert_eq!(with("the new one").await, 202);

    home.settings(&settings("file://@/gone"));
    served.signal(Signal::SIGHUP);
    let gone = || served.log().into_iter().find(|line| line["why"].as_str().is_some_and(|why| why.contains("/gone")));
    eventually("the missing secret is said", gone).await;
    assert_eq!(with("the new one").await, 202);

    home.settings(&settings("file://@/new"));
    served.signal(Signal::SIGHUP);
    eventually("the settings are read", || read(2)).await;
    assert_eq!((with("the old one").await, with("the new one").await), (401, 202));
}

#[test]
fn bad_settings_are_said_all_at_once_with_their_places() {
    let home = Home::new(
        "listen: 8080\nstate: state\nproxie: []\nrepositories:\n  - forge: guthub\n    name: widgets\n    token: \
         ghp_abcdefghijklmnop\n    secrets: [env://A, \"cmd://cat /etc/passwd\"]\n  - { forge: gitea, name: a/b, token: env://T, \
         app: { id: 1, private_key: env://K } }\nhooks:\n  deploy: { repository: acme/wigdets, secrets: [env://S] }\nlimits: { \
         workers: 0, body_timeout: soon }\nproxies: [10.0.0.0/40]\n",
    );
    let output = home.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for wanted in [
        "serve.yml:1:9", // `listen` is no address
        "did you mean `proxies`?",
        "did you mean `github`?",
        "`widgets` is not a repository's name",
        "expected a reference to a secret, not the secret itself",
        "a key is not asked of a command",
        "two ways to log in",
        "Gitea has no usual address",
        "unknown repository `acme/wigdets`",
        "expected a number from 1 to 1000",
        "`soon` is not a length of time",
        "`10.0.0.0/40` is neither an address nor a network",
    ] {
        assert!(said.contains(wanted), "`{wanted}` is not said:\n{said}");
    }
    assert!(!said.contains("ghp_abcdefghijklmnop"), "a secret that stands there is not shown:\n{said}");

    // Right, but a secret is not there: that is said before anything listens.
    let home = Home::usual("marker_key: env://NOT_THERE\n");
    let output = home.command().arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("env://NOT_THERE: the variable is not set"), "{said}");
    let home = Home::usual("");
    let output = home.command().arg("--check").output().unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("3 repositories"),
        "{output:?}"
    );
}

/// reliability.md 27, the door's half: what is under way ends, nothing new begins, and it says so phase by phase.
#[tokio::test]
async fn reliability_27_an_interrupt_closes_the_door_first_and_ends_in_phases() {
    let home = Home::usual("sweep: false\ngrace: 1s\n");
    let mut served = home.serve().await;
    let body = comment(1);
    let signature = format!("sha256={}", signature(SECRET, body.as_bytes()));
    let head = format!(
        "POST /webhooks/github HTTP/1.1\r\nhost: x\r\nx-github-event: issue_comment\r\nx-github-delivery: late\r\n\
         x-hub-signature-256: {signature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut under_way = half_open(&served, &head);
    // Once another request is answered, this one is known to be under way.
    served.github("before", "issue_comment", &comment(2)).await;
    served.signal(Signal::SIGTERM);
    served.said("stopping").await;
    let address = served.url.trim_start_matches("http://").to_owned();
    eventually("the door is closed", || TcpStream::connect(&address).is_err().then_some(())).await;
    under_way.write_all(body.as_bytes()).unwrap();
    let line = tokio::task::spawn_blocking(move || status_of(&mut under_way)).await.unwrap();
    assert!(line.contains("202"), "{line}");
    assert_eq!(served.ended().await, Some(0));
    let phases: Vec<Value> = served.log();
    let phases = phases.iter().filter(|line| line["event"] == "stopping" || line["event"] == "stopped");
    let phases: Vec<&str> = phases.map(|line| line["phase"].as_str().unwrap_or("end")).collect();
    assert!(phases.starts_with(&["intake", "work"]) && phases.ends_with(&["end"]), "{phases:?}");
    assert!(home.deliveries().await.contains(&"late".to_owned()));
}

/// reliability.md 27: the second signal ends it at once, whatever is still under way.
#[tokio::test]
async fn reliability_27_a_second_signal_ends_it_at_once() {
    let home = Home::usual("sweep: false\ngrace: 60s\nlimits: { body_timeout: 60s }\n");
    let mut served = home.serve().await;
    let signature = "0".repeat(64);
    let head = format!(
        "POST /webhooks/github HTTP/1.1\r\nhost: x\r\nx-github-event: push\r\nx-hub-signature-256: sha256={signature}\r\n\
         content-length: 50\r\n\r\n"
    );
    let _under_way = half_open(&served, &head);
    served.github("before", "issue_comment", &comment(2)).await;
    served.signal(Signal::SIGTERM);
    served.said("stopping").await;
    let begun = Instant::now();
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await, Some(130));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(home.deliveries().await.contains(&"before".to_owned()), "what was answered is there");
}

#[tokio::test]
async fn what_nothing_comes_of_is_answered_and_forgotten_and_everything_is_counted() {
    let home = Home::usual("limits: { requests_per_second: 0.5, burst: 6 }\nproxies: [127.0.0.1]\n");
    let served = home.serve().await;
    for (event, words) in [("ping", "pong"), ("star", "nothing comes of this event here")] {
        let (status, said) = served.github("1", event, "{}").await;
        assert_eq!((status, said["status"].as_str()), (200, Some(words)));
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(served.post("/webhooks/github", &form, "payload=1").await.0, 401);
    assert_eq!(served.post("/webhooks/bitbucket", &[], "{}").await.0, 404);
    assert_eq!(served.post("/api/v1/hooks/none", &[], "{}").await.0, 404);
    assert_eq!(served.get("/webhooks/github").await.0, 405);
    assert_eq!(home.deliveries().await, Vec::<String>::new());
    // The sixth is the last one at once; whoever the proxy speaks for has a bucket of its own.
    assert_eq!(served.github("2", "ping", "{}").await.0, 200);
    assert_eq!(served.github("3", "ping", "{}").await.0, 429);
    let elsewhere = [("x-forwarded-for", "198.51.100.7")];
    assert_eq!(served.post("/webhooks/github", &elsewhere, "{}").await.0, 401);

    let (status, page) = served.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "codeforge_webhooks_total{source=\"github\",outcome=\"ping\"} 2",
        "codeforge_webhooks_total{source=\"github\",outcome=\"ignored\"} 1",
        "codeforge_webhooks_total{source=\"github\",outcome=\"limited\"} 1",
        "codeforge_webhooks_total{source=\"unknown\",outcome=\"unknown\"} 1",
        "codeforge_deliveries_waiting 0",
        "codeforge_jobs{state=\"running\"} 0",
    ] {
        assert!(page.contains(line), "{line}:\n{page}");
    }
    let (status, page) = served.get("/health/ready").await;
    let ready: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, &ready["status"], &ready["parts"]["database"]["status"]), (200, &"ready".into(), &"ok".into()));
    assert_eq!(ready["parts"]["disk"]["status"], "ok", "{page}");
}

#[tokio::test]
async fn a_hook_of_our_own_takes_a_secret_a_signature_or_a_standard_webhook() {
    let secret =
        format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode("thirty-two bytes of a secret key"));
    let more = "hooks:\n  deploy: { repository: \"github:acme/widgets\", event: deployed, secrets: [file://@/hook] }\n";
    let home = Home::usual(more);
    home.secret("hook", &secret);
    let served = home.serve().await;
    let path = "/api/v1/hooks/deploy";
    let bearer = format!("Bearer {secret}");
    assert_eq!(served.post(path, &[("authorization", &bearer)], r#"{"n":1}"#).await.0, 202);
    assert_eq!(served.post(path, &[("authorization", &flipped(&bearer))], r#"{"n":2}"#).await.0, 401);
    let digits = format!("sha256={}", signature(&secret, br#"{"n":3}"#));
    assert_eq!(served.post(path, &[("x-hub-signature-256", &digits)], r#"{"n":3}"#).await.0, 202);
    let at = jiff::Timestamp::now().as_second().to_string();
    let signed = mac(b"thirty-two bytes of a secret key", format!("msg_9.{at}.{{}}").as_bytes());
    let signed = format!("v1,bm9uc2Vuc2U= v1,{}", base64::engine::general_purpose::STANDARD.encode(signed));
    let headers = [("webhook-id", "msg_9"), ("webhook-timestamp", &*at), ("webhook-signature", &*signed)];
    assert_eq!(served.post(path, &headers, "{}").await.0, 202);
    let rows =
        sqlx::query_as::<_, (String, String, Option<String>)>("SELECT source, event, repository FROM deliveries");
    let rows = rows.fetch_all(&mut home.database().await).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| *row == ("hook:deploy".into(), "deployed".into(), Some("acme/widgets".into()))));
}

/// Repositories that share a secret are told apart by the body; one with another secret is never meant.
#[tokio::test]
async fn a_secret_opens_only_the_doors_of_its_own_repositories() {
    let row = |name: &str, secret: &str| {
        format!(
            "  - {{ forge: github, name: {name}, token: file://@/token, server: http://127.0.0.1:9, secrets: [file://@/{secret}] }}\n"
        )
    };
    let all = [row("acme/one", "shared"), row("acme/two", "shared"), row("acme/safe", "safe")].concat();
    let home = Home::new(&format!("listen: 127.0.0.1:0\nstate: state\nrepositories:\n{all}"));
    home.secret("shared", "a shared secret");
    home.secret("safe", "a secret of its own");
    let served = home.serve().await;
    let send = async |path: &str, secret: &str, name: &str| {
        let body = format!(r#"{{"repository":{{"full_name":"{name}"}},"path":"{path}"}}"#);
        let signature = format!("sha256={}", signature(secret, body.as_bytes()));
        let headers = [("x-github-event", "push"), ("x-hub-signature-256", &*signature)];
        let (status, _) = served.post(path, &headers, body).await;
        status
    };
    assert_eq!(send("/webhooks/github", "a shared secret", "ACME/Two").await, 202);
    assert_eq!(send("/webhooks/github", "a shared secret", "acme/safe").await, 200);
    assert_eq!(send("/webhooks/github", "a secret of its own", "acme/safe").await, 202);
    assert_eq!(send("/webhooks/github/acme/safe", "a shared secret", "acme/one").await, 401);
    assert_eq!(send("/webhooks/github/acme/one", "a shared secret", "acme/one").await, 202);
    assert_eq!(send("/webhooks/github/acme/one", "a shared secret", "acme/two").await, 200);
    let rows = sqlx::query_as::<_, (Option<String>,)>("SELECT repository FROM deliveries ORDER BY number");
    let rows = rows.fetch_all(&mut home.database().await).await.unwrap();
    let names: Vec<&str> = rows.iter().filter_map(|(name,)| name.as_deref()).collect();
    assert_eq!(names, ["acme/two", "acme/safe", "acme/one"]);
}

/// All that forges have published, signed for real: what comes to something is a row, the rest is passed over by name, and
/// none of it stops the door. What is decided about each: `tests/payloads.rs`.
#[tokio::test]
async fn every_published_payload_is_taken_in_or_passed_over() {
    let home = Home::usual(MANY);
    let served = home.serve().await;
    let mut said: BTreeMap<String, u32> = BTreeMap::new();
    for (number, sample) in [payloads::github(), payloads::gitlab(), payloads::gitea()].concat().iter().enumerate() {
        let (body, id) = (sample.body(), format!("id-{number}"));
        let digits = signature(SECRET, &body);
        let prefixed = format!("sha256={digits}");
        let headers: [(&str, &str); 3] = match sample.source {
            "github" => {
                [("x-github-event", &sample.event), ("x-github-delivery", &id), ("x-hub-signature-256", &prefixed)]
            }
            "gitlab" => [("x-gitlab-event", &sample.event), ("x-gitlab-event-uuid", &id), ("x-gitlab-token", SECRET)],
            _ => [("x-gitea-event", &sample.event), ("x-gitea-delivery", &id), ("x-gitea-signature", &digits)],
        };
        let (status, answer) = served.post(&format!("/webhooks/{}", sample.source), &headers, body).await;
        let word = answer["status"].as_str().unwrap_or("?");
        *said.entry(format!("{} {status} {word}", sample.source)).or_default() += 1;
    }
    insta::assert_snapshot!(said.iter().map(|(what, many)| format!("{what}: {many}\n")).collect::<String>());
    let accepted: u32 = said.iter().filter(|(what, _)| what.ends_with("accepted")).map(|(_, many)| many).sum();
    assert_eq!(home.deliveries().await.len(), accepted as usize);
    assert_eq!(served.get("/health/live").await.0, 200);
}

#[test]
fn the_pages_settings_are_good() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/serve.md")).unwrap();
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    let composed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docker/serve.yml")).unwrap();
    for text in blocks.into_iter().chain([composed.as_str()]) {
        let (settings, problems) = codeforge::workflow::serve("serve.yml", text);
        assert!(settings.is_some() && problems.is_empty(), "{problems:?}");
    }
}
