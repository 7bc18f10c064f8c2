//! Markdown that holds text of others and still says only what we say; and texts that fit into a cap.
//!
//! GitHub and GitLab read much in a text: HTML, links, images, mentions, references to issues, mathematics, and on
//! GitLab commands at the start of a line. None of it works from within [`prose`] and [`code`].

use crate::report::line;

/// What stands between a sign and the word that it would act on.
const APART: &str = "&#8203;";

/// Text of others on one line, as text: nothing in it is markup but code spans in balanced single backticks. At most
/// `most` characters of it are kept. Fits into a table's cell, a list's item, a heading, a quote.
pub fn prose(text: &str, most: usize) -> String {
    let text = line(text, most);
    let parts: Vec<&str> = text.split('`').collect();
    // Marks without a partner, or with nothing between them, are plain characters.
    let spans = parts.len() % 2 == 1 && parts.iter().skip(1).step_by(2).all(|part| !part.trim().is_empty());
    let mut out = String::new();
    if !spans {
        escape(&text, &mut out);
        return out;
    }
    for (at, part) in parts.iter().enumerate() {
        if at % 2 == 1 {
            out.push_str(&code(part, most));
        } else {
            escape(part, &mut out);
        }
    }
    out
}

/// The same, and marks of code are plain characters too: for places where Markdown is not read, within HTML.
pub fn plain(text: &str, most: usize) -> String {
    let mut out = String::new();
    escape(&line(text, most), &mut out);
    out
}

fn escape(text: &str, out: &mut String) {
    let mut rest = text.chars().peekable();
    let mut start = out.is_empty();
    let mut digits = start;
    while let Some(c) = rest.next() {
        let word = rest.peek().is_some_and(|next| next.is_alphanumeric() || "\"_{[".contains(*next));
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\\' | '`' | '*' | '_' | '~' | '[' | ']' | '|' | '$' | '{' | '}' | '^' | '=' => entity(c, out),
            '@' | '#' | '!' | '%' => {
                entity(c, out);
                if word {
                    out.push_str(APART);
                }
            }
            // `https://…` and `www.…` would become links.
            ':' if rest.peek() == Some(&'/') => {
                out.push(':');
                out.push_str(APART);
            }
            '.' if out.to_ascii_lowercase().ends_with("www") => {
                out.push_str(APART);
                out.push('.');
            }
            '-' | '+' | '/' if start => entity(c, out),
            '.' | ')' if digits && !start => entity(c, out),
            other => out.push(other),
        }
        digits = digits && c.is_ascii_digit();
        start = false;
    }
}

fn entity(c: char, out: &mut String) {
    out.push_str(&format!("&#{};", u32::from(c)));
}

/// Text of others as a code span, on one line; empty text gives `–`.
pub fn code(text: &str, most: usize) -> String {
    // A mark cannot be escaped within a span.
    let text = line(text, most).replace('`', "'").replace("<!--", "<! --");
    let text = text.trim();
    if text.is_empty() { "–".to_owned() } else { format!("`{text}`") }
}

/// Text of others as a block, as it is but for control and invisible characters; its fence is longer than any in it.
/// Its last `lines` lines, each at most `width` characters.
pub fn block(text: &str, lines: usize, width: usize) -> String {
    let all: Vec<String> = crate::text::clean(text).lines().map(|text| kept_line(text, width)).collect();
    let from = all.len().saturating_sub(lines);
    let mut kept: Vec<String> = all.into_iter().skip(from).collect();
    if from > 0 {
        kept.insert(0, format!("… {from} lines before this"));
    }
    let text = kept.join("\n");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}\n")
}

/// A line with its indentation, inert, at most so long.
fn kept_line(text: &str, width: usize) -> String {
    let text = crate::text::inert_ci(&crate::text::invisible(text)).replace('\t', "    ");
    if text.chars().count() <= width {
        return text.trim_end().to_owned();
    }
    format!("{}…", text.chars().take(width.saturating_sub(1)).collect::<String>())
}

