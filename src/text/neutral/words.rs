//! Plain text within Markdown: mentions, closing keywords, commands, bare addresses.

use super::hosts::Hosts;
use regex::Regex;
use std::sync::LazyLock;

/// What is put between a sign and what it acts on: it cannot be seen, and is written out so that it is not hidden.
pub(super) const APART: &str = "&#8203;";

/// Where a stretch of text stands.
pub(super) struct Place<'a> {
    /// At the beginning of its line.
    pub(super) first: bool,
    /// Our separator follows.
    pub(super) apart: bool,
    pub(super) hosts: &'a Hosts,
}

static ADDRESS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\b(?:[a-z][a-z0-9+.-]{1,15}://|www\.)[^\s<>]*").ok());
/// A keyword, and what makes it close something: a reference, an address, or the end of the stretch (the rest may be
/// in bold).
static CLOSING: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(clos(?:e[sd]?|ing)|fix(?:e[sd]|ing)?|resolv(?:e[sd]?|ing)|implement(?:s|ed|ing)?)(:?\s*(?:issues?\s+)?(?:[\w./-]*[#!]\d|GH-\d|https?://)|:?\s*$)",
    )
    .ok()
});
static BOTS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)^(\s*)(b)(ors)\b").ok());

/// The text, inert.
pub(super) fn inert(text: &str, place: &Place<'_>) -> String {
    let Some(address) = ADDRESS.as_ref() else { return String::new() };
    let mut out = String::with_capacity(text.len() + 16);
    let mut done = 0;
    for found in address.find_iter(text) {
        let before = text.get(done..found.start()).unwrap_or_default();
        words(before, found.as_str(), place.first && done == 0, false, &mut out);
        let (url, rest) = trimmed(found.as_str());
        let full = if url.to_lowercase().starts_with("www.") { format!("https://{url}") } else { url.to_owned() };
        match place.hosts.foreign(&full) {
            None => out.push_str(url),
            Some(host) => out.push_str(&format!("(link to `{host}` removed)")),
        }
        out.push_str(rest);
        done = found.end();
    }
    let last = text.get(done..).unwrap_or_default();
    words(last, "", place.first && done == 0, place.apart, &mut out);
    out
}

/// An address without the punctuation that ends its sentence.
fn trimmed(address: &str) -> (&str, &str) {
    let end = address.trim_end_matches(['.', ',', ';', ':', '!', ')', ']', '\'', '"', '*', '`']).len();
    address.split_at(end)
}

/// Text without addresses; `next`: the address that follows.
fn words(text: &str, next: &str, first: bool, apart: bool, out: &mut String) {
    let mut text = text.to_owned();
    if first {
        let start = text.len() - text.trim_start().len();
        let mut letters = text.get(start..).unwrap_or_default().chars();
        if letters.next() == Some('/') && letters.next().is_some_and(char::is_alphabetic) {
            text.insert(start, '\\');
        }
        if let Some(bots) = BOTS.as_ref() {
            text = bots.replace(&text, format!("${{1}}${{2}}{APART}${{3}}")).into_owned();
        }
    }
    if let Some(closing) = CLOSING.as_ref() {
        let whole = format!("{text}{next}");
        let length = text.len();
        let mut kept = String::new();
        let mut done = 0;
        for found in closing.captures_iter(&whole) {
            let (Some(keyword), Some(what)) = (found.get(1), found.get(2)) else { continue };
            let end = keyword.end();
            // At the end of the stretch: what follows may be in bold. Not where it is apart already.
            if end > length || (what.end() == whole.len() && what.as_str().trim_matches([':', ' ']).is_empty() && apart)
            {
                continue;
            }
            kept.push_str(whole.get(done..end).unwrap_or_default());
            kept.push_str(APART);
            done = end;
        }
        kept.push_str(text.get(done..).unwrap_or_default());
        text = kept;
    }
    let mut before = out.chars().next_back().unwrap_or(' ');
    for (at, letter) in text.char_indices() {
        out.push(letter);
        let rest = text.get(at + letter.len_utf8()..).unwrap_or_default();
        if letter == '@' && !(before.is_alphanumeric() && is_host(rest)) {
            match rest.chars().next() {
                Some(next) if next.is_alphanumeric() || "_-".contains(next) => out.push_str(APART),
                None if !apart && next.is_empty() => out.push_str(APART),
                _ => {}
            }
        }
        before = letter;
    }
}

/// Whether what follows an `@` is the host of a mail address.
fn is_host(text: &str) -> bool {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '-')).unwrap_or(text.len());
    let host = text.get(..end).unwrap_or_default().trim_end_matches('.');
    host.contains('.') && !host.starts_with('.')
}

/// Plain text as Markdown says it: nothing in it is a mark, but for our own separator.
pub(super) fn escaped(text: &str) -> String {
    let parts: Vec<String> = text
        .split(APART)
        .map(|part| {
            let mut out = String::with_capacity(part.len() + 8);
            for letter in part.chars() {
                match letter {
                    '<' => out.push_str("&lt;"),
                    '&' => out.push_str("&amp;"),
                    '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '|' | '#' | '!' => {
                        out.push('\\');
                        out.push(letter);
                    }
                    other => out.push(other),
                }
            }
            out
        })
        .collect();
    parts.join(APART)
}
