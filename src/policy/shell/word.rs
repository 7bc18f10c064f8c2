//! Words: quoting, expansions and the substitutions inside them.

use super::names;
use super::parse::{Parser, Res};
use super::{Arg, refuse};

/// A word being read.
#[derive(Default)]
struct Word {
    text: Vec<u8>,
    /// How much of `text` is certain, where something unknown follows.
    certain: Option<usize>,
    /// Where the first pattern character stands.
    pattern: Option<usize>,
    bracket: bool,
    many: bool,
}

impl Word {
    fn unknown(&mut self, many: bool) {
        self.certain.get_or_insert(self.text.len());
        self.many |= many;
    }

    fn finish(self) -> Arg {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let prefix = |end: usize| text(self.text.get(..end).unwrap_or_default());
        match (self.certain, self.pattern) {
            (Some(end), pattern) => Arg::Unknown {
                prefix: prefix(end.min(pattern.unwrap_or(end))),
                glob: None,
                many: self.many || pattern.is_some(),
            },
            (None, Some(end)) => Arg::Unknown { prefix: prefix(end), glob: Some(text(&self.text)), many: true },
            (None, None) => Arg::Literal(text(&self.text)),
        }
    }
}

impl Parser<'_, '_> {
    /// One word. Never empty: the caller has seen that one begins here.
    pub(super) fn word(&mut self) -> Res<Arg> {
        let start = self.pos;
        let mut word = Word::default();
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'(' | b')' => break,
                b'<' | b'>' => {
                    if self.peek_at(1) != Some(b'(') || self.pos != start {
                        break;
                    }
                    self.pos += 1;
                    self.group()?;
                    word.unknown(false);
                }
                b'\\' => match self.peek_at(1) {
                    None => return refuse("the shell text ends in a backslash"),
                    Some(b'\n') => break, // blanks() decides
                    Some(next) => {
                        word.text.push(next);
                        self.pos += 2;
                    }
                },
                b'\'' => {
                    self.pos += 1;
                    self.single(&mut word)?;
                }
                b'"' => {
                    self.pos += 1;
                    self.double(&mut word)?;
                }
                b'$' => self.dollar(&mut word, false)?,
                b'`' => self.backquoted(&mut word, false)?,
                b'*' | b'?' => {
                    word.pattern.get_or_insert(word.text.len());
                    word.text.push(byte);
                    self.pos += 1;
                }
                b'[' => {
                    word.bracket = true;
                    word.text.push(byte);
                    self.pos += 1;
                }
                b']' => {
                    if word.bracket {
                        let open = word.text.iter().position(|b| *b == b'[').unwrap_or(0);
                        word.pattern = Some(word.pattern.map_or(open, |at| at.min(open)));
                    }
                    word.text.push(byte);
                    self.pos += 1;
                }
                b'{' if self.peek_at(1) != Some(b'}') => {
                    word.unknown(true);
                    word.text.push(byte);
                    self.pos += 1;
                }
                b'~' if word.text.last().is_none_or(|b| matches!(b, b'=' | b':')) => {
                    word.unknown(false);
                    word.text.push(byte);
                    self.pos += 1;
                }
                _ => {
                    word.text.push(byte);
                    self.pos += 1;
                }
            }
        }
        if self.pos == start {
            return self.unexpected();
        }
        Ok(word.finish())
    }

    fn single(&mut self, word: &mut Word) -> Res<()> {
        loop {
            let Some(byte) = self.peek() else { return refuse("a single quote is not closed") };
            self.pos += 1;
            match byte {
                b'\'' => return Ok(()),
                b'\n' => self.quoted_line_end()?,
                _ => {}
            }
            word.text.push(byte);
        }
    }

    fn quoted_line_end(&self) -> Res<()> {
        if self.pending.is_empty() && self.outer_pending == 0 {
            return Ok(());
        }
        refuse("a quoted line end stands between a here-document's mark and its body")
    }

    fn double(&mut self, word: &mut Word) -> Res<()> {
        loop {
            let Some(byte) = self.peek() else { return refuse("a double quote is not closed") };
            match byte {
                b'"' => {
                    self.pos += 1;
                    return Ok(());
                }
                b'\\' => {
                    match self.peek_at(1) {
                        Some(next @ (b'$' | b'`' | b'"' | b'\\')) => word.text.push(next),
                        Some(b'\n') => self.quoted_line_end()?,
                        Some(next) => word.text.extend([b'\\', next]),
                        None => return refuse("a double quote is not closed"),
                    }
                    self.pos += 2;
                }
                b'$' => self.dollar(word, true)?,
                b'`' => self.backquoted(word, true)?,
                b'\n' => {
                    self.quoted_line_end()?;
                    word.text.push(byte);
                    self.pos += 1;
                }
                _ => {
                    word.text.push(byte);
                    self.pos += 1;
                }
            }
        }
    }

    /// The body of a here-document whose mark is not quoted.
    pub(super) fn here_document(mut self) -> Res<()> {
        let mut word = Word::default();
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => self.pos += 2,
                b'$' => self.dollar(&mut word, true)?,
                b'`' => self.backquoted(&mut word, true)?,
                _ => self.pos += 1,
            }
        }
        Ok(())
    }

    /// `(`, commands, `)`: a substitution's inside.
    fn group(&mut self) -> Res<()> {
        self.expect(b'(')?;
        let pending = std::mem::take(&mut self.pending);
        self.outer_pending += pending.len();
        let outside = std::mem::replace(&mut self.substitution, true);
        self.deeper(|p| p.list(&[")"], false))?;
        if !self.pending.is_empty() {
            return refuse("a here-document is cut off by the end of its substitution");
        }
        self.substitution = outside;
        self.outer_pending -= pending.len();
        self.pending = pending;
        self.expect(b')')
    }

    fn dollar(&mut self, word: &mut Word, quoted: bool) -> Res<()> {
        match self.peek_at(1) {
            Some(b'(') if self.peek_at(2) == Some(b'(') => {
                self.pos += 3;
                self.deeper(Self::arithmetic)?;
                word.unknown(false);
            }
            Some(b'(') => {
                self.pos += 1;
                self.group()?;
                word.unknown(!quoted);
            }
            Some(b'{') => {
                self.pos += 2;
                self.deeper(|p| p.parameter(quoted))?;
                word.unknown(true);
            }
            Some(b'[') => return refuse("`$[` is arithmetic to some shells and text to others"),
            Some(b'\'') if !quoted => {
                self.pos += 2;
                let mut inner = Word::default();
                self.single(&mut inner)?;
                if inner.text.contains(&b'\\') {
                    return refuse("`$'…'` with a backslash is read differently by shells");
                }
                word.unknown(false);
            }
            Some(b'"') if !quoted => {
                self.pos += 2;
                word.unknown(false);
                self.double(word)?;
            }
            Some(b'\\') if self.peek_at(2) == Some(b'\n') => return refuse("a line is continued inside an expansion"),
            Some(next) if next.is_ascii_alphabetic() || next == b'_' => {
                self.pos += 1;
                self.name();
                word.unknown(!quoted);
            }
            Some(next) if next.is_ascii_digit() || b"@*#?-$!".contains(&next) => {
                self.pos += 2;
                word.unknown(!quoted || next == b'@');
            }
            _ => {
                word.text.push(b'$');
                self.pos += 1;
            }
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let start = self.pos;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.pos += 1;
        }
        String::from_utf8_lossy(self.src.get(start..self.pos).unwrap_or_default()).into_owned()
    }

    /// After `${`.
    fn parameter(&mut self, quoted: bool) -> Res<()> {
        const OTHER: &str = "this `${…}` is understood by some shells only";
        if self.peek() == Some(b'#') && self.peek_at(1).is_some_and(|b| b != b'}') {
            self.pos += 1;
            if self.name().is_empty() && self.peek().is_some_and(|b| b"@*?-$!".contains(&b)) {
                self.pos += 1;
            }
            return if self.peek() == Some(b'}') { self.expect(b'}') } else { refuse(OTHER) };
        }
        let mut name = self.name();
        if name.is_empty() {
            match self.peek() {
                Some(b'!') if self.peek_at(1) != Some(b'}') => return refuse(OTHER),
                Some(special) if b"@*#?-$!".contains(&special) => {
                    self.pos += 1;
                    name.push(char::from(special));
                }
                _ => return refuse(OTHER),
            }
        }
        match self.peek() {
            Some(b'}') => return self.expect(b'}'),
            Some(b':') if self.peek_at(1).is_some_and(|b| b"-=?+".contains(&b)) => self.pos += 1,
            Some(b'-' | b'=' | b'?' | b'+' | b'%' | b'#') => {}
            _ => return refuse(OTHER),
        }
        let operator = self.peek();
        self.pos += 1;
        if matches!(operator, Some(b'%' | b'#')) && self.peek() == operator {
            self.pos += 1;
        }
        if operator == Some(b'=') {
            self.found.assign(&name, None)?;
        }
        let mut value = Word::default();
        loop {
            let Some(byte) = self.peek() else { return refuse("`${` is not closed") };
            match byte {
                b'}' => return self.expect(b'}'),
                b'\'' | b'"' if quoted => {
                    return refuse("quotes inside a quoted `${…}` are read differently by shells");
                }
                b'{' => return refuse("a brace inside `${…}` is read differently by shells"),
                b'<' | b'>' if self.peek_at(1) == Some(b'(') => return refuse(OTHER),
                b'\n' => {
                    self.quoted_line_end()?;
                    self.pos += 1;
                }
                b'\\' => match self.peek_at(1) {
                    None | Some(b'\n') => return refuse("`${` is not closed"),
                    Some(_) => self.pos += 2,
                },
                b'\'' => {
                    self.pos += 1;
                    self.single(&mut value)?;
                }
                b'"' => {
                    self.pos += 1;
                    self.double(&mut value)?;
                }
                b'$' => self.dollar(&mut value, quoted)?,
                b'`' => self.backquoted(&mut value, quoted)?,
                _ => self.pos += 1,
            }
        }
    }

    /// After `$((`.
    fn arithmetic(&mut self) -> Res<()> {
        let mut open = 0_usize;
        loop {
            let Some(byte) = self.peek() else { return refuse("`$((` is not closed") };
            match byte {
                b'(' => open += 1,
                b')' if open > 0 => open -= 1,
                b')' => {
                    self.pos += 1;
                    return if self.peek() == Some(b')') {
                        self.expect(b')')
                    } else {
                        refuse("`$((` is arithmetic to some shells and a group to others; write `$( (`")
                    };
                }
                b'$' => {
                    self.arithmetic_parameter()?;
                    continue;
                }
                b'0'..=b'9' => {
                    self.name(); // a number, perhaps hexadecimal
                    continue;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    let name = self.name();
                    self.found.arithmetic.insert(name);
                    continue;
                }
                b'\n' => self.quoted_line_end()?,
                b' ' | b'\t' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'!' | b'&' | b'|' | b'^'
                | b'~' | b'?' | b':' | b',' => {}
                _ => return refuse("this arithmetic is more than numbers and plain variables"),
            }
            self.pos += 1;
        }
    }

    fn arithmetic_parameter(&mut self) -> Res<()> {
        self.pos += 1;
        let braces = self.peek() == Some(b'{');
        if braces {
            self.pos += 1;
        }
        let length = braces && self.peek() == Some(b'#');
        if length {
            self.pos += 1;
        }
        let name = self.name();
        if name.is_empty() && !length && self.peek().is_some_and(|b| b"#?$!".contains(&b)) {
            self.pos += 1;
        } else if !names::identifier(&name) {
            return refuse("this arithmetic evaluates a value that is not known to be a number");
        } else if !length {
            self.found.arithmetic.insert(name);
        }
        if braces { self.expect(b'}') } else { Ok(()) }
    }

    /// `` `…` ``
    fn backquoted(&mut self, word: &mut Word, quoted: bool) -> Res<()> {
        self.pos += 1;
        let mut inner = Vec::new();
        loop {
            let Some(byte) = self.peek() else { return refuse("a backquote is not closed") };
            self.pos += 1;
            match byte {
                b'`' => break,
                b'\n' => {
                    self.quoted_line_end()?;
                    inner.push(byte);
                }
                b'\\' => match self.peek() {
                    Some(next @ (b'$' | b'`' | b'\\')) => {
                        inner.push(next);
                        self.pos += 1;
                    }
                    Some(b'"') if quoted => {
                        return refuse("`\\\"` inside backquotes inside double quotes is read differently by shells");
                    }
                    _ => inner.push(byte),
                },
                _ => inner.push(byte),
            }
        }
        word.unknown(!quoted);
        let depth = self.depth + 1;
        let mut nested = Parser::new(&inner, depth, false, self.found);
        nested.substitution = true;
        nested.program()
    }
}
