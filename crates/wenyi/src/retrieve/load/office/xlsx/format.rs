//! Number formats (ECMA-376, part 1, 18.8.31): `25.0%`, `€4,200.50` and `01234` as a sheet shows
//! them. Dates are written elsewhere, the same in every sheet.

use super::number;

/// Decimals and digits that a format may ask for.
const MOST_DIGITS: usize = 30;

/// The value as the format shows it; `None` if it is shown in general form, or the format is one
/// that is not known here, such as fractions.
pub(super) fn shown(value: f64, code: &str) -> Option<String> {
    if code.is_empty() || code.eq_ignore_ascii_case("general") || !value.is_finite() {
        return None;
    }
    let sections = sections(code)?;
    let negative = value < 0.0 && sections.len() > 1;
    let section = match value {
        _ if negative => &sections[1],
        _ if value == 0.0 && sections.len() > 2 => &sections[2],
        _ => &sections[0],
    };
    let mut text = Layout::of(section)?.write(value.abs())?;
    // A section of its own for negative numbers says how they are told.
    if value < 0.0 && !negative && text.contains(|c: char| c.is_ascii_digit() && c != '0') {
        text.insert(0, '-');
    }
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `0`, `#` or `?`.
    Digit(char),
    Point,
    Comma,
    Percent,
    /// The exponent of a scientific number.
    Exponent,
    General,
}

/// The tokens of the sections for positive numbers, negative ones and zero.
fn sections(code: &str) -> Option<Vec<Vec<Token>>> {
    let mut sections = vec![Vec::new()];
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        let num_sections = sections.len();
        let Some(section) = sections.last_mut() else {
            break;
        };
        match c {
            // The fourth is for texts.
            ';' if num_sections == 3 => break,
            ';' => sections.push(Vec::new()),
            '"' => section.extend(chars.by_ref().take_while(|&c| c != '"').map(Token::Literal)),
            '\\' => section.extend(chars.next().map(Token::Literal)),
            // A blank as wide as the next character, and one that fills the cell.
            '_' | '*' => {
                chars.next();
                section.push(Token::Literal(' '));
            }
            '[' => {
                let inner: String = chars.by_ref().take_while(|&c| c != ']').collect();
                // A condition chooses the section by more than the sign.
                if inner.starts_with(['<', '>', '=']) {
                    return None;
                }
                if let Some(symbol) = inner.strip_prefix('$') {
                    let symbol = symbol.split('-').next().unwrap_or_default();
                    section.extend(symbol.chars().map(Token::Literal));
                }
            }
            '0' | '#' | '?' => section.push(Token::Digit(c)),
            '.' => section.push(Token::Point),
            ',' => section.push(Token::Comma),
            '%' => section.push(Token::Percent),
            'E' | 'e' if matches!(chars.peek(), Some('+' | '-')) => {
                chars.next();
                section.push(Token::Exponent);
            }
            'G' | 'g' => {
                let word: String = chars.by_ref().take("eneral".len()).collect();
                if !word.eq_ignore_ascii_case("eneral") {
                    return None;
                }
                section.push(Token::General);
            }
            // Fractions, dates, and the place of a text.
            '/' | '@' | 'y' | 'm' | 'd' | 'h' | 's' | 'Y' | 'M' | 'D' | 'H' | 'S' => return None,
            other => section.push(Token::Literal(other)),
        }
    }
    Some(sections)
}

/// A section, taken apart.
struct Layout<'a> {
    /// Up to the point.
    whole: &'a [Token],
    /// Behind the point, up to the exponent.
    fraction: &'a [Token],
    /// Behind the exponent.
    exponent: Option<&'a [Token]>,
    /// Thousands are set apart.
    grouped: bool,
    /// The power of ten that the value is multiplied with.
    scale: i32,
}

impl<'a> Layout<'a> {
    fn of(section: &'a [Token]) -> Option<Self> {
        let is_digit = |token: &Token| matches!(token, Token::Digit(_));
        if section.iter().filter(|token| is_digit(token)).count() > MOST_DIGITS {
            return None;
        }
        let (number, exponent) = match section.iter().position(|&token| token == Token::Exponent) {
            Some(at) => (&section[..at], Some(&section[at + 1..])),
            None => (section, None),
        };
        let point = number.iter().position(|&token| token == Token::Point);
        let (whole, fraction) = number.split_at(point.unwrap_or(number.len()));
        let first = whole.iter().position(is_digit);
        let last = whole.iter().rposition(is_digit);
        if first.is_none() && fraction.iter().any(is_digit) {
            return None;
        }
        let is_comma = |token: &&Token| **token == Token::Comma;
        let (inside, behind) = match (first, last) {
            (Some(first), Some(last)) => (&whole[first..last], &whole[last..]),
            _ => (&whole[..0], &whole[..0]),
        };
        // Commas behind the last digit are thousands that are not shown.
        let commas = behind.iter().chain(fraction).filter(is_comma);
        let thousands = i32::try_from(commas.count()).ok()?;
        let percents = section.iter().filter(|&&token| token == Token::Percent);
        let hundreds = i32::try_from(percents.count()).ok()?;
        Some(Self {
            whole,
            fraction: fraction.get(1..).unwrap_or_default(),
            exponent,
            grouped: inside.iter().any(|token| is_comma(&token)),
            scale: 2 * hundreds - 3 * thousands,
        })
    }

