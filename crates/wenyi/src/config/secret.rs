//! A key that cannot be shown by accident.

use std::fmt;

/// Stands where a key was.
const REDACTED: &str = "[redacted]";

/// Shorter than this, a key is no secret, and scrubbing it would tear words apart.
const SHORTEST_SCRUBBED: usize = 6;

/// A key or token. `Debug` shows nothing of it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key; white space around it, a slip of copying, is cut off.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key.trim().to_owned())
    }

    /// The key itself, to be sent and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the key: some providers repeat it in their messages.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        if self.0.len() < SHORTEST_SCRUBBED {
            return text.to_owned();
        }
        text.replace(&self.0, REDACTED)
    }
}

impl From<&str> for Secret {
    fn from(key: &str) -> Self {
        Self::new(key)
    }
}

impl From<String> for Secret {
    fn from(key: String) -> Self {
        Self::new(&key)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// `url` without the name and password that may stand before its host.
pub(crate) fn without_userinfo(url: &str) -> String {
    split_userinfo(url).0
}

/// `url` without what stands before its host, and that: `name:password`, as written. All before the
/// last `@` of a URL whose host cannot be told is taken for it: a slip shows no password either.
pub(crate) fn split_userinfo(url: &str) -> (String, Option<&str>) {
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + 3),
        None => ("", url),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let port = authority.rsplit(':').next().unwrap_or(authority);
    let has_odd_port = authority.contains(':')
        && !authority.ends_with(']')
        && !port.bytes().all(|byte| byte.is_ascii_digit());
    let searched = if has_odd_port || scheme.is_empty() {
        rest
    } else {
        authority
    };
    match searched.rfind('@') {
        Some(at) => (format!("{scheme}{}", &rest[at + 1..]), Some(&rest[..at])),
        None => (url.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_told_from_the_rest_of_a_url() {
        for (url, clean, userinfo) in [
            ("http://a:b@host:1/v1", "http://host:1/v1", Some("a:b")),
            ("https://token@host/v1", "https://host/v1", Some("token")),
            ("http://a:p@ss@host/v1", "http://host/v1", Some("a:p@ss")),
            ("http://a:p/ss@host/v1", "http://host/v1", Some("a:p/ss")),
            ("a:b@host/v1", "host/v1", Some("a:b")),
            ("http://host:1/@cf/v1", "http://host:1/@cf/v1", None),
            ("http://[::1]:8000/v1", "http://[::1]:8000/v1", None),
            ("http://[::1]/@x", "http://[::1]/@x", None),
            ("", "", None),
        ] {
            assert_eq!(split_userinfo(url), (clean.to_owned(), userinfo), "{url}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new(" sk-秘密-123 \n");
        assert_eq!(secret.expose(), "sk-秘密-123");
        assert_eq!(format!("{:?}", Some(&secret)), "Some([redacted])");
        let said = secret.scrub("incorrect key: sk-秘密-123, not `sk-秘密-123`");
        assert_eq!(said, "incorrect key: [redacted], not `[redacted]`");
    }

    #[test]
    fn what_is_hardly_a_key_tears_no_words() {
        assert_eq!(Secret::new("a").scrub("a banana"), "a banana");
        assert_eq!(Secret::new("").scrub("text"), "text");
    }
}
