//! Who is who: accounts, mail addresses, people as trailers of commits name them.

/// Whether a text can be an account's name on a forge, or `organisation/team`.
pub fn is_account(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./[]".contains(c);
    let name = text.strip_suffix("[bot]").unwrap_or(text);
    (1..=200).contains(&text.len())
        && text.chars().all(plain)
        && !name.contains(['[', ']'])
        && !text.starts_with(['/', '-', '.'])
        && !text.ends_with('/')
}

/// Whether a text is a mail address, as far as a commit's trailer needs to know.
pub fn is_mail(text: &str) -> bool {
    let Some((name, host)) = text.split_once('@') else { return false };
    let plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with(['.', '-'])
            && !text.ends_with('.')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._%+-[]".contains(c))
    };
    text.len() <= 254 && plain(name) && plain(host) && !host.contains(['[', ']', '%', '+'])
}

/// Whether a text is a person as a trailer names one: `Name <name@example.com>`.
pub fn is_person(text: &str) -> bool {
    let Some((name, rest)) = text.split_once(" <") else { return false };
    let Some(address) = rest.strip_suffix('>') else { return false };
    let plain = |c: char| !c.is_control() && !"<>\"@:#".contains(c);
    let sound =
        !name.trim().is_empty() && name.trim() == name && name.chars().count() <= 100 && name.chars().all(plain);
    sound && super::invisible(name) == name && is_mail(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_has_a_name_and_an_address() {
        assert!(is_person("Ann Example <ann@example.com>") && is_person("app <1+app[bot]@users.noreply.github.com>"));
        for bad in [
            "Ann",
            "<ann@example.com>",
            "Ann <ann>",
            "Ann <ann@example.com> x",
            "A\nSigned-off-by: E <e@example.com>",
            "A <a@b\nc>",
            "A@b <a@b.c>",
            "A\u{200b} <a@b.c>",
        ] {
            assert!(!is_person(bad), "{bad:?}");
        }
    }
}
