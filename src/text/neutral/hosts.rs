//! Where links in our text may lead.

/// Hosts that links and images may lead to; everything else is foreign.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// These, whatever their port.
    pub fn of<S: AsRef<str>>(hosts: &[S]) -> Self {
        let mut all = Self::default();
        hosts.iter().for_each(|host| all.add(host.as_ref()));
        all
    }

    /// One more.
    pub fn add(&mut self, host: &str) {
        let host = host.trim().to_lowercase();
        if !host.is_empty() {
            self.0.push(host);
        }
    }

    /// The host that an address leads to, for people, where it must not; `None`: it may, or it stays in the repository.
    pub(super) fn foreign(&self, address: &str) -> Option<String> {
        let address = address.trim();
        // Browsers take a backslash for a slash, and leave line ends out.
        if address.contains('\\') || address.chars().any(char::is_control) {
            return Some("somewhere".to_owned());
        }
        let end = address.find(['/', '?', '#']).unwrap_or(address.len());
        let scheme = address.get(..end).and_then(|head| head.split_once(':')).map(|(scheme, _)| scheme.to_lowercase());
        let rest = match scheme.as_deref() {
            Some("http" | "https") => match address.split_once("//") {
                Some((_, rest)) => rest,
                None => return Some("somewhere".to_owned()),
            },
            Some(other) => return Some(format!("{}:", shown(other))),
            None => address.strip_prefix("//")?,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (named, host) = match authority.rsplit_once('@') {
            Some((_, host)) => (true, host),
            None => (false, authority),
        };
        let host = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(host, _)| host);
        let host = host.to_lowercase();
        // A name before the host is there to deceive.
        (named || !self.0.contains(&host)).then(|| shown(&host))
    }
}

/// A host as it may be shown: nothing of a path, and nothing that is not a host's.
fn shown(host: &str) -> String {
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).take(60).collect();
    if host.is_empty() { "somewhere".to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    #[test]
    fn only_named_hosts_are_ours() {
        let hosts = Hosts::of(&["Forge.example"]);
        for ours in
            ["https://forge.example/a", "http://FORGE.example:8443", "//forge.example/x", "#a", "a/b.md", "/a", "?x"]
        {
            assert_eq!(hosts.foreign(ours), None, "{ours}");
        }
        for foreign in [
            "https://evil.example",
            "https://forge.example.evil.example",
            "https://forge.example@evil.example",
            "//evil.example",
            "/\\evil.example",
            "javascript:x",
            "data:text/html,x",
            "mailto:a@b",
            "https:evil.example",
            "https://forge.example\\@evil",
        ] {
            assert!(hosts.foreign(foreign).is_some(), "{foreign}");
        }
    }
}