/// Text of others as a quote, line by line; at most so many lines and characters.
pub fn quote(text: &str, lines: usize, most: usize) -> String {
    let mut out = String::new();
    let mut left = most;
    let cleaned = crate::text::clean(text);
    let mut all = cleaned.trim().lines();
    for text in all.by_ref().take(lines) {
        let text = line(text, left.min(1000));
        left = left.saturating_sub(text.chars().count());
        out.push_str(format!("> {}", prose(&text, 1000)).trim_end());
        out.push('\n');
        if left == 0 {
            break;
        }
    }
    if all.next().is_some() {
        out.push_str("> …\n");
    }
    out
}

/// A part of a document. The higher its rank, the sooner it goes; rank 0 goes last.
#[derive(Debug)]
struct Part {
    rank: u8,
    /// What is missing without it: `passed steps`, in the plural.
    name: &'static str,
    /// The table that it is a row of, by number.
    table: Option<usize>,
    text: String,
}

/// A document that is put together of parts and fits into a cap: parts go whole, the least useful first, so that no
/// table, fence or tag is ever left open.
#[derive(Debug, Default)]
pub struct Document {
    parts: Vec<Part>,
    heads: Vec<String>,
}

impl Document {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part. It is separated from its neighbours by an empty line.
    pub fn add(&mut self, rank: u8, name: &'static str, text: impl Into<String>) {
        let text = text.into();
        if !text.trim().is_empty() {
            self.parts.push(Part { rank, name, table: None, text: text.trim_end().to_owned() });
        }
    }

    /// Begins a table: its heads; gives its number for [`Document::row`].
    pub fn table(&mut self, heads: &[&str]) -> usize {
        self.heads.push(format!("| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len())));
        self.heads.len() - 1
    }

    /// Adds a row to a table: cells made with [`prose`] or [`code`]. A table without rows is not shown. Rows of one
    /// table follow each other.
    pub fn row(&mut self, table: usize, rank: u8, name: &'static str, cells: &[String]) {
        // Bars are left in code spans only; there the table takes the backslash away again.
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace("\\|", "\\¦").replace('|', "\\|")).collect();
        self.parts.push(Part { rank, name, table: Some(table), text: format!("| {} |", cells.join(" | ")) });
    }

    /// The text, at most `cap` bytes.
    pub fn fit(&self, cap: usize) -> String {
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse((self.parts.get(*at).map_or(0, |part| part.rank), *at)));
        let whole = self.render(&vec![true; self.parts.len()]);
        if whole.len() <= cap {
            return whole;
        }
        let mut kept = vec![true; self.parts.len()];
        let mut size = whole.len();
        for at in order {
            if size + NOTE <= cap {
                break;
            }
            if let (Some(kept), Some(part)) = (kept.get_mut(at), self.parts.get(at)) {
                *kept = false;
                // An underestimate of what goes: heads and empty lines go too.
                size = size.saturating_sub(part.text.len() + 1);
            }
        }
        let text = format!("{}{}", self.render(&kept), self.note(&kept));
        if text.len() <= cap {
            return text;
        }
        let note = "(Left out: too little room.)\n";
        if note.len() <= cap { note.to_owned() } else { String::new() }
    }

    fn render(&self, kept: &[bool]) -> String {
        let mut out = String::new();
        let mut inside: Option<usize> = None;
        for (part, _) in self.parts.iter().zip(kept).filter(|(_, kept)| **kept) {
            let same = part.table.is_some() && part.table == inside;
            if !out.is_empty() && !same {
                out.push('\n');
            }
            if let (Some(table), false) = (part.table, same) {
                out.push_str(self.heads.get(table).map_or("", String::as_str));
                out.push('\n');
            }
            out.push_str(&part.text);
            out.push('\n');
            inside = part.table;
        }
        out
    }

    fn note(&self, kept: &[bool]) -> String {
        let mut gone: Vec<(&str, usize)> = Vec::new();
        for (part, _) in self.parts.iter().zip(kept).filter(|(_, kept)| !**kept) {
            match gone.iter_mut().find(|(name, _)| *name == part.name) {
                Some((_, count)) => *count += 1,
                None => gone.push((part.name, 1)),
            }
        }
        let told: Vec<String> = gone.iter().map(|(name, count)| format!("{count} × {name}")).collect();
        format!("\n*Left out, because a text here has a size: {}.*\n", told.join(", "))
    }
}

/// Room for the note on what was left out.
const NOTE: usize = 400;
