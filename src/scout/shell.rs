//! A command line of somebody's CI, as far as it is a plain one.

/// The words of a command that is one program with its arguments: no variables, no pipes, no globs, nothing that hangs on
/// where it runs. `None` for anything else.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if line.is_empty() || line.len() > 300 || line.starts_with('#') || line.contains("${{") {
        return None;
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            // A double-quoted text may still hold a variable.
            (Some(_), '$' | '`' | '\\') => return None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '$' | '`' | '\\' | ';' | '|' | '&' | '<' | '>' | '*' | '?' | '{' | '}' | '(' | ')' | '#' | '!') => {
                return None;
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.take());
    if quote.is_some() || words.is_empty() { None } else { Some(words) }
}
