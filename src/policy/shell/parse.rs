//! The grammar: lists, pipelines, compound commands, functions, redirections, here-documents.

use super::names::{self, BASH_ONLY, RESERVED, SPECIAL};
use super::{Arg, Found, MAX_DEPTH, Simple, Unparsable, refuse};

/// A here-document whose body is still to come.
pub(super) struct HereDoc {
    tag: String,
    strip_tabs: bool,
    expands: bool,
}

/// A recursive descent over one text. Every nesting passes [`Parser::deeper`].
pub(super) struct Parser<'s, 'f> {
    pub(super) src: &'s [u8],
    pub(super) pos: usize,
    pub(super) depth: usize,
    pub(super) found: &'f mut Found,
    /// Here-documents announced on the current line.
    pub(super) pending: Vec<HereDoc>,
    /// How many are announced outside of the substitution that is being read.
    pub(super) outer_pending: usize,
    /// Inside `$(…)`: where shells differ on comments.
    pub(super) substitution: bool,
    top: bool,
}

pub(super) type Res<T> = Result<T, Unparsable>;

impl<'s, 'f> Parser<'s, 'f> {
    pub(super) fn new(src: &'s [u8], depth: usize, top: bool, found: &'f mut Found) -> Self {
        Self { src, pos: 0, depth, found, pending: Vec::new(), outer_pending: 0, substitution: false, top }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.src.get(self.pos).copied()
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.src.get(self.pos + ahead).copied()
    }

    pub(super) fn looking_at(&self, text: &str) -> bool {
        self.src.get(self.pos..).is_some_and(|rest| rest.starts_with(text.as_bytes()))
    }

