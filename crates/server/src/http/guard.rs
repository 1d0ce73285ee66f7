//! Who may ask.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::call::Client;
use crate::options::ServerOptions;
use crate::problem::Problem;

/// Headers that carry a key as it is.
static KEY_HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// The keys, hashed, so that a comparison tells nothing by its time, not even a length.
#[derive(Debug)]
pub(super) struct Guard {
    keys: Vec<[u8; 32]>,
    /// For numbers of clients that cannot be chosen by them.
    hasher: RandomState,
}

impl Guard {
    pub(super) fn new(options: &ServerOptions) -> Self {
        Self {
            keys: options
                .keys
                .iter()
                .map(|key| hash(key.expose().as_bytes()))
                .collect(),
            hasher: RandomState::new(),
        }
    }

    /// Who asks, by key or by address.
    ///
    /// # Errors
    ///
    /// If keys are needed and none of ours came; or if none are needed and the request is meant
    /// for another host, as a page in the user's browser can arrange by rebinding a DNS name.
    pub(super) fn admit(&self, headers: &HeaderMap, peer: SocketAddr) -> Result<Client, Problem> {
        if self.keys.is_empty() {
            check_host(headers)?;
            return Ok(Client(self.hasher.hash_one(peer.ip())));
        }
        let given = key(headers).ok_or(Problem::Key { given: false })?;
        let given = hash(given);
        // All keys are compared, so that the time does not tell which one matched.
        let compare = |found: Choice, key: &[u8; 32]| found | key.ct_eq(&given);
        let found = self.keys.iter().fold(Choice::from(0), compare);
        if !bool::from(found) {
            return Err(Problem::Key { given: true });
        }
        Ok(Client(self.hasher.hash_one(given)))
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        return scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| key.trim_ascii());
    }
    let mut named = KEY_HEADERS.iter().filter_map(|name| headers.get(name));
    named.next().map(|value| value.as_bytes())
}

fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(host) = headers.get(HOST) else {
        return Ok(());
    };
    let host = String::from_utf8_lossy(host.as_bytes());
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = (name.parse::<std::net::IpAddr>()).is_ok_and(|address| address.is_loopback());
    // Names of hosts have no case.
    let name = name.to_ascii_lowercase();
    if is_loopback || name == "localhost" || name.ends_with(".localhost") {
        return Ok(());
    }
    Err(Problem::Host {
        host: host.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(keys: &[&str]) -> Guard {
        Guard::new(&ServerOptions {
            keys: keys.iter().map(|key| (*key).into()).collect(),
            ..ServerOptions::default()
        })
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        pairs.collect()
    }

    const PEER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn any_of_the_keys_opens_in_any_header() {
        let guard = guard(&["one", "密钥-two"]);
        for accepted in [
            ("authorization", "Bearer one"),
            ("authorization", "bearer  one "),
            ("x-api-key", "one"),
            ("api-key", "密钥-two"),
        ] {
            assert!(
                guard.admit(&headers(&[accepted]), PEER).is_ok(),
                "{accepted:?}"
            );
        }
        for refused in [
            ("authorization", "Bearer on"),
            ("authorization", "Bearer onee"),
            ("authorization", "Basic one"),
            ("authorization", "one"),
            ("authorization", ""),
            ("x-api-key", ""),
        ] {
            assert!(
                guard.admit(&headers(&[refused]), PEER).is_err(),
                "{refused:?}"
            );
        }
        assert!(guard.admit(&headers(&[]), PEER).is_err());
    }

    #[test]
    fn keys_are_clients_of_their_own() {
        let guard = guard(&["one", "two"]);
        let client = |key: &str| guard.admit(&headers(&[("x-api-key", key)]), PEER).unwrap();
        assert_eq!(client("one"), client("one"));
        assert_ne!(client("one"), client("two"));
    }

    #[test]
    fn without_keys_only_loopback_names_are_answered() {
        let guard = guard(&[]);
        for host in [
            "localhost",
            "localhost:8000",
            "LocalHost:8000",
            "127.0.0.1:1",
            "[::1]:8000",
            "a.localhost",
        ] {
            assert!(
                guard.admit(&headers(&[("host", host)]), PEER).is_ok(),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "10.0.0.1",
        ] {
            assert!(
                guard.admit(&headers(&[("host", host)]), PEER).is_err(),
                "{host}"
            );
        }
    }
}
