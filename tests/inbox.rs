//! What every inbox promises, and what the SQLite one promises beyond that. The scenarios know nothing but `dyn Inbox`;
//! that a kill loses nothing is shown with the whole program in `tests/serve.rs`.

#[path = "common/queued.rs"]
mod queued;

use codeforge::adapter::serve;
use codeforge::model::job::Delivery;
use codeforge::port::inbox::{Accepted, Apart, Handled, Inbox};
use queued::waiting;
use sqlx::Connection;
use std::path::PathBuf;
use std::sync::Arc;

struct File(tempfile::TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    async fn open(&self) -> Arc<dyn Inbox> {
        serve::open(&self.state()).await.unwrap()
    }
}

fn delivery(source: &str, id: &str, body: &str) -> Delivery {
    Delivery {
        source: source.into(),
        id: id.into(),
        hash: Delivery::hash_of(body.as_bytes()),
        event: "push".into(),
        repository: Some("acme/widgets".into()),
        host: Some("api.github.com".into()),
        body: body.into(),
        at_ms: 1000,
    }
}

async fn ids(inbox: &dyn Inbox, now_ms: i64) -> Vec<(String, u32)> {
    let found = inbox.unhandled(100, now_ms, &[]).await.unwrap();
    found.into_iter().map(|it| (it.delivery.id, it.attempts)).collect()
}

#[tokio::test]
async fn a_delivery_is_taken_in_once_by_its_id_and_by_its_body() {
    let home = File::new();
    let inbox = home.open().await;
    let accept = async |source: &str, id: &str, body: &str| inbox.accept(delivery(source, id, body)).await.unwrap();
    assert_eq!(accept("github", "1", "one").await, Accepted::New);
    assert_eq!(accept("github", "1", "one").await, Accepted::Known);
    assert_eq!(accept("github", "1", "another").await, Accepted::Known);
    assert_eq!(accept("github", "2", "one").await, Accepted::Known);
    assert_eq!(accept("gitlab", "1", "one").await, Accepted::New, "sources do not meet");
    assert_eq!(accept("github", "3", "three").await, Accepted::New);
    let found = inbox.unhandled(100, 5000, &[]).await.unwrap();
    let whole: Vec<Delivery> = found.into_iter().map(|it| it.delivery).collect();
    assert_eq!(
        whole,
        [delivery("github", "1", "one"), delivery("gitlab", "1", "one"), delivery("github", "3", "three")]
    );
}

#[tokio::test]
async fn of_many_at_once_each_is_told_what_became_of_it() {
    let home = File::new();
    let inbox = home.open().await;
    // More than fit into a commit; each body four times, next to each other and far apart.
    let all = (0..2000).map(|number| {
        let body = format!("body {}", number / 2 % 500);
        let inbox = Arc::clone(&inbox);
        tokio::spawn(async move { inbox.accept(delivery("github", &number.to_string(), &body)).await.unwrap() })
    });
    let told = futures::future::join_all(all).await.into_iter().map(Result::unwrap);
    assert_eq!(told.filter(|told| *told == Accepted::New).count(), 500);
    assert_eq!(inbox.backlog().await.unwrap(), (500, Some(1000)));
    drop(inbox);
    assert_eq!(home.open().await.backlog().await.unwrap().0, 500, "another process finds them");
}

