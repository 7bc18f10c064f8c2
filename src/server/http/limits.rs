//! How much one source may ask, and who it is.

use crate::model::serve::{Limits, Network};
use axum::http::HeaderMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sources that are remembered at most; then those that may ask as much as any are forgotten.
const SOURCES: usize = 10_000;

/// Who asks: the peer, or whom our own proxies say they speak for. Of a list the last one counts that is no proxy of
/// ours: what stands before it anybody can write.
pub(super) fn source(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let ours = |address: IpAddr| proxies.iter().any(|proxy| proxy.holds(address));
    if !ours(peer) {
        return peer.to_canonical();
    }
    let said = headers.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
    let said: Vec<&str> = said.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut nearest = peer;
    for text in said.into_iter().rev() {
        let Ok(address) = text.parse::<IpAddr>() else { break };
        nearest = address;
        if !ours(address) {
            break;
        }
    }
    nearest.to_canonical()
}

/// A bucket of tokens: each request takes one, and they come back with time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A bucket for each source.
#[derive(Default)]
pub(super) struct Buckets(Mutex<HashMap<IpAddr, Bucket>>);

impl Buckets {
    /// Takes a token.
    ///
    /// # Errors
    /// There is none: how long until there is one.
    pub(super) fn take(&self, source: IpAddr, now: Instant, limits: &Limits) -> Result<(), Duration> {
        let (rate, most) = (limits.per_second, f64::from(limits.burst));
        let filled = |bucket: &Bucket| {
            let since = now.saturating_duration_since(bucket.at).as_secs_f64();
            since.mul_add(rate, bucket.tokens).min(most)
        };
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SOURCES && !buckets.contains_key(&source) {
            buckets.retain(|_, bucket| filled(bucket) < most);
            // All of them are busy: whoever comes now shares a bucket with nobody, and is remembered as soon as one rests.
            if buckets.len() >= SOURCES {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(source).or_insert(Bucket { tokens: most, at: now });
        bucket.tokens = filled(bucket);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(((1.0 - bucket.tokens) / rate).clamp(0.0, 3600.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn limits(per_second: f64, burst: u32) -> Limits {
        Limits {
            body: 1,
            header_ms: 1,
            body_ms: 1,
            connections: 1,
            per_second,
            burst,
            per_repository: 1,
            workers: 1,
            run_ms: 1,
        }
    }

    #[test]
    fn tokens_come_back_with_time_and_sources_do_not_meet() {
        let (buckets, start) = (Buckets::default(), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let limits = limits(2.0, 3);
        let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
        for _ in 0..3 {
            assert_eq!(buckets.take(one, start, &limits), Ok(()));
        }
        assert_eq!(buckets.take(one, start, &limits), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take(other, start, &limits), Ok(()));
        assert_eq!(buckets.take(one, after(0.6), &limits), Ok(()));
        assert!(buckets.take(one, after(0.7), &limits).is_err());
        for _ in 0..3 {
            assert_eq!(buckets.take(one, after(100.0), &limits), Ok(()), "no more than the burst is saved up");
        }
        assert!(buckets.take(one, after(100.0), &limits).is_err());
    }

    #[test]
    fn only_our_own_proxies_are_believed() {
        let proxies = [Network::parse("10.0.0.0/8").unwrap()];
        let asks = |peer: &str, said: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            source(peer.parse().unwrap(), &headers, &proxies).to_string()
        };
        assert_eq!(asks("203.0.113.9", &["198.51.100.1"]), "203.0.113.9", "anybody can write this header");
        assert_eq!(asks("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(asks("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(asks("10.0.0.1", &["1.1.1.1", "198.51.100.1"]), "198.51.100.1");
        assert_eq!(asks("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(asks("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(asks("::ffff:10.0.0.1", &["::ffff:198.51.100.1"]), "198.51.100.1");
    }
}
