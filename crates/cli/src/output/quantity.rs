//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 text`, `2 texts`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Bytes in decimal units, as disks and networks count: `25.7 MB`.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A time span: `4.2 ms`, `1.3 s`, `2 min 5 s`.
pub(crate) fn seconds(value: f64) -> String {
    if value < 0.001 {
        format!("{:.2} ms", value * 1e3)
    } else if value < 1.0 {
        format!("{:.1} ms", value * 1e3)
    } else if value < 60.0 {
        format!("{value:.1} s")
    } else {
        format!("{:.0} min {:.0} s", (value / 60.0).floor(), value % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn nouns_agree_with_their_count() {
        assert_eq!(counted(1, "text"), "1 text");
        assert_eq!(counted(1200, "text"), "1,200 texts");
    }

    #[test]
    fn bytes_never_show_a_thousand_of_a_unit() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(25_700_000), "25.7 MB");
    }

    #[test]
    fn times_have_the_unit_that_suits() {
        assert_eq!(seconds(0.00042), "0.42 ms");
        assert_eq!(seconds(0.0042), "4.2 ms");
        assert_eq!(seconds(125.0), "2 min 5 s");
    }
}