    pub(super) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        if self.depth >= MAX_DEPTH {
            return refuse("the text is nested too deeply");
        }
        self.depth += 1;
        let done = inner(self);
        self.depth -= 1;
        done
    }

    /// The whole text.
    pub(super) fn program(mut self) -> Res<()> {
        if self.depth >= MAX_DEPTH {
            return refuse("the text is nested too deeply");
        }
        let top = self.top;
        self.list(&[], top)?;
        if self.pos < self.src.len() {
            return self.unexpected();
        }
        if !self.pending.is_empty() {
            return refuse("a here-document has no end");
        }
        Ok(())
    }

    pub(super) fn unexpected<T>(&self) -> Res<T> {
        match self.src.get(self.pos..).map(String::from_utf8_lossy) {
            Some(rest) if !rest.is_empty() => {
                let near: String = rest.chars().take(16).collect();
                refuse(format!("the shell text cannot be parsed near `{}`", near.escape_debug()))
            }
            _ => refuse("the shell text ends too early"),
        }
    }

    /// Blanks, comments and line continuations between words.
    pub(super) fn blanks(&mut self) -> Res<()> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.pos += 1,
                Some(b'\\') if self.peek_at(1) == Some(b'\n') => {
                    // Joined lines are read alike only where a blank already parts the words.
                    let before = self.pos.checked_sub(1).and_then(|i| self.src.get(i));
                    if !matches!(before, Some(b' ' | b'\t')) && !matches!(self.peek_at(2), Some(b' ' | b'\t')) {
                        return refuse("a line is continued inside a word");
                    }
                    self.pos += 2;
                }
                Some(b'#') => {
                    let start = self.pos;
                    while self.peek().is_some_and(|b| b != b'\n') {
                        self.pos += 1;
                    }
                    let text = self.src.get(start..self.pos).unwrap_or_default();
                    if self.substitution && text.iter().any(|b| b"'\"`()$\\".contains(b)) {
                        return refuse(
                            "a comment inside a substitution holds quotes or brackets, which shells read differently",
                        );
                    }
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    /// Blanks and line ends, with the here-documents that follow them.
    fn lines(&mut self) -> Res<()> {
        loop {
            self.blanks()?;
            if self.peek() != Some(b'\n') {
                return Ok(());
            }
            if self.outer_pending > 0 {
                return refuse("a line ends inside a substitution before a here-document was read");
            }
            self.pos += 1;
            for doc in std::mem::take(&mut self.pending) {
                self.body(&doc)?;
            }
        }
    }

    fn body(&mut self, doc: &HereDoc) -> Res<()> {
        let start = self.pos;
        loop {
            if self.pos >= self.src.len() {
                return refuse("a here-document has no end");
            }
            let line_start = self.pos;
            while self.peek().is_some_and(|b| b != b'\n') {
                self.pos += 1;
            }
            let mut line = self.src.get(line_start..self.pos).unwrap_or_default();
            self.pos += 1;
            if doc.strip_tabs {
                while let Some((b'\t', rest)) = line.split_first() {
                    line = rest;
                }
            }
            if line == doc.tag.as_bytes() {
                self.pos = self.pos.min(self.src.len());
                let body = self.src.get(start..line_start).unwrap_or_default();
                return if doc.expands { self.expand_body(body) } else { Ok(()) };
            }
            if doc.expands && line.last() == Some(&b'\\') {
                return refuse("a line of a here-document ends in a backslash, which shells read differently");
            }
        }
    }

    fn expand_body(&mut self, body: &[u8]) -> Res<()> {
        self.deeper(|p| {
            let mut inner = Parser::new(body, p.depth, false, p.found);
            inner.substitution = true;
            inner.here_document()
        })
    }

    /// The next unquoted word, not consumed, where it could be a reserved one.
    fn upcoming(&self) -> &'s [u8] {
        let rest = self.src.get(self.pos..).unwrap_or_default();
        let end = rest.iter().position(|b| b" \t\n;&|()<>".contains(b)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    fn at(&self, word: &str) -> bool {
        self.upcoming() == word.as_bytes()
    }

    fn at_stop(&self, stops: &[&str]) -> bool {
        if self.pos >= self.src.len() {
            return true;
        }
        stops.iter().any(|stop| match *stop {
            ")" | ";;" => self.looking_at(stop),
            word => self.at(word),
        })
    }

    fn expect_word(&mut self, word: &str) -> Res<()> {
        if !self.at(word) {
            return self.unexpected();
        }
        self.pos += word.len();
        Ok(())
    }

    pub(super) fn expect(&mut self, byte: u8) -> Res<()> {
        if self.peek() != Some(byte) {
            return self.unexpected();
        }
        self.pos += 1;
        Ok(())
    }

    /// Commands up to one of `stops`, which is left for the caller. `straight`: each of them certainly runs.
    pub(super) fn list(&mut self, stops: &[&str], straight: bool) -> Res<()> {
        loop {
            self.lines()?;
            if self.at_stop(stops) {
                return Ok(());
            }
            let defined = self.and_or()?;
            self.blanks()?;
            match self.peek() {
                Some(b';') if self.peek_at(1) == Some(b';') => {
                    return if stops.contains(&";;") { Ok(()) } else { self.unexpected() };
                }
                Some(b';') if self.peek_at(1) == Some(b'&') => {
                    return refuse("`;&` is understood by some shells only");
                }
                Some(b'&') => {
                    self.pos += 1;
                    continue;
                }
                Some(b';') => self.pos += 1,
                Some(b'\n') | None => {}
                _ if self.at_stop(stops) => return Ok(()),
                _ => return self.unexpected(),
            }
            if let (true, Some(name)) = (straight, defined) {
                self.found.functions.insert(name);
            }
        }
    }

    /// Pipelines joined by `&&` and `||`. Returns the function that it defines, where it does nothing else.
    fn and_or(&mut self) -> Res<Option<String>> {
        let mut defined = self.pipeline()?;
        loop {
            self.blanks()?;
            if !self.looking_at("&&") && !self.looking_at("||") {
                return Ok(defined);
            }
            defined = None;
            self.pos += 2;
            self.lines()?;
            self.pipeline()?;
        }
    }

    fn pipeline(&mut self) -> Res<Option<String>> {
        self.blanks()?;
        while self.at("!") {
            self.pos += 1;
            if self.peek() == Some(b'(') {
                return refuse("`!(` is a pattern to some shells and a group to others; write `! (`");
            }
            self.blanks()?;
        }
        let mut defined = self.deeper(Self::command)?;
        loop {
            self.blanks()?;
            if self.peek() != Some(b'|') || self.peek_at(1) == Some(b'|') {
                return Ok(defined);
            }
            defined = None;
            self.pos += if self.peek_at(1) == Some(b'&') { 2 } else { 1 };
            self.lines()?;
            self.deeper(Self::command)?;
        }
    }

    fn command(&mut self) -> Res<Option<String>> {
        self.blanks()?;
        if self.compound()? {
            let mut around = Simple::default();
            while self.redirect(&mut around)? {}
            if !around.writes.is_empty() || !around.reads.is_empty() {
                self.found.push(around)?;
            }
            return Ok(None);
        }
        self.simple()
    }

    /// A compound command, without its redirections; false where there is none.
    fn compound(&mut self) -> Res<bool> {
        if self.peek() == Some(b'(') {
            if self.peek_at(1) == Some(b'(') {
                return refuse("`((` is arithmetic to some shells and a group to others; write `( (`");
            }
            self.pos += 1;
            self.list(&[")"], false)?;
            self.expect(b')')?;
            return Ok(true);
        }
        let word = self.upcoming();
        match word {
            b"{" => {
                self.pos += 1;
                self.list(&["}"], false)?;
                self.expect_word("}")?;
            }
            b"if" => {
                self.pos += 2;
                self.list(&["then"], false)?;
                self.expect_word("then")?;
                loop {
                    self.list(&["elif", "else", "fi"], false)?;
                    if self.at("elif") {
                        self.pos += 4;
                        self.list(&["then"], false)?;
                        self.expect_word("then")?;
                    } else if self.at("else") {
                        self.pos += 4;
                        self.list(&["fi"], false)?;
                        break;
                    } else {
                        break;
                    }
                }
                self.expect_word("fi")?;
            }
            b"while" | b"until" => {
                self.pos += 5;
                self.list(&["do"], false)?;
                self.do_group()?;
            }
            b"for" => self.for_loop()?,
            b"case" => self.case()?,
            _ => {
                if std::str::from_utf8(word).is_ok_and(|w| RESERVED.contains(&w)) {
                    return self.unexpected();
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn do_group(&mut self) -> Res<()> {
        self.expect_word("do")?;
        self.list(&["done"], false)?;
        self.expect_word("done")
    }

    fn for_loop(&mut self) -> Res<()> {
        self.pos += 3;
        self.blanks()?;
        let name = String::from_utf8_lossy(self.upcoming()).into_owned();
        if !names::identifier(&name) {
            return refuse("the variable of a `for` cannot be told");
        }
        self.pos += name.len();
        self.lines()?;
        if self.at("in") {
            self.pos += 2;
            loop {
                self.blanks()?;
                match self.peek() {
                    Some(b';' | b'\n') => break,
                    None | Some(b'&' | b'|' | b'(' | b')') => return self.unexpected(),
                    _ => {
                        let word = self.word()?;
                        self.found.assign(&name, word.literal())?;
                    }
                }
            }
        } else {
            self.found.assign(&name, None)?;
        }
        if self.peek() == Some(b';') {
            self.pos += 1;
        }
        self.lines()?;
        self.do_group()
    }

    fn case(&mut self) -> Res<()> {
        self.pos += 4;
        self.blanks()?;
        self.word()?;
        self.lines()?;
        self.expect_word("in")?;
        loop {
            self.lines()?;
            if self.at("esac") {
                break;
            }
            if self.peek() == Some(b'(') {
                self.pos += 1;
            }
            loop {
                self.blanks()?;
                self.word()?;
                self.blanks()?;
                match self.peek() {
                    Some(b'|') => self.pos += 1,
                    Some(b')') => break,
                    _ => return self.unexpected(),
                }
            }
            self.pos += 1;
            self.list(&[";;", "esac"], false)?;
            if self.looking_at(";;") {
                self.pos += 2;
                if self.peek() == Some(b'&') {
                    return refuse("`;;&` is understood by some shells only");
                }
            } else {
                break;
            }
        }
        self.expect_word("esac")
    }

    fn simple(&mut self) -> Res<Option<String>> {
        let mut command = Simple::default();
        let mut assigned = false;
        loop {
            self.blanks()?;
            if self.redirect(&mut command)? {
                continue;
            }
            match self.peek() {
                None | Some(b';' | b'\n' | b'|' | b')') => break,
                Some(b'&') if self.peek_at(1) == Some(b'>') => {
                    self.both(&mut command)?;
                    break;
                }
                Some(b'&') => break,
                Some(b'(') => {
                    let plain = !assigned && command.writes.is_empty() && command.reads.is_empty();
                    let name = match command.argv.as_slice() {
                        [Arg::Literal(name)] if plain => name.clone(),
                        _ => return self.unexpected(),
                    };
                    return self.function(name).map(Some);
                }
                _ => {}
            }
            let start = self.pos;
            let unquoted_name = self.assignment_name();
            let word = self.word()?;
            match unquoted_name {
                Some(name) if command.argv.is_empty() => {
                    assigned = true;
                    self.assignment(&name, &word, start)?;
                }
                _ => command.argv.push(word),
            }
        }
        if command.argv.is_empty() {
            if !command.writes.is_empty() || !command.reads.is_empty() {
                self.found.push(command)?;
            } else if !assigned {
                return self.unexpected();
            }
            return Ok(None);
        }
        if command.program().is_some_and(|name| self.found.functions.contains(name)) {
            // What it executes was found where it was defined.
            command.argv.clear();
            if !command.writes.is_empty() || !command.reads.is_empty() {
                self.found.push(command)?;
            }
            return Ok(None);
        }
        let depth = self.depth;
        self.found.run(command, depth)?;
        Ok(None)
    }

    /// The name in an unquoted `NAME=`, not consumed.
    fn assignment_name(&self) -> Option<String> {
        let rest = self.src.get(self.pos..)?;
        let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_')?;
        let name = std::str::from_utf8(rest.get(..end)?).ok()?;
        (rest.get(end) == Some(&b'=') && names::identifier(name)).then(|| name.to_owned())
    }

    fn assignment(&mut self, name: &str, word: &Arg, start: usize) -> Res<()> {
        if self.peek() == Some(b'(') {
            return refuse("arrays are understood by some shells only");
        }
        // `NAME=$((…))` is a number; whatever the arithmetic itself uses is checked apart.
        let raw = self.src.get(start + name.len() + 1..self.pos).unwrap_or_default();
        if raw.starts_with(b"$((") && raw.ends_with(b"))") && !raw.get(3..).is_some_and(|r| r.contains(&b'$')) {
            return self.found.assign(name, Some("0"));
        }
        let value = word.literal().and_then(|w| w.get(name.len() + 1..));
        self.found.assign(name, value)
    }

    fn function(&mut self, name: String) -> Res<String> {
        self.pos += 1;
        self.blanks()?;
        self.expect(b')')?;
        let known = SPECIAL.contains(&name.as_str()) || BASH_ONLY.contains(&name.as_str());
        if known || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return refuse(format!("a function may not be called `{name}`"));
        }
        self.lines()?;
        if !self.at("{") && self.peek() != Some(b'(') {
            return refuse("the body of a function stands in braces");
        }
        self.deeper(Self::command)?;
        Ok(name)
    }

    /// `&>` and `&>>`: both outputs to some shells, "in the background, then" to others.
    fn both(&mut self, command: &mut Simple) -> Res<()> {
        if command.argv.is_empty() {
            return self.unexpected();
        }
        self.pos += 2;
        if self.peek() == Some(b'>') {
            self.pos += 1;
        }
        self.blanks()?;
        if !self.word_follows() {
            return self.unexpected();
        }
        let target = self.word()?;
        command.writes.push(target);
        self.blanks()?;
        while self.redirect(command)? {
            self.blanks()?;
        }
        match self.peek() {
            None | Some(b';' | b'\n' | b'|' | b')' | b'&') => Ok(()),
            _ => refuse("words after `&>` are arguments to some shells and a command to others; write `> file 2>&1`"),
        }
    }

    fn word_follows(&self) -> bool {
        match self.peek() {
            None | Some(b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'#') => false,
            Some(b'<' | b'>') => self.peek_at(1) == Some(b'('),
            _ => true,
        }
    }

    /// A redirection, where there is one.
    fn redirect(&mut self, command: &mut Simple) -> Res<bool> {
        self.blanks()?;
        let rest = self.src.get(self.pos..).unwrap_or_default();
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let Some(sign @ (b'<' | b'>')) = rest.get(digits).copied() else { return Ok(false) };
        let after = rest.get(digits + 1).copied();
        if digits == 0 && after == Some(b'(') {
            return Ok(false); // a process substitution is a word
        }
        self.pos += digits + 1;
        let (mut reads, mut writes) = (sign == b'<', sign == b'>');
        match (sign, after) {
            (b'<', Some(b'<')) => {
                self.pos += 1;
                if self.peek() == Some(b'<') {
                    self.pos += 1;
                    self.blanks()?;
                    if !self.word_follows() {
                        return self.unexpected();
                    }
                    self.word()?;
                } else {
                    self.here_tag()?;
                }
                return Ok(true);
            }
            (b'<', Some(b'>')) => {
                self.pos += 1;
                writes = true;
            }
            (b'>', Some(b'>' | b'|')) => self.pos += 1,
            (_, Some(b'&')) => {
                self.pos += 1;
                self.blanks()?;
                if !self.word_follows() {
                    return self.unexpected();
                }
                let target = self.word()?;
                let descriptor = |w: &str| w.trim_end_matches('-').bytes().all(|b| b.is_ascii_digit());
                if !target.literal().is_some_and(descriptor) {
                    if sign == b'<' {
                        return refuse("the file descriptor after `<&` cannot be told");
                    }
                    command.writes.push(target);
                }
                return Ok(true);
            }
            _ => {}
        }
        self.blanks()?;
        if !self.word_follows() {
            return self.unexpected();
        }
        let substitution = matches!(self.peek(), Some(b'<' | b'>'));
        let target = self.word()?;
        if substitution {
            (reads, writes) = (false, false);
        }
        if reads {
            command.reads.push(target.clone());
        }
        if writes {
            command.writes.push(target);
        }
        Ok(true)
    }

    fn here_tag(&mut self) -> Res<()> {
        let strip_tabs = self.peek() == Some(b'-');
        if strip_tabs {
            self.pos += 1;
        }
        self.blanks()?;
        let raw = String::from_utf8_lossy(self.upcoming()).into_owned();
        self.pos += raw.len();
        let quoted = |q: char| raw.len() > 2 && raw.starts_with(q) && raw.ends_with(q);
        let (tag, expands) = if quoted('\'') || quoted('"') {
            (raw.get(1..raw.len() - 1).unwrap_or_default(), false)
        } else if let Some(rest) = raw.strip_prefix('\\') {
            (rest, false)
        } else {
            (raw.as_str(), true)
        };
        if tag.is_empty() || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-!%+".contains(&b)) {
            return refuse("the end mark of a here-document must be a plain word, plain or quoted as a whole");
        }
        self.pending.push(HereDoc { tag: tag.to_owned(), strip_tabs, expands });
        Ok(())
    }
}
