//! HTML within Markdown: a few marks of structure stay, everything else is text.

use super::hosts::Hosts;
use super::words::{Place, inert as words};
use regex::Regex;
use std::sync::LazyLock;

/// Marks without attributes, which show something and do nothing.
static HARMLESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)^</?(?:details(?: open)?|summary|br|hr|sub|sup|kbd|b|i|strong|em|p|ul|ol|li|table|thead|tbody|tr|th|td|code|pre|blockquote)\s*/?>",
    )
    .ok()
});

/// HTML, inert. Comments go: nobody sees what they say.
pub(super) fn inert(html: &str, hosts: &Hosts) -> String {
    let mut out = String::with_capacity(html.len() + 16);
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        said(before, hosts, &mut out);
        if let Some(comment) = tag.strip_prefix("<!--") {
            rest = comment.find("-->").and_then(|end| comment.get(end + 3..)).unwrap_or_default();
            continue;
        }
        match HARMLESS.as_ref().and_then(|harmless| harmless.find(tag)) {
            Some(found) => {
                out.push_str(found.as_str());
                rest = tag.get(found.end()..).unwrap_or_default();
            }
            None => {
                out.push_str("&lt;");
                rest = tag.get(1..).unwrap_or_default();
            }
        }
    }
    said(rest, hosts, &mut out);
    out
}

/// Text between tags, line by line.
fn said(text: &str, hosts: &Hosts, out: &mut String) {
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let first = number > 0 || out.is_empty() || out.ends_with('\n');
        // Our separators stay as they are.
        let parts: Vec<&str> = line.split(super::words::APART).collect();
        let last = parts.len().saturating_sub(1);
        for (at, part) in parts.into_iter().enumerate() {
            out.push_str(&words(part, &Place { first: first && at == 0, apart: at < last, hosts }));
            if at < last {
                out.push_str(super::words::APART);
            }
        }
    }
}
