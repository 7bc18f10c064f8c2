//! A command's output on its way to people and models: decoded, cleaned of control sequences, capped.

/// Takes bytes as they come and gives text without control sequences: no escape sequences (CSI, OSC, DCS and their
/// kin), no C0 but line ends and tabs, no C1. A lone carriage return becomes a line end. What is not UTF-8 becomes
/// the replacement character.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    pending: Vec<u8>,
    state: State,
    after_return: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte: one final byte follows.
    Intermediate,
    /// In a CSI sequence, until its final byte.
    Csi,
    /// In a string (OSC, DCS, SOS, PM, APC), until BEL or ST.
    Text7,
    /// In a string, after ESC.
    Text7Escape,
}

impl Cleaner {
    /// The clean text of these bytes, as far as they are complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        let mut clean = String::with_capacity(bytes.len());
        let joined;
        let mut rest = if self.pending.is_empty() {
            bytes
        } else {
            let mut whole = std::mem::take(&mut self.pending);
            whole.extend_from_slice(bytes);
            joined = whole;
            &joined[..]
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text(text, &mut clean);
                    return clean;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.text(&String::from_utf8_lossy(good), &mut clean);
                    match error.error_len() {
                        Some(length) => {
                            self.text("\u{fffd}", &mut clean);
                            rest = bad.get(length..).unwrap_or_default();
                        }
                        None => {
                            self.pending = bad.to_vec();
                            return clean;
                        }
                    }
                }
            }
        }
    }

    /// What is left at the end: a character that never became complete, or a last carriage return.
    pub(super) fn finish(&mut self) -> String {
        let mut clean = String::new();
        if !std::mem::take(&mut self.pending).is_empty() {
            self.text("\u{fffd}", &mut clean);
        }
        if std::mem::take(&mut self.after_return) {
            clean.push('\n');
        }
        clean
    }

    fn text(&mut self, text: &str, clean: &mut String) {
        for character in text.chars() {
            self.state = match (self.state, character) {
                // Cancel, substitute: end any sequence.
                (_, '\u{18}' | '\u{1a}') => State::Text,
                (State::Text7, '\u{7}' | '\u{9c}') | (State::Text7Escape, '\\') => State::Text,
                (State::Text7, '\u{1b}') => State::Text7Escape,
                (State::Text7 | State::Text7Escape, _) => State::Text7,
                (_, '\u{1b}') => State::Escape,
                (State::Escape, '[') => State::Csi,
                (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Text7,
                (State::Escape | State::Intermediate, ' '..='/') => State::Intermediate,
                (State::Csi, ' '..='?') => State::Csi,
                // A control character inside a sequence means the sequence was broken: the character counts.
                (State::Escape | State::Intermediate | State::Csi, other) if other >= ' ' => State::Text,
                (_, '\u{9b}') => State::Csi,
                (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => State::Text7,
                (_, other) => {
                    if std::mem::take(&mut self.after_return) {
                        clean.push('\n');
                        if other == '\n' {
                            continue;
                        }
                    }
                    match other {
                        '\r' => self.after_return = true,
                        '\n' | '\t' => clean.push(other),
                        control if control.is_control() => {}
                        printable => clean.push(printable),
                    }
                    State::Text
                }
            };
        }
    }
}

/// Keeps the first and last halves of `cap` bytes of text, and counts what it drops between them.
#[derive(Debug)]
pub(super) struct Capped {
    head: String,
    tail: String,
    cap: usize,
    head_full: bool,
    dropped: u64,
}

impl Capped {
    pub(super) fn new(cap: usize) -> Self {
        Self { head: String::new(), tail: String::new(), cap, head_full: false, dropped: 0 }
    }

    pub(super) fn push(&mut self, text: &str) {
        let mut rest = text;
        if !self.head_full {
            let room = (self.cap - self.cap / 2).saturating_sub(self.head.len());
            if rest.len() <= room {
                self.head.push_str(rest);
                return;
            }
            let cut = rest.floor_char_boundary(room);
            let (kept, beyond) = rest.split_at(cut);
            self.head.push_str(kept);
            self.head_full = true;
            rest = beyond;
        }
        self.tail.push_str(rest);
        // Trimmed in bulk, so that a stream of small pieces does not move the tail each time.
        if self.tail.len() > self.cap * 2 + 8192 {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let over = self.tail.len().saturating_sub(self.cap / 2);
        if over > 0 {
            let cut = self.tail.ceil_char_boundary(over);
            self.tail.drain(..cut);
            self.dropped += cut as u64;
        }
    }

    /// The text kept, with a line where something is left out, and how many bytes that was.
    pub(super) fn finish(mut self) -> (String, u64) {
        self.trim();
        if self.dropped == 0 {
            self.head.push_str(&self.tail);
        } else {
            use std::fmt::Write;
            let _ = write!(self.head, "\n[… {} bytes left out …]\n{}", self.dropped, self.tail);
        }
        (self.head, self.dropped)
    }
}

/// Cleans, passes on and collects one command's output.
pub(super) struct Gather<'a> {
    cleaner: Cleaner,
    capped: Capped,
    printed: &'a (dyn for<'t> Fn(&'t str) + Send + Sync),
}

impl<'a> Gather<'a> {
    pub(super) fn new(cap: usize, printed: &'a (dyn for<'t> Fn(&'t str) + Send + Sync)) -> Self {
        Self { cleaner: Cleaner::default(), capped: Capped::new(cap), printed }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let clean = self.cleaner.push(bytes);
        self.pass(&clean);
    }

    fn pass(&mut self, clean: &str) {
        if !clean.is_empty() {
            (self.printed)(clean);
            self.capped.push(clean);
        }
    }

    /// The output kept, and how many bytes were dropped from its middle.
    pub(super) fn finish(mut self) -> (String, u64) {
        let last = self.cleaner.finish();
        self.pass(&last);
        self.capped.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Capped, Cleaner};

    fn clean(pieces: &[&[u8]]) -> String {
        let mut cleaner = Cleaner::default();
        let mut text: String = pieces.iter().map(|piece| cleaner.push(piece)).collect();
        text.push_str(&cleaner.finish());
        text
    }

    #[test]
    fn control_sequences_are_removed_wherever_a_chunk_ends() {
        let raw = "a\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\ \u{1b}Pq#0\u{1b}\\é\u{9b}2J\u{85}z\u{8}\u{0}\r\nend\rover\u{1b}(B!\t.\n".as_bytes();
        let whole = "ared link éz\nend\nover!\t.\n";
        assert_eq!(clean(&[raw]), whole);
        for cut in 0..raw.len() {
            assert_eq!(clean(&[&raw[..cut], &raw[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = raw.chunks(1).collect();
        assert_eq!(clean(&bytes), whole);
    }

    #[test]
    fn what_is_not_utf8_is_replaced_and_nothing_is_lost_around_it() {
        assert_eq!(clean(&[b"a\xffb\xc3", b"(c\xe2\x82"]), "a\u{fffd}b\u{fffd}(c\u{fffd}");
        assert_eq!(clean(&[b"no end \x1b[31", b"\nnext"]), "no end \nnext");
    }

    #[test]
    fn the_cap_keeps_both_ends() {
        let mut capped = Capped::new(10);
        for _ in 0..5000 {
            capped.push("é0123456789");
        }
        let (text, dropped) = capped.finish();
        assert!(text.starts_with("é012\n[…") || text.starts_with("é01"), "{text}");
        assert!(text.ends_with("56789"), "{text}");
        assert_eq!(dropped, 5000 * 12 - 10);
        let mut exact = Capped::new(10);
        exact.push("0123456789");
        assert_eq!(exact.finish(), ("0123456789".to_owned(), 0));
        let mut none = Capped::new(0);
        none.push("abc");
        assert_eq!(none.finish().1, 3);
    }
}
