//! A patch file: a mail that `git am` and `git apply` take.

use super::diff;
use super::store::Store;
use super::trees::{self, Delta};
use crate::model::delivery::Delivery;
use crate::port::repository::RepositoryError;
use git2::{Diff, DiffFormat, DiffOptions, DiffStatsFormat, Oid};
use std::collections::HashSet;

/// The patch of `deltas`, the difference of `from` and `to`, as mail.
pub(super) fn mail(
    store: &Store,
    from: Oid,
    to: Oid,
    deltas: &[Delta],
    delivery: &Delivery,
) -> Result<Vec<u8>, RepositoryError> {
    let (name, address) = (header(&delivery.author.0), header(&delivery.author.1));
    let date = jiff::Timestamp::from_second(delivery.time_s)
        .map_or_else(|_| String::new(), |time| time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
    let mut text = format!(
        "From {to} Mon Sep 17 00:00:00 2001\nFrom: {name} <{address}>\nDate: {date}\nSubject: [PATCH] {}\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n",
        header(&delivery.title)
    )
    .into_bytes();
    for line in delivery.body.trim_start().lines() {
        if splits(line) {
            text.push(b' ');
        }
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"---\n");
    // Reads objects: before the store's other handle is held.
    let binary = with_returns(store, deltas)?;
    let repository = store.repository();
    let failed = |error| store.broken("writing a patch", error);
    let whole = diff::of(store, &repository, from, to, DiffOptions::new())?;
    let stats = whole.stats().and_then(|stats| stats.to_buf(DiffStatsFormat::FULL, 72)).map_err(failed)?;
    text.extend_from_slice(&stats);
    text.push(b'\n');
    if binary.is_empty() {
        print(&whole, &mut text).map_err(failed)?;
    } else {
        for binary_ones in [false, true] {
            let mut options = DiffOptions::new();
            options.disable_pathspec_match(true).force_binary(binary_ones);
            let mut any = false;
            for delta in deltas.iter().filter(|delta| binary.contains(delta.path.as_slice()) == binary_ones) {
                options.pathspec(delta.path.as_slice());
                any = true;
            }
            if any {
                print(&diff::of(store, &repository, from, to, options)?, &mut text).map_err(failed)?;
            }
        }
    }
    text.extend_from_slice(b"-- \ncodeforge\n");
    Ok(text)
}

/// The files with carriage returns: `git am` takes those out of text, so they travel as binary.
fn with_returns<'d>(store: &Store, deltas: &'d [Delta]) -> Result<HashSet<&'d [u8]>, RepositoryError> {
    let mut found = HashSet::new();
    for delta in deltas {
        for (mode, oid) in [delta.old, delta.new].into_iter().flatten() {
            if mode != trees::COMMIT && store.read(oid)?.data().contains(&b'\r') {
                found.insert(delta.path.as_slice());
            }
        }
    }
    Ok(found)
}

fn print(diff: &Diff<'_>, text: &mut Vec<u8>) -> Result<(), git2::Error> {
    diff.print(DiffFormat::Patch, |_, _, line| {
        if matches!(line.origin(), '+' | '-' | ' ') {
            text.push(line.origin() as u8);
        }
        text.extend_from_slice(line.content());
        true
    })
}

/// Whether git would take a line of the body for the end of the message, or for a header that replaces ours: a model
/// writes the body, and does not say who wrote the change.
fn splits(line: &str) -> bool {
    let ends = ["---", "diff ", "Index: ", "From ", ">From "].iter().any(|start| line.starts_with(start));
    let lower = line.to_ascii_lowercase();
    ends || ["from:", "date:", "subject:", "[patch", "content-", "mime-"].iter().any(|start| lower.starts_with(start))
}

/// One line of a mail's header: nothing that could begin another one.
pub(super) fn header(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() || matches!(letter, '<' | '>') { ' ' } else { letter }).collect()
}
