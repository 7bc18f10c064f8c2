//! Text as part of a name.

/// A name for branches and files: lower-case ASCII letters, digits and single hyphens, at most `max` bytes (at least
/// one). Cut at a word's end where there is one in the second half. A text without letters and digits gives `change`.
pub fn slug(text: &str, max: usize) -> String {
    let max = max.max(1);
    let mut name = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            'A'..='Z' => name.push(c.to_ascii_lowercase()),
            '\'' | '’' => {}
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
        // One word more than needed tells whether the cut falls on a word's end.
        if name.len() > max {
            break;
        }
    }
    if name.len() > max {
        let kept: String = name.chars().take(max).collect();
        let whole_word = name.chars().nth(max) == Some('-');
        name = match kept.rfind('-') {
            Some(cut) if !whole_word && cut >= max / 2 => kept.chars().take(cut).collect(),
            _ => kept,
        };
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { "change".chars().take(max).collect() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_become_names() {
        let cases = [
            ("Add a --json flag", 40, "add-a-json-flag"),
            ("../../etc/passwd; rm -rf ~", 40, "etc-passwd-rm-rf"),
            ("Don't panic: fix the parser's overflow", 20, "dont-panic-fix-the"),
            ("Don't panic: fix the parser's overflow", 18, "dont-panic-fix-the"),
            ("averyveryverylongword", 8, "averyver"),
            ("日本語", 40, "change"),
            ("", 3, "cha"),
            ("--- .lock", 40, "lock"),
        ];
        for (text, max, expected) in cases {
            assert_eq!(slug(text, max), expected, "{text:?}");
        }
    }
}