#[tokio::test]
async fn what_is_handled_makes_its_jobs_once_and_what_fails_is_put_off() {
    let home = File::new();
    let inbox = home.open().await;
    for (id, body) in [("1", "a"), ("2", "b"), ("3", "c")] {
        inbox.accept(delivery("github", id, body)).await.unwrap();
    }
    let first = inbox.unhandled(1, 5000, &[]).await.unwrap();
    assert_eq!((first.len(), first[0].delivery.id.as_str(), first[0].attempts), (1, "1", 1));
    let what = Handled {
        jobs: vec![waiting("fix", "k1"), waiting("fix", "k2"), waiting("fix", "k1")],
        note: "two jobs".into(),
        ..Handled::default()
    };
    let made = inbox.handled(first[0].number, &what, 5000).await.unwrap();
    assert_eq!(made.len(), 2, "a key makes one job");
    assert_eq!(inbox.handled(first[0].number, &what, 5001).await.unwrap(), Vec::<String>::new());

    let rest = inbox.unhandled(100, 5000, &[]).await.unwrap();
    inbox.put_off(rest[0].number, Some(9000), true, "the forge is away").await.unwrap();
    inbox.put_off(rest[1].number, None, true, "nobody can read it").await.unwrap();
    assert_eq!(ids(&*inbox, 8999).await, []);
    assert_eq!(ids(&*inbox, 9000).await, [("2".to_owned(), 2)]);
    assert_eq!(inbox.backlog().await.unwrap().0, 1, "a dead letter does not wait");

    // What does not count leaves the attempts as they were.
    inbox.put_off(rest[0].number, Some(9500), false, "the token is refused").await.unwrap();
    assert_eq!(ids(&*inbox, 9500).await, [("2".to_owned(), 2)]);
    // A dead one that comes again waits again, also under another id; one that is handled does not.
    for (id, told) in [("3", Accepted::Again), ("3", Accepted::Known), ("1", Accepted::Known)] {
        assert_eq!(
            inbox.accept(delivery("github", id, if id == "3" { "c" } else { "a" })).await.unwrap(),
            told,
            "{id}"
        );
    }
    assert_eq!(ids(&*inbox, 9500).await, [("2".to_owned(), 3), ("3".to_owned(), 1)]);
    inbox.put_off(rest[1].number, None, true, "nobody can read it").await.unwrap();
    let dead = inbox.received(9, true).await.unwrap();
    assert_eq!((dead.len(), dead[0].id.as_str(), dead[0].state.as_str()), (1, "3", "dead"));
    assert!(inbox.again(rest[1].number).await.unwrap() && !inbox.again(rest[1].number).await.unwrap());
    assert!(!inbox.again(first[0].number).await.unwrap(), "it was handled");
    assert!(inbox.received(9, true).await.unwrap().is_empty());
}

/// Those of a repository that somebody is at work for stay where they are, whoever told of them; a repository of the same
/// name on another host does not.
#[tokio::test]
async fn a_repositorys_deliveries_are_left_where_they_are() {
    let home = File::new();
    let inbox = home.open().await;
    for (source, id) in [("github", "1"), ("gitlab", "2"), ("sweep", "3"), ("hook:deploy", "4"), ("github", "5")] {
        let host = if source == "gitlab" { "git.example.com" } else { "api.github.com" };
        inbox.accept(Delivery { host: Some(host.into()), ..delivery(source, id, id) }).await.unwrap();
    }
    let other = Delivery { repository: Some("acme/other".into()), ..delivery("github", "6", "6") };
    inbox.accept(other).await.unwrap();
    let apart = [Apart { host: "api.github.com".into(), repository: "Acme/Widgets".into() }];
    let found = inbox.unhandled(100, 5000, &apart).await.unwrap();
    assert_eq!(found.iter().map(|it| it.delivery.id.as_str()).collect::<Vec<_>>(), ["2", "6"]);
    let left = inbox.unhandled(1, 5000, &[]).await.unwrap();
    assert_eq!((left[0].delivery.id.as_str(), left[0].attempts), ("1", 1), "it was not begun meanwhile");
}

