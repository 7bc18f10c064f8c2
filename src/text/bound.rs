//! Bounded text: the head and the tail survive, the middle goes.

/// Collects text and keeps the first and last halves of it, within a limit in bytes.
#[derive(Debug, Clone)]
pub struct Capped {
    limit: usize,
    head: String,
    head_full: bool,
    tail: String,
    dropped: u64,
}

impl Capped {
    /// A collector that keeps at most `limit` bytes (the marker for what was dropped comes on top).
    pub fn new(limit: usize) -> Self {
        Self { limit, head: String::new(), head_full: false, tail: String::new(), dropped: 0 }
    }

    /// Adds text at the end.
    pub fn push(&mut self, text: &str) {
        let mut rest = text;
        if !self.head_full {
            let room = (self.limit / 2).saturating_sub(self.head.len());
            let cut = rest.floor_char_boundary(room);
            let (now, later) = rest.split_at(cut);
            self.head.push_str(now);
            self.head_full = !later.is_empty();
            rest = later;
        }
        self.tail.push_str(rest);
        // Trimmed only now and then, so that many small chunks stay cheap.
        if self.tail.len() > self.limit.saturating_mul(2).saturating_add(4096) {
            self.trim();
        }
    }

    /// How many bytes are dropped by now.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.tail.len().saturating_sub(self.tail_room()) as u64
    }

    /// The text, with a line `… N bytes dropped …` where something is missing, and how many bytes are.
    pub fn finish(mut self) -> (String, u64) {
        self.trim();
        if self.dropped == 0 {
            self.head.push_str(&self.tail);
            return (self.head, 0);
        }
        let before = if self.head.is_empty() || self.head.ends_with('\n') { "" } else { "\n" };
        let after = if self.tail.is_empty() || self.tail.starts_with('\n') { "" } else { "\n" };
        (format!("{}{before}… {} bytes dropped …{after}{}", self.head, self.dropped, self.tail), self.dropped)
    }

    fn tail_room(&self) -> usize {
        self.limit.saturating_sub(self.head.len())
    }

    fn trim(&mut self) {
        let surplus = self.tail.len().saturating_sub(self.tail_room());
        if surplus > 0 {
            let cut = self.tail.ceil_char_boundary(surplus);
            self.tail.drain(..cut);
            self.dropped += cut as u64;
        }
    }
}

/// `text` cut to `bytes` bytes in its middle, on character boundaries, with a line that says how many bytes are gone.
/// A text that fits is returned as it is.
pub fn cap(text: &str, bytes: usize) -> String {
    let mut capped = Capped::new(bytes);
    capped.push(text);
    capped.finish().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn head_and_tail_stay() {
        assert_eq!(cap("short", 100), "short");
        assert_eq!(cap("0123456789", 10), "0123456789");
        assert_eq!(cap("0123456789abcdefghij", 10), "01234\n… 10 bytes dropped …\nfghij");
        assert_eq!(cap("ééééé", 5), "é\n… 6 bytes dropped …\né");
        assert_eq!(cap("abc", 0), "… 3 bytes dropped …");
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(parts in prop::collection::vec(".{0,40}", 0..20), limit in 0usize..200) {
            let whole = parts.concat();
            let mut capped = Capped::new(limit);
            for part in &parts {
                capped.push(part);
            }
            let (text, dropped) = capped.finish();
            prop_assert_eq!(&text, &cap(&whole, limit));
            prop_assert!(whole.len() as u64 - dropped <= limit as u64);
            prop_assert_eq!(dropped == 0, whole.len() <= limit);
        }

        #[test]
        fn a_flood_is_held_in_bounded_memory(count in 1usize..300) {
            let mut capped = Capped::new(64);
            for _ in 0..count {
                capped.push(&"x".repeat(997));
            }
            let dropped = capped.dropped();
            prop_assert!(capped.tail.capacity() < 64 * 1024);
            prop_assert_eq!(capped.finish().1, dropped);
            prop_assert_eq!(dropped, (count * 997 - 64) as u64);
        }
    }
}
