//! Numbers that would change unseen.

/// The first integer in a JSON text that fits neither a signed nor an unsigned number of 64 bits: read
/// as a value it would become the nearest floating-point number. Numbers with a fraction or an exponent
/// are floating-point numbers already. What is no JSON has none.
#[must_use]
pub fn integer_beyond_64_bits(json: &str) -> Option<&str> {
    let bytes = json.as_bytes();
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'"' => index = behind_string(bytes, index + 1),
            b'-' | b'0'..=b'9' => {
                let is_part =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = bytes[index..]
                    .iter()
                    .take_while(|byte| is_part(byte))
                    .count();
                let number = &json[index..index + length];
                if is_beyond(number) {
                    return Some(number);
                }
                index += length;
            }
            _ => index += 1,
        }
    }
    None
}

/// The place behind the string whose inside begins at `index`.
fn behind_string(bytes: &[u8], mut index: usize) -> usize {
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'"' => return index + 1,
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    index
}

fn is_beyond(number: &str) -> bool {
    // 18 digits always fit.
    number.len() > 18
        && !number.contains(['.', 'e', 'E'])
        && number.parse::<u64>().is_err()
        && number.parse::<i64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::integer_beyond_64_bits as beyond;

    #[test]
    fn integers_that_would_change_are_found() {
        for kept in [
            r#"{"a": 18446744073709551615, "b": -9223372036854775808, "c": [0, -1, 1e300]}"#,
            r#"{"a": 0.12345678901234567890, "18446744073709551616": "18446744073709551616"}"#,
            r#"{"a": "\\", "b": "\"99999999999999999999"}"#,
            "",
            "\"torn \\",
        ] {
            assert_eq!(beyond(kept), None, "{kept}");
        }
        let big = "18446744073709551616";
        assert_eq!(beyond(&format!(r#"{{"a": ["\"", {big}]}}"#)), Some(big));
        assert_eq!(
            beyond("[-9223372036854775809]"),
            Some("-9223372036854775809")
        );
    }
}
