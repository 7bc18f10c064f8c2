//! Server-sent events: bytes in, events out, however the bytes were cut.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its `event` field; empty where there is none.
    pub(super) name: String,
    /// Its `data` lines, joined with line feeds.
    pub(super) data: String,
}

/// A parser of an event stream (WHATWG HTML, 9.2.6). An event counts only once its blank line has come: what a cut
/// stream leaves behind is dropped.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_cr: bool,
    /// The first line is over: no byte order mark may come any more.
    started: bool,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// Takes the next bytes, gives the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                continue;
            }
            match byte {
                b'\n' => self.end_line(&mut events),
                b'\r' => {
                    self.after_cr = true;
                    self.end_line(&mut events);
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let bytes = std::mem::take(&mut self.line);
        let mut bytes = bytes.as_slice();
        if !std::mem::replace(&mut self.started, true) {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        if bytes.is_empty() {
            let name = std::mem::take(&mut self.name);
            if let Some(data) = self.data.take() {
                events.push(Event { name, data });
            }
            return;
        }
        // A whole line: no character is cut here.
        let line = String::from_utf8_lossy(bytes);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            "event" => value.clone_into(&mut self.name),
            // An empty field is a comment; `id` and `retry` are for browsers.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        chunks.iter().flat_map(|chunk| parser.push(chunk)).map(|event| event.data).collect()
    }

    #[test]
    fn every_line_end_comment_and_field_of_the_standard() {
        let stream = b"\xef\xbb\xbfdata: one\n\n: comment\r\ndata:two\r\ndata: lines\r\n\r\nevent: error\rdata:  x\r\rid: 7\nretry: 9\n\ndata\n\ndata: cut";
        assert_eq!(parse(&[stream]), ["one", "two\nlines", " x", ""]);
    }

    #[test]
    fn an_event_has_the_name_that_stands_before_its_data() {
        let events = Parser::default().push(b"event: error\ndata: {}\n\ndata: 1\n\n");
        assert_eq!(events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["error", ""]);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(cuts in proptest::collection::vec(0usize..60, 0..6)) {
            let stream = "data: größe ✓\r\n\r\n: ping\n\ndata: a\ndata: 🦀b\n\ndata: [DONE]\n\n".as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&chunks), parse(&[stream]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&[&bytes]);
        }
    }
}
