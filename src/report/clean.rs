//! Untrusted text on its way to a terminal or a CI log: one line, nothing unseen, no workflow commands.

use unicode_width::UnicodeWidthChar;

/// `text` as one line of at most `width` columns: control sequences and unseen characters gone, white space
/// collapsed, workflow commands of CI systems (`::x::`, `##[`) broken up.
pub(super) fn line(text: &str, width: usize) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip(&mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            c if c.is_whitespace() => {
                if !plain.is_empty() && !plain.ends_with(' ') {
                    plain.push(' ');
                }
            }
            c if c.is_control() || unseen(c) => {}
            c => plain.push(c),
        }
    }
    let inert = plain.trim_end().replace("##[", "# #[").replace("##vso[", "# #vso[");
    let inert = match inert.strip_prefix("::") {
        Some(rest) => format!(": :{rest}"),
        None => inert.replace(" ::", " : :"),
    };
    cap(&inert, width)
}

/// At most `width` columns, with `…` where something was left out.
fn cap(text: &str, width: usize) -> String {
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > width.saturating_sub(1) && unicode_width::UnicodeWidthStr::width(text) > width {
            out.push('…');
            return out;
        }
        used += wide;
        out.push(c);
    }
    out
}

fn unseen(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Skips the rest of an escape sequence.
fn skip(chars: &mut std::str::Chars<'_>) {
    match chars.next() {
        Some('[') => skip_csi(chars),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if matches!(c, '\u{7}' | '\u{9c}' | '\n') {
                    return;
                }
                if c == '\u{1b}' {
                    chars.next();
                    return;
                }
            }
        }
        _ => {}
    }
}

fn skip_csi(chars: &mut std::str::Chars<'_>) {
    for c in chars.by_ref() {
        if matches!(c, '@'..='~' | '\n') {
            return;
        }
    }
}
