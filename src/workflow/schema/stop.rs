//! Termination conditions: `max_steps(50) or cost_above(5) or text_mentions('DONE') or timeout('30m') or stalled()`.
//! `and` binds tighter than `or`; parentheses group.

use super::values::duration_ms;
use crate::model::policy::Stop;

/// What is wrong with a condition, and where in its text (in characters, from 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopError {
    /// In words.
    pub message: String,
    /// Character, from 0.
    pub column: usize,
}

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 16;

/// Parses a termination condition.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Stop, StopError> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0 };
    let stop = parser.any(0)?;
    parser.space();
    match parser.peek() {
        None => Ok(stop),
        Some(c) => Err(parser.error(format!("expected `and`, `or` or the end, not `{c}`"))),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    fn error(&self, message: impl Into<String>) -> StopError {
        StopError { message: message.into(), column: self.at }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn word(&mut self) -> String {
        self.space();
        let word: String =
            self.chars.iter().skip(self.at).take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
        self.at += word.len();
        word
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let before = self.at;
        let found = self.word() == keyword;
        if !found {
            self.at = before;
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), StopError> {
        self.space();
        if self.peek() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(format!("expected `{wanted}`")))
    }

    fn any(&mut self, depth: usize) -> Result<Stop, StopError> {
        let mut parts = vec![self.all(depth)?];
        while self.keyword("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Stop::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Stop, StopError> {
        let mut parts = vec![self.one(depth)?];
        while self.keyword("and") {
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Stop::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Stop, StopError> {
        self.space();
        if self.peek() == Some('(') {
            if depth >= MAX_DEPTH {
                return Err(self.error("too many parentheses"));
            }
            self.at += 1;
            let inner = self.any(depth + 1)?;
            self.expect(')')?;
            return Ok(inner);
        }
        let start = self.at;
        let name = self.word();
        let known = ["max_steps", "cost_above", "text_mentions", "timeout", "stalled"];
        if !known.contains(&name.as_str()) {
            self.at = start;
            let said = if name.is_empty() { "nothing".into() } else { format!("`{name}`") };
            return Err(self.error(format!("expected one of {}, not {said}", known.join(", "))));
        }
        self.expect('(')?;
        let stop = match name.as_str() {
            "max_steps" => Stop::MaxTurns(self.number()?.parse().map_err(|_| self.error("expected a whole number"))?),
            "cost_above" => {
                let usd: f64 = self.number()?.parse().map_err(|_| self.error("expected a number of US dollars"))?;
                Stop::CostAbove(usd)
            }
            "text_mentions" => Stop::TextMentions(self.quoted()?),
            "timeout" => Stop::Timeout({
                let before = self.at;
                let text = self.quoted()?;
                duration_ms(&text).map_err(|message| StopError { message, column: before })?
            }),
            _ => Stop::Stalled,
        };
        self.expect(')')?;
        Ok(stop)
    }

    fn number(&mut self) -> Result<String, StopError> {
        self.space();
        let text: String = self.chars.iter().skip(self.at).take_while(|c| c.is_ascii_digit() || **c == '.').collect();
        if text.is_empty() {
            return Err(self.error("expected a number"));
        }
        self.at += text.len();
        Ok(text)
    }

    fn quoted(&mut self) -> Result<String, StopError> {
        self.space();
        let Some(quote @ ('\'' | '"')) = self.peek() else {
            return Err(self.error("expected text in quotes"));
        };
        let text: String = self.chars.iter().skip(self.at + 1).take_while(|c| **c != quote).collect();
        let end = self.at + 1 + text.chars().count();
        if self.chars.get(end) != Some(&quote) || text.is_empty() {
            return Err(self.error("this text is empty, or its closing quote is missing"));
        }
        self.at = end + 1;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn and_binds_tighter_than_or() {
        let stop = parse("max_steps(50) or cost_above(5) and stalled() or (timeout('30m') or text_mentions(\"DONE\"))");
        let expected = Stop::Any(vec![
            Stop::MaxTurns(50),
            Stop::All(vec![Stop::CostAbove(5.0), Stop::Stalled]),
            Stop::Any(vec![Stop::Timeout(1_800_000), Stop::TextMentions("DONE".into())]),
        ]);
        assert_eq!(stop, Ok(expected));
    }

    #[test]
    fn mistakes_are_placed() {
        let at = |text: &str| parse(text).map_err(|e| e.column);
        assert_eq!(at(""), Err(0));
        assert_eq!(at("max_step(5)"), Err(0));
        assert_eq!(at("stalled() xor stalled()"), Err(10));
        assert_eq!(at("timeout(30m)"), Err(8));
        assert_eq!(at("(stalled()"), Err(10));
        assert_eq!(at(&"(".repeat(100_000)), Err(16));
        assert_eq!(at("text_mentions('é"), Err(14));
    }
}
