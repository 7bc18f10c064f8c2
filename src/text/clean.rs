//! Control sequences and characters that cannot be seen.

/// Where the reader is within an escape sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Plain text.
    Ground,
    /// After ESC, perhaps with intermediate bytes (`ESC ( B`).
    Escape,
    /// Within `ESC [ … final`.
    Csi,
    /// Within OSC, DCS, SOS, PM or APC, up to its terminator.
    Text,
    /// Within such a string, after an ESC that may begin the terminator.
    TextEscape,
}

/// Takes bytes as a process writes them and gives text without control sequences.
///
/// What survives: printable characters, `\n` and `\t`. `\r\n` and a lone `\r` become `\n`, so that nothing can be
/// painted over. Sequences may be cut anywhere across chunks, and so may UTF-8; invalid bytes become U+FFFD. An
/// operating-system command that is never terminated ends with its line: it cannot swallow the rest of the output.
#[derive(Debug, Clone)]
pub struct Cleaner {
    state: State,
    partial: Vec<u8>,
    after_cr: bool,
}

impl Default for Cleaner {
    fn default() -> Self {
        Self::new()
    }
}

impl Cleaner {
    /// A cleaner at the start of a stream.
    pub fn new() -> Self {
        Self { state: State::Ground, partial: Vec::new(), after_cr: false }
    }

    /// Takes the next bytes and returns the text that is certain by now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        let joined: Vec<u8>;
        let mut rest: &[u8] = if self.partial.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.partial).as_slice(), bytes].concat();
            &joined
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.take(text, &mut out);
                    return out;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    self.take(std::str::from_utf8(valid).unwrap_or_default(), &mut out);
                    match error.error_len() {
                        Some(length) => {
                            self.character(char::REPLACEMENT_CHARACTER, &mut out);
                            rest = bad.get(length..).unwrap_or_default();
                        }
                        None => {
                            self.partial = bad.to_vec();
                            return out;
                        }
                    }
                }
            }
        }
    }

    /// Ends the stream: what is left of a cut character becomes U+FFFD, an unfinished sequence is dropped.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if !std::mem::take(&mut self.partial).is_empty() {
            self.character(char::REPLACEMENT_CHARACTER, &mut out);
        }
        *self = Self::new();
        out
    }

    fn take(&mut self, text: &str, out: &mut String) {
        for character in text.chars() {
            self.character(character, out);
        }
    }

    fn character(&mut self, c: char, out: &mut String) {
        match self.state {
            State::Ground => self.ground(c, out),
            State::Escape => match c {
                '[' => self.state = State::Csi,
                ']' | 'P' | 'X' | '^' | '_' => self.state = State::Text,
                ' '..='/' | '\u{1b}' => {}
                '0'..='~' => self.state = State::Ground,
                other => self.abort(other, out),
            },
            State::Csi => match c {
                ' '..='?' => {}
                '@'..='~' => self.state = State::Ground,
                other => self.abort(other, out),
            },
            State::Text => match c {
                '\u{7}' | '\u{9c}' => self.state = State::Ground,
                '\u{1b}' => self.state = State::TextEscape,
                '\n' | '\r' => self.abort(c, out),
                _ => {}
            },
            State::TextEscape => match c {
                '\\' => self.state = State::Ground,
                other => {
                    self.state = State::Escape;
                    self.character(other, out);
                }
            },
        }
    }

    /// A character that no sequence may contain: the sequence is over, the character counts.
    fn abort(&mut self, c: char, out: &mut String) {
        self.state = State::Ground;
        self.ground(c, out);
    }

    fn ground(&mut self, c: char, out: &mut String) {
        let after_cr = std::mem::replace(&mut self.after_cr, c == '\r');
        match c {
            '\u{1b}' => self.state = State::Escape,
            '\u{9b}' => self.state = State::Csi,
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.state = State::Text,
            '\n' if after_cr => {}
            '\n' | '\r' => out.push('\n'),
            '\t' => out.push('\t'),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {}
            other => out.push(other),
        }
    }
}

/// `text` without control characters and escape sequences, but for `\n` and `\t`; see [`Cleaner`].
pub fn clean(text: &str) -> String {
    let mut cleaner = Cleaner::new();
    let mut out = cleaner.push(text.as_bytes());
    out.push_str(&cleaner.finish());
    out
}

/// `text` without characters that are not seen but read: bidirectional controls, zero-width and filler characters,
/// tags and the variation selectors that carry hidden data (those for emoji, U+FE0E and U+FE0F, stay).
pub fn invisible(text: &str) -> String {
    text.chars().filter(|c| !is_invisible(*c)).collect()
}