    fn write(&self, value: f64) -> Option<String> {
        let value = value * 10_f64.powi(self.scale);
        let is_digit = |token: &&Token| matches!(token, Token::Digit(_));
        let decimals = self.fraction.iter().filter(is_digit).count();
        let (value, exponent) = match self.exponent {
            Some(_) => {
                let text = format!("{value:.decimals$e}");
                let (mantissa, exponent) = text.split_once('e')?;
                (mantissa.parse().ok()?, exponent.parse::<i32>().ok()?)
            }
            None => (value, 0),
        };
        let general = number(value);
        let digits = format!("{:.decimals$}", half_up(value, decimals));
        let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
        let mut out = self.write_whole(whole, &general);
        self.write_fraction(fraction, &mut out);
        if let Some(tokens) = self.exponent {
            let sign = if exponent < 0 { '-' } else { '+' };
            let width = tokens.iter().filter(is_digit).count();
            out.push_str(&format!("E{sign}{:0width$}", exponent.abs()));
            out.extend(tokens.iter().filter_map(literal));
        }
        Some(out)
    }

    /// From the right: each place takes a digit, the first all that are left.
    fn write_whole(&self, digits: &str, general: &str) -> String {
        let places = self.whole.iter();
        let mut places = places
            .filter(|token| matches!(token, Token::Digit(_)))
            .count();
        let mut digits: Vec<char> = match digits {
            "0" => Vec::new(),
            digits => digits.chars().collect(),
        };
        let mut reversed: Vec<char> = Vec::new();
        let mut written = 0;
        for token in self.whole.iter().rev() {
            match token {
                Token::Digit(kind) => {
                    places -= 1;
                    let mut taken: Vec<char> = digits.pop().into_iter().collect();
                    if taken.is_empty() && *kind == '0' {
                        taken.push('0');
                    }
                    if places == 0 {
                        taken.extend(digits.drain(..).rev());
                    }
                    for digit in taken {
                        if self.grouped && written > 0 && written % 3 == 0 {
                            reversed.push(',');
                        }
                        reversed.push(digit);
                        written += 1;
                    }
                }
                Token::General => reversed.extend(general.chars().rev()),
                token => reversed.extend(literal(token)),
            }
        }
        reversed.into_iter().rev().collect()
    }

    fn write_fraction(&self, digits: &str, out: &mut String) {
        let mut left = digits.chars();
        let mut text = String::new();
        for token in self.fraction {
            match token {
                Token::Digit(kind) => {
                    let is_needed = *kind == '0' || left.as_str().contains(|c| c != '0');
                    let digit = left.next().filter(|_| is_needed);
                    text.extend(digit);
                }
                token => text.extend(literal(token)),
            }
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            out.push('.');
        }
        out.push_str(&text);
    }
}

fn literal(token: &Token) -> Option<char> {
    match token {
        Token::Literal(c) => Some(*c),
        Token::Percent => Some('%'),
        _ => None,
    }
}

/// 1.005 is a little less in binary, but 1.01 in two decimals, as in any spreadsheet.
fn half_up(value: f64, decimals: usize) -> f64 {
    // Beyond, the correction itself would be a digit.
    if decimals == 0 || value > 1e9 {
        value
    } else {
        value * (1.0 + 4.0 * f64::EPSILON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_a_sheet_shows_them() {
        for (value, code, expected) in [
            (0.25, "0.0%", "25.0%"),
            (0.5, "0%", "50%"),
            (4200.5, "[$€-407]#,##0.00", "€4,200.50"),
            (4200.5, "\"€\"#,##0.00", "€4,200.50"),
            (4200.5, "#,##0.00\\ [$€-407]", "4,200.50 €"),
            (1234.0, "00000", "01234"),
            (1_234_567.0, "#,##0", "1,234,567"),
            (-1234.5, "#,##0.00", "-1,234.50"),
            (-1234.5, "#,##0.00_);[Red]\\(#,##0.00\\)", "(1,234.50)"),
            (
                1234.5,
                "_($* #,##0.00_);_($* (#,##0.00);_($* \"-\"??_);_(@_)",
                "$ 1,234.50",
            ),
            (
                0.0,
                "_($* #,##0.00_);_($* (#,##0.00);_($* \"-\"??_);_(@_)",
                "$ -",
            ),
            (1.005, "0.00", "1.01"),
            (3.5, "0.##", "3.5"),
            (3.0, "0.##", "3"),
            (0.0, "0", "0"),
            (0.4, "#,##0.0", "0.4"),
            (1.0, "0\" items\"", "1 items"),
            (12_345.0, "0.00E+00", "1.23E+04"),
            (123_456_789.0, "000-00-0000", "123-45-6789"),
            (12_500_000.0, "0.0,,\" M\"", "12.5 M"),
            (7.0, "General\" kg\"", "7 kg"),
            (-0.001, "0.0", "0.0"),
        ] {
            assert_eq!(shown(value, code).as_deref(), Some(expected), "{code}");
        }
        for code in [
            "General",
            "",
            "# ?/?",
            "@",
            "yyyy-mm-dd",
            "[>100]0;0.0",
            ";;;",
        ] {
            assert_eq!(shown(2.5, code), None, "{code}");
        }
    }
}