#[tokio::test]
async fn what_cannot_be_noted_keeps_nobody_out() {
    let home = File::new();
    let inbox = home.open().await;
    for number in 0..2 {
        inbox.accept(delivery("github", &number.to_string(), &number.to_string())).await.unwrap();
    }
    let found = inbox.unhandled(2, 5000, &[]).await.unwrap();
    let mut file =
        sqlx::SqliteConnection::connect(&format!("sqlite:{}", home.state().join("serve.db").display())).await.unwrap();
    sqlx::raw_sql("CREATE TRIGGER broken BEFORE INSERT ON jobs BEGIN SELECT raise(ABORT, 'broken on purpose'); END")
        .execute(&mut file)
        .await
        .unwrap();
    let (made, nothing) = (Handled { jobs: vec![waiting("fix", "k")], ..Handled::default() }, Handled::default());
    // All of them wait for the same commit.
    let (failed, fine, one, other) = tokio::join!(
        inbox.handled(found[0].number, &made, 5000),
        inbox.handled(found[1].number, &nothing, 5000),
        inbox.accept(delivery("github", "a", "a")),
        inbox.accept(delivery("github", "b", "a")),
    );
    assert!(failed.unwrap_err().message.contains("broken on purpose"));
    assert!(fine.is_err(), "it is decided again");
    assert_eq!((one.unwrap(), other.unwrap()), (Accepted::New, Accepted::Known));
    sqlx::raw_sql("DROP TRIGGER broken").execute(&mut file).await.unwrap();
    assert_eq!(inbox.handled(found[0].number, &made, 5000).await.unwrap().len(), 1);
    assert_eq!(inbox.handled(found[1].number, &Handled::default(), 5000).await.unwrap(), Vec::<String>::new());
    assert_eq!(inbox.backlog().await.unwrap().0, 1);
}

#[tokio::test]
async fn a_body_comes_out_as_it_came_in_and_a_damaged_one_keeps_nobody_waiting() {
    let home = File::new();
    let inbox = home.open().await;
    // Of all sizes, with and without repetitions.
    let noise: String = (0..60_000u64).map(|n| char::from(b'a' + (n.wrapping_mul(n) / 7 % 26) as u8)).collect();
    let bodies = [String::new(), "x".into(), noise.clone(), "url ".repeat(200_000), noise.repeat(10)];
    for (at, body) in bodies.iter().enumerate() {
        inbox.accept(delivery("github", &at.to_string(), body)).await.unwrap();
    }
    inbox.accept(delivery("github", "damaged", "as it came")).await.unwrap();
    let mut file =
        sqlx::SqliteConnection::connect(&format!("sqlite:{}", home.state().join("serve.db").display())).await.unwrap();
    sqlx::query("UPDATE deliveries SET body = x'ff00ff00ff' WHERE id = 'damaged'").execute(&mut file).await.unwrap();
    let found = inbox.unhandled(100, 5000, &[]).await.unwrap();
    let found: Vec<&[u8]> = found.iter().map(|it| it.delivery.body.as_slice()).collect();
    assert!(found == bodies.iter().map(String::as_bytes).collect::<Vec<_>>());
    let dead = inbox.received(1, false).await.unwrap().remove(0);
    assert_eq!((dead.id.as_str(), dead.state.as_str()), ("damaged", "dead"));
    assert!(dead.note.unwrap().contains("damaged"));
}

#[tokio::test]
async fn what_was_handled_long_ago_is_forgotten_bodies_first() {
    let home = File::new();
    let inbox = home.open().await;
    for (id, body) in [("1", "a"), ("2", "b")] {
        inbox.accept(delivery("github", id, body)).await.unwrap();
    }
    let found = inbox.unhandled(1, 5000, &[]).await.unwrap();
    inbox.handled(found[0].number, &Handled::default(), 5000).await.unwrap();
    assert_eq!(inbox.tidy(5000, 5000, 10).await.unwrap(), 0);
    assert_eq!(inbox.tidy(5001, 5000, 10).await.unwrap(), 1, "its body");
    assert_eq!(inbox.tidy(5001, 5000, 10).await.unwrap(), 0);
    assert_eq!(inbox.accept(delivery("github", "9", "a")).await.unwrap(), Accepted::Known, "a replay is still known");
    assert_eq!(inbox.tidy(5001, 5001, 10).await.unwrap(), 1, "all of it");
    assert_eq!(inbox.accept(delivery("github", "9", "a")).await.unwrap(), Accepted::New);
    assert_eq!(ids(&*inbox, 9000).await.len(), 2, "what waits is never forgotten");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_with_what_to_do() {
    let home = File::new();
    std::fs::create_dir_all(home.state()).unwrap();
    std::fs::write(home.state().join("serve.db"), "not a database, but long enough to look at it twice".repeat(100))
        .unwrap();
    let Err(error) = serve::open(&home.state()).await else { panic!("it was opened") };
    let said = error.to_string();
    assert!(said.contains("serve.db") && said.contains("the file is damaged: move it away"), "{said}");
}
