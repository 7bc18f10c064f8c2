//! Our own words on a forge: they must not act on anybody. See `neutral`.
/// x
pub struct Hosts;
/// x
pub fn neutral(text: &str, _: &Hosts) -> String {
    text.into()
}
/// x
pub fn neutral_plain(text: &str) -> String {
    text.into()
}
