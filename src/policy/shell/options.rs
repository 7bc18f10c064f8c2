//! Where the options of a wrapper end and the command that it runs begins.

use super::{Arg, Unparsable, refuse};

/// The options that a program is known to take. Anything else is refused: it may shift what is executed.
#[derive(Default, Clone, Copy)]
pub(super) struct Spec {
    /// Letters without a value.
    pub flags: &'static str,
    /// Letters with a value, joined or in the next word.
    pub values: &'static str,
    /// Letters whose value, if any, is joined.
    pub optional: &'static str,
    /// Words after `--` without a value (or with an optional joined one).
    pub long_flags: &'static [&'static str],
    /// Words after `--` with a value.
    pub long_values: &'static [&'static str],
    /// `-5` is an option.
    pub numbers: bool,
}

/// The index of the first operand, which may be past the end.
pub(super) fn operand(argv: &[Arg], spec: &Spec) -> Result<usize, Unparsable> {
    let mut at = 1;
    while let Some(arg) = argv.get(at) {
        let Some(text) = arg.literal() else {
            return refuse(format!("an option of `{}` is only known when it runs", program(argv)));
        };
        if text == "--" {
            return Ok(at + 1);
        }
        let unknown = || refuse(format!("the option `{text}` of `{}` is not known here", program(argv)));
        if let Some(long) = text.strip_prefix("--") {
            let (name, joined) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            if spec.long_flags.contains(&name) {
                at += 1;
            } else if spec.long_values.contains(&name) {
                at += if joined { 1 } else { 2 };
            } else {
                return unknown();
            }
            continue;
        }
        let Some(letters) = text.strip_prefix('-').filter(|l| !l.is_empty()) else { return Ok(at) };
        if spec.numbers && letters.bytes().all(|b| b.is_ascii_digit()) {
            at += 1;
            continue;
        }
        let mut next = 1;
        for (index, letter) in letters.char_indices() {
            let last = index + letter.len_utf8() == letters.len();
            if spec.flags.contains(letter) {
                continue;
            }
            if spec.optional.contains(letter) {
                break;
            }
            if !spec.values.contains(letter) {
                return unknown();
            }
            if last {
                next = 2;
            }
            break;
        }
        at += next;
    }
    Ok(at)
}

fn program(argv: &[Arg]) -> &str {
    argv.first().map_or("", Arg::prefix)
}
