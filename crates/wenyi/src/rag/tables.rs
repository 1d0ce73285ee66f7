//! Whose numbers a table gives: a claim may not take that of another row.

use std::collections::BTreeMap;

use super::check::Terms;
use super::quotes::is_row;
use crate::retrieve::chunk::Unit;

/// The tables of a passage, without their heads.
#[derive(Debug)]
pub(super) struct Tables {
    /// For each table its rows.
    tables: Vec<Vec<Terms>>,
    /// The numbers of everything else.
    elsewhere: Terms,
}

impl Tables {
    /// The tables among the `units` of `text`.
    pub(super) fn of(text: &str, units: &[Unit]) -> Self {
        let mut rows: BTreeMap<usize, Vec<Terms>> = BTreeMap::new();
        let mut elsewhere = String::new();
        for unit in units {
            let own = &text[unit.span.clone()];
            if is_row(own) {
                rows.entry(unit.block).or_default().push(Terms::of(own));
            } else {
                elsewhere.push_str(own);
                elsewhere.push('\n');
            }
        }
        let below = |rows: Vec<Terms>| rows.into_iter().skip(1).collect();
        Self {
            tables: rows.into_values().map(below).collect(),
            elsewhere: Terms::of(&elsewhere),
        }
    }

    /// True if `number` is no table's, or stands in a row that has what `claim` speaks of, as far as rows
    /// are told apart by that at all.
    pub(super) fn agrees(&self, number: &str, claim: &Terms) -> bool {
        if self.elsewhere.numbers.contains(number) {
            return true;
        }
        let mut having = self.tables.iter().filter(|rows| {
            let mut rows = rows.iter();
            rows.any(|row| row.numbers.contains(number))
        });
        let mut any = false;
        let agrees = having.any(|rows| {
            any = true;
            row_agrees(rows, number, claim)
        });
        agrees || !any
    }
}

fn row_agrees(rows: &[Terms], number: &str, claim: &Terms) -> bool {
    // What the claim says that some rows have and others have not.
    let tells = |has: &dyn Fn(&Terms) -> bool| {
        let count = rows.iter().filter(|row| has(row)).count();
        count > 0 && count < rows.len()
    };
    // Numbers are words, too.
    let is_word = |word: &&String| !word.starts_with(|c: char| c.is_ascii_digit());
    let words = claim.words.iter().filter(is_word);
    let words = words.filter(|word| tells(&|row| row.words.contains(*word)));
    let words: Vec<_> = words.collect();
    let pairs = claim
        .pairs
        .iter()
        .filter(|pair| tells(&|row| row.pairs.contains(pair)));
    let pairs: Vec<_> = pairs.collect();
    let numbers = claim.numbers.iter().filter(|other| *other != number);
    let numbers = numbers.filter(|other| tells(&|row| row.numbers.contains(*other)));
    let numbers: Vec<_> = numbers.collect();
    if words.is_empty() && pairs.is_empty() && numbers.is_empty() {
        return true;
    }
    rows.iter()
        .filter(|row| row.numbers.contains(number))
        .any(|row| {
            words.iter().any(|word| row.words.contains(*word))
                || pairs.iter().any(|pair| row.pairs.contains(pair))
                || numbers.iter().any(|other| row.numbers.contains(*other))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieve::chunk::units;
    use crate::retrieve::load::Kind;

    #[test]
    fn a_number_is_that_of_its_row() {
        let text = "The daily allowance:\n\n| Country | Allowance | Hotel |\n|---|---|---|\n\
                    | France | 41 EUR | 160 EUR |\n| Japan | 55 EUR | 170 EUR |\n\n\
                    | 城市 | 补贴 |\n|---|---|\n| 上海 | 90 元 |\n| 东京 | 300 元 |\n\nAt most 7 days.\n";
        let tables = Tables::of(text, &units(Kind::Markdown, text));
        for (claim, number, expected) in [
            ("The daily allowance for Japan is 55 EUR.", "55", true),
            ("The daily allowance for Japan is 41 EUR.", "41", false),
            ("In France it is 41 EUR, in Japan 55 EUR.", "41", true),
            ("The least allowance is 41 EUR.", "41", true),
            ("东京的补贴是 300 元。", "300", true),
            ("东京的补贴是 90 元。", "90", false),
            ("In Japan at most 7 days.", "7", true),
            ("In Japan at most 8 days.", "8", true),
        ] {
            assert_eq!(
                tables.agrees(number, &Terms::of(claim)),
                expected,
                "{claim}"
            );
        }
    }
}
