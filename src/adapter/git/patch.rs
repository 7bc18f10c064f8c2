//! A patch file: a mail that `git am` and `git apply` take.

use super::diff;
use super::store::Store;
use crate::model::delivery::Delivery;
use crate::port::repository::RepositoryError;
use git2::{DiffFormat, DiffStatsFormat, Oid};

/// The patch from `from` to `to`, as mail.
pub(super) fn mail(store: &Store, from: Oid, to: Oid, delivery: &Delivery) -> Result<Vec<u8>, RepositoryError> {
    let repository = store.repository();
    let diff = diff::of(store, &repository, from, to)?;
    let failed = |error| store.broken("writing a patch", error);
    let (name, address) = (header(&delivery.author.0), header(&delivery.author.1));
    let date = jiff::Timestamp::from_second(delivery.time_s)
        .map_or_else(|_| String::new(), |time| time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
    let mut text = format!(
        "From {to} Mon Sep 17 00:00:00 2001\nFrom: {name} <{address}>\nDate: {date}\nSubject: [PATCH] {}\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n",
        header(&delivery.title)
    )
    .into_bytes();
    for line in delivery.body.lines() {
        // `---` and `diff` at the start of a line would end the message for git.
        let ends = line.starts_with("---") || line.starts_with("diff ") || line.starts_with("Index: ");
        if ends || line.starts_with("From ") {
            text.push(b' ');
        }
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"---\n");
    let stats = diff.stats().and_then(|stats| stats.to_buf(DiffStatsFormat::FULL, 72)).map_err(failed)?;
    text.extend_from_slice(&stats);
    text.push(b'\n');
    diff.print(DiffFormat::Patch, |_, _, line| {
        if matches!(line.origin(), '+' | '-' | ' ') {
            text.push(line.origin() as u8);
        }
        text.extend_from_slice(line.content());
        true
    })
    .map_err(failed)?;
    text.extend_from_slice(b"-- \ncodeforge\n");
    Ok(text)
}

/// One line of a mail's header: nothing that could begin another one.
fn header(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() || matches!(letter, '<' | '>') { ' ' } else { letter }).collect()
}
