//! Names as git writes them in differences.

/// The name behind `--- ` or `+++ `, its side (`a/`, `b/`) included.
pub fn header_name(rest: &str) -> String {
    if rest.starts_with('"') {
        return unquote(rest).0;
    }
    rest.split('\t').next().unwrap_or_default().trim_end().to_owned()
}

/// A name in C's quotes, as git writes one that holds more than plain letters (`"caf\303\251"`), and what follows it. `text`
/// begins with the quote.
pub fn unquote(text: &str) -> (String, &str) {
    let mut bytes = Vec::new();
    let source = text.as_bytes();
    let mut at = 1;
    while let Some(byte) = source.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => {
                let Some(next) = source.get(at) else { break };
                at += 1;
                match next {
                    b'0'..=b'7' => {
                        let mut value = u32::from(next - b'0');
                        for _ in 0..2 {
                            let Some(digit @ b'0'..=b'7') = source.get(at) else { break };
                            value = value * 8 + u32::from(digit - b'0');
                            at += 1;
                        }
                        bytes.push(u8::try_from(value & 0xff).unwrap_or_default());
                    }
                    b'n' => bytes.push(b'\n'),
                    b't' => bytes.push(b'\t'),
                    b'r' => bytes.push(b'\r'),
                    b'a' => bytes.push(7),
                    b'b' => bytes.push(8),
                    b'f' => bytes.push(12),
                    b'v' => bytes.push(11),
                    other => bytes.push(*other),
                }
            }
            other => bytes.push(*other),
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), text.get(at..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_git_writes_them() {
        for (written, name, rest) in [
            (r#""caf\303\251.rs" b/x"#, "café.rs", " b/x"),
            (r#""a\"b\\c\td""#, "a\"b\\c\td", ""),
            (r#""a\a\b\f\v\r\n""#, "a\u{7}\u{8}\u{c}\u{b}\r\n", ""),
            (r#""never ends"#, "never ends", ""),
        ] {
            assert_eq!(unquote(written), (name.to_owned(), rest), "{written}");
        }
        assert_eq!(header_name("b/with blanks.rs\t"), "b/with blanks.rs");
        assert_eq!(header_name(r#""b/caf\303\251.rs""#), "b/café.rs");
    }
}
