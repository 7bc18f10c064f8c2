//! Pages for people: Markdown, read by a parser of GitHub's dialect, and how they fit below a cap.

use crate::made::{HOSTILE, account, facts, finding, pages};
use codeforge::model::finding::{Finding, Level};
use codeforge::report::ci::{self, markdown as md};
use markdown::mdast::Node;
use proptest::prelude::*;
use serde_json::Value;

/// What a text holds beside plain text.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    html: Vec<String>,
    links: Vec<String>,
    images: usize,
    headings: Vec<String>,
    fences: usize,
    tables: usize,
    text: String,
}

pub fn see(text: &str) -> Seen {
    fn walk(node: &Node, seen: &mut Seen) {
        match node {
            Node::Html(html) => seen.html.push(html.value.trim().to_owned()),
            Node::Link(link) => seen.links.push(link.url.clone()),
            Node::Image(_) | Node::ImageReference(_) => seen.images += 1,
            Node::LinkReference(it) => seen.links.push(it.identifier.clone()),
            Node::Definition(it) => seen.links.push(it.url.clone()),
            Node::FootnoteDefinition(it) => seen.links.push(it.identifier.clone()),
            Node::Heading(heading) => seen.headings.push(heading.children.iter().map(ToString::to_string).collect()),
            Node::Code(_) => seen.fences += 1,
            Node::Table(table) => {
                seen.tables += 1;
                let wide = table.align.len();
                for row in &table.children {
                    assert_eq!(row.children().map_or(0, Vec::len), wide, "a row is broken: {row:?}");
                }
            }
            Node::Text(text) => seen.text.push_str(&text.value),
            _ => {}
        }
        for child in node.children().into_iter().flatten() {
            walk(child, seen);
        }
    }
    let mut seen = Seen::default();
    walk(&markdown::to_mdast(text, &markdown::ParseOptions::gfm()).unwrap(), &mut seen);
    seen
}

#[test]
fn nothing_in_a_text_of_others_acts_in_markdown() {
    let calm = account("calm", 2, 2);
    let calm: Vec<Seen> = pages(&calm, &[finding("calm", 1, Level::High)], &facts("calm"), usize::MAX)
        .iter()
        .map(|it| see(&it.1))
        .collect();
    for text in HOSTILE {
        let account = account(text, 2, 2);
        for ((name, page), calm) in
            pages(&account, &[finding(text, 1, Level::High)], &facts(text), usize::MAX).iter().zip(&calm)
        {
            let seen = see(page);
            let html: Vec<&String> = seen.html.iter().filter(|html| !ours(html)).collect();
            assert!(html.is_empty(), "{name} of {text:?}: {html:?}\n{page}");
            let links: Vec<&String> = seen.links.iter().filter(|link| *link != "https://ci.example/calm").collect();
            assert!(
                links.iter().all(|link| link.starts_with("https://ci.example/")),
                "{name} of {text:?}: {links:?}\n{page}"
            );
            assert_eq!(seen.images, 0, "{name} of {text:?}\n{page}");
            assert!(seen.tables <= calm.tables, "{name} of {text:?}\n{page}");
            assert!(seen.headings.len() <= calm.headings.len(), "{name} of {text:?}: {:?}\n{page}", seen.headings);
            // What forges look for in finished text: mentions, references, quick actions.
            for sign in ["@octocat", "@org", "@me", "#1", "r#3", "!4", "%5"] {
                assert!(!seen.text.contains(sign), "{name} of {text:?} holds {sign}\n{page}");
            }
            for line in page.lines() {
                let start = line.trim_start();
                assert!(!start.starts_with("::") && !line.contains("##["), "{name} of {text:?}: {line:?}");
                // (A summary is posted nowhere; there it can only be a line of a block of code.)
                assert!(!start.starts_with('/') || *name == "summary", "{name} of {text:?}: {line:?}");
            }
            assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{name} of {text:?}");
        }
    }
}

/// HTML that we write ourselves.
fn ours(html: &str) -> bool {
    html == "</details>"
        || html.starts_with("<details><summary>What gate ") && html.matches('<').count() == 3
        || html.starts_with("<!-- codeforge:memory ") && html.ends_with(" -->") && html.matches("-->").count() == 1
}

#[test]
fn what_is_harmless_reads_as_it_was_written() {
    for (text, expected) in [
        ("`unwrap` on user input", "`unwrap` on user input"),
        ("std::fs::read, a.b(c) and x-y", "std::fs::read, a.b(c) and x-y"),
        ("Größe 5 % zu groß", "Größe 5 &#37; zu groß"),
        ("1. first", "1&#46; first"),
        ("an `odd mark", "an &#96;odd mark"),
    ] {
        assert_eq!(md::prose(text, 200), expected);
    }
    assert_eq!(md::code("a`b", 10), "`a'b`");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_above_its_cap_and_each_is_whole(
        cap in prop_oneof![0usize..3000, 3000usize..30_000],
        text in prop_oneof![prop::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned), ".{0,300}"],
        steps in 1usize..12,
        files in 0usize..60,
        found in 0usize..40,
    ) {
        let account = account(&text, steps, files);
        let levels = [Level::Low, Level::Medium, Level::High];
        let found: Vec<Finding> = (0..found).map(|at| finding(&text, at as u64, levels[at % 3])).collect();
        let whole = pages(&account, &found, &facts(&text), usize::MAX);
        for ((name, page), (_, whole)) in pages(&account, &found, &facts(&text), cap).into_iter().zip(whole) {
            prop_assert!(page.len() <= cap, "{name}: {} > {cap}", page.len());
            let seen = see(&page);
            prop_assert!(seen.html.iter().all(|html| ours(html)), "{name}: {:?}", seen.html);
            let open = seen.html.iter().filter(|html| html.starts_with("<details>")).count();
            prop_assert_eq!(open, seen.html.iter().filter(|html| *html == "</details>").count());
            prop_assert!(whole == page || page.contains("Left out") || cap < 40, "{name} does not say what is missing");
        }
        let room = cap.max(4096);
        for text in [ci::sarif(&account, &found, &facts(&text), room), ci::code_quality(&found, room)] {
            prop_assert!(text.len() <= room);
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
        let junit = ci::junit(&account, room);
        prop_assert!(junit.len() <= room && roxmltree::Document::parse(&junit).is_ok());
    }
}

#[test]
fn the_least_useful_goes_first_and_it_is_said() {
    let account = account("calm words", 20, 300);
    let found: Vec<Finding> =
        (0..60).map(|at| finding("calm words", at, if at < 5 { Level::High } else { Level::Low })).collect();
    let whole = ci::summary(&account, &found, &facts("calm"), usize::MAX);
    let mut order: Vec<String> = Vec::new();
    for cap in (2000..whole.len()).rev().step_by(250) {
        let page = ci::summary(&account, &found, &facts("calm"), cap);
        assert!(page.len() <= cap);
        let note = page.lines().find(|line| line.starts_with("*Left out")).unwrap_or_else(|| panic!("{cap}\n{page}"));
        for name in ["changed files", "steps", "findings", "the picture"] {
            if note.contains(&format!("× {name}")) && !order.contains(&name.to_owned()) {
                order.push(name.to_owned());
            }
        }
        // The worst is the last to go.
        assert!(page.contains("🔴") || !page.contains("🔵") && !page.contains("mermaid"), "{cap}\n{page}");
    }
    assert_eq!(order, ["changed files", "steps", "findings", "the picture"]);
}