/// `text` with what [`invisible`] takes away written out, so that a reader of code sees that something is there: one
/// character as `[hidden U+202E]`, a run of them as `[hidden U+E0041 and 5 more]`. What a run spells is not told.
///
/// Joiners between letters and signs that are not ASCII stay (Persian and Hindi are written with them, and emoji), and a
/// byte order mark goes where one may be: before the first letter of a file. Between letters it is as hidden as any other.
///
/// ```
/// assert_eq!(codeforge::text::visible("if admin\u{202e} {"), "if admin[hidden U+202E] {");
/// ```
pub fn visible(text: &str) -> String {
    if !text.chars().any(is_invisible) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 32);
    for (at, run) in runs(text) {
        let mut letters = run.chars();
        let Some(first) = letters.next() else { continue };
        if !is_invisible(first) || joins(text, at, run) {
            out.push_str(run);
            continue;
        }
        match letters.count() {
            0 if is_order_mark(text, at, run) => {}
            0 => out.push_str(&format!("[hidden {}]", code(first))),
            more => out.push_str(&format!("[hidden {} and {more} more]", code(first))),
        }
    }
    out
}

/// The characters of `text` that [`visible`] writes out, each as `U+202E`, in their order and once.
pub fn hidden(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (at, run) in runs(text) {
        if is_order_mark(text, at, run) || joins(text, at, run) {
            continue;
        }
        for letter in run.chars().filter(|letter| is_invisible(*letter)) {
            let name = code(letter);
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

/// A character's number as Unicode writes it.
fn code(letter: char) -> String {
    format!("U+{:04X}", u32::from(letter))
}

/// Text by what is seen and what is not, with where each part begins.
fn runs(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut before = None;
    for (at, letter) in text.char_indices() {
        let now = is_invisible(letter);
        if before.is_some_and(|before| before != now) {
            found.push((start, text.get(start..at).unwrap_or_default()));
            start = at;
        }
        before = Some(now);
    }
    found.push((start, text.get(start..).unwrap_or_default()));
    found
}

/// Whether a run is one joiner between what is not ASCII.
fn joins(text: &str, at: usize, run: &str) -> bool {
    let foreign = |letter: Option<char>| letter.is_some_and(|letter| !letter.is_ascii());
    matches!(run, "\u{200c}" | "\u{200d}")
        && foreign(text.get(..at).unwrap_or_default().chars().next_back())
        && foreign(text.get(at + run.len()..).unwrap_or_default().chars().next())
}

/// Whether a run is a byte order mark: with nothing before it in its line, or what stands before a file's first letter in a
/// difference (`+`, `-`, a blank), a list of lines (`1`, a tab) or of places (`a.cs:1: `).
fn is_order_mark(text: &str, at: usize, run: &str) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let listed = line.strip_suffix('\t').is_some_and(|it| number(it.trim_start()))
        || line.strip_suffix(": ").and_then(|it| it.rsplit_once(':')).is_some_and(|(_, it)| number(it));
    run == "\u{feff}" && (matches!(line, "" | "+" | "-" | " ") || listed)
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_go_text_stays() {
        let cases = [
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("a\r\nb\rc\n", "a\nb\nc\n"),
            ("\u{1b}]0;title\u{7}x\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\", "xlink"),
            ("\u{9b}2Jx\u{9d}52;c;AAAA\u{9c}y", "xy"),
            ("bell\u{7}back\u{8}del\u{7f}nul\0nel\u{85}", "bellbackdelnulnel"),
            ("\u{1b}(Bok\u{1b}7\u{1b}=", "ok"),
            ("\u{1b}]never ended\nnext line", "\nnext line"),
            ("\u{1b}[31\nnext line", "\nnext line"),
            ("\u{1b}[31\u{1b}[1mbold\u{1b}\nplain", "bold\nplain"),
            ("\u{1b}Pdcs\u{1b}\\after", "after"),
            ("\u{1b}]a\u{1b}[1mb\u{1b}Xsos\u{7}c\u{1b}^pm\u{7}d\u{1b}_apc\u{7}e", "bcde"),
            ("\u{90}dcs\u{9c}a\u{98}sos\u{9c}b\u{9e}pm\u{9c}c\u{9f}apc\u{9c}d", "abcd"),
            ("tab\tünïcödé 🦀", "tab\tünïcödé 🦀"),
        ];
        for (dirty, expected) in cases {
            assert_eq!(clean(dirty), expected, "{dirty:?}");
        }
    }

    #[test]
    fn bytes_may_be_invalid_and_cut() {
        let mut cleaner = Cleaner::new();
        let mut text = cleaner.push(b"caf\xc3");
        text += &cleaner.push(b"\xa9 \xff\x1b[3");
        text += &cleaner.push(b"1mred\r");
        text += &cleaner.push(b"\nend\xe2\x82");
        text += &cleaner.finish();
        assert_eq!(text, "café \u{fffd}red\nend\u{fffd}");
    }

    #[test]
    fn hidden_characters_go() {
        let tags: String = "ignore".bytes().map(|b| char::from_u32(0xe0000 + u32::from(b)).unwrap()).collect();
        assert_eq!(invisible(&format!("a\u{200b}b\u{202e}c\u{feff}d{tags}e\u{2066}")), "abcde");
        assert_eq!(invisible("naïve ❤\u{fe0f} text"), "naïve ❤\u{fe0f} text");
        // What Unicode lets nobody see (Default_Ignorable_Code_Point) but for the two selectors, and annotations; each
        // range's ends, and that their neighbours stay.
        for (first, last) in [
            (0xad, 0xad),
            (0x34f, 0x34f),
            (0x61c, 0x61c),
            (0x115f, 0x1160),
            (0x17b4, 0x17b5),
            (0x180b, 0x180f),
            (0x200b, 0x200f),
            (0x202a, 0x202e),
            (0x2060, 0x206f),
            (0x3164, 0x3164),
            (0xfe00, 0xfe0d),
            (0xfeff, 0xfeff),
            (0xffa0, 0xffa0),
            (0xfff0, 0xfffb),
            (0x1bca0, 0x1bca3),
            (0x1d173, 0x1d17a),
            (0xe0000, 0xe0fff),
        ] {
            let gone = |code: u32| char::from_u32(code).is_some_and(|letter| invisible(&letter.to_string()).is_empty());
            assert!(gone(first) && gone(last), "{first:x} to {last:x} goes");
            assert!(!gone(first - 1) && !gone(last + 1), "what is beside {first:x} to {last:x} stays");
        }
    }

    #[test]
    fn hidden_characters_are_written_out_for_readers_of_code() {
        let tags: String = "ignore".bytes().map(|b| char::from_u32(0xe0000 + u32::from(b)).unwrap()).collect();
        let cases = [
            ("a\u{202e}b\u{2066}", "a[hidden U+202E]b[hidden U+2066]", "U+202E U+2066"),
            (
                &*format!("x{tags}y\u{200b}"),
                "x[hidden U+E0069 and 5 more]y[hidden U+200B]",
                "U+E0069 U+E0067 U+E006E U+E006F U+E0072 U+E0065 U+200B",
            ),
            ("\u{feff}using System;", "using System;", ""),
            ("@@ -0,0 +1 @@\n+\u{feff}using System;", "@@ -0,0 +1 @@\n+using System;", ""),
            ("     1\t\u{feff}using System;", "     1\tusing System;", ""),
            ("a.cs:1: \u{feff}using System;", "a.cs:1: using System;", ""),
            ("x = \u{feff}y", "x = [hidden U+FEFF]y", "U+FEFF"),
            ("+ad\u{feff}min", "+ad[hidden U+FEFF]min", "U+FEFF"),
            ("\u{feff}\u{200b}x", "[hidden U+FEFF and 1 more]x", "U+FEFF U+200B"),
            ("می\u{200c}خواهم 👨\u{200d}👩", "می\u{200c}خواهم 👨\u{200d}👩", ""),
            ("ad\u{200d}min", "ad[hidden U+200D]min", "U+200D"),
            ("é\u{200d}min", "é[hidden U+200D]min", "U+200D"),
            ("ad\u{200c}é", "ad[hidden U+200C]é", "U+200C"),
            ("pass\u{ad}word", "pass[hidden U+00AD]word", "U+00AD"),
            ("naïve ❤\u{fe0f}", "naïve ❤\u{fe0f}", ""),
            ("", "", ""),
        ];
        for (given, shown, names) in cases {
            assert_eq!(visible(given), shown, "{given:?}");
            assert_eq!(visible(shown), shown, "twice: {given:?}");
            assert_eq!(hidden(given).join(" "), names, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in prop::collection::vec(prop_oneof![
            Just(0x1bu8), Just(b'['), Just(b']'), Just(b'm'), Just(b'\r'), Just(b'\n'), Just(0xc2), Just(0x9b), any::<u8>()
        ], 0..80), cut in 0usize..80) {
            let whole = { let mut c = Cleaner::new(); c.push(&bytes) + &c.finish() };
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let parts = { let mut c = Cleaner::new(); c.push(a) + &c.push(b) + &c.finish() };
            prop_assert_eq!(&whole, &parts);
            prop_assert!(whole.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
            prop_assert_eq!(clean(&whole), whole);
        }
    }
}
