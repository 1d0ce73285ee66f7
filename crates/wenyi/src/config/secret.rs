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

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
