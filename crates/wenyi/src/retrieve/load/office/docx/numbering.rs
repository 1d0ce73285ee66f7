//! The numbers of lists: which have bullets, which are counted, and how far.

use std::collections::HashMap;

use super::xml::{self, Node};
use crate::retrieve::load::SkipReason;

/// Levels of a list.
const MOST_LEVELS: usize = 9;

/// How the items of a level are counted.
#[derive(Clone, Debug)]
struct Level {
    start: u32,
    /// `decimal`, `lowerLetter`, `bullet` …
    format: String,
    /// `%1.%2)`: what stands around the numbers of this level and of those above.
    text: String,
}

impl Default for Level {
    fn default() -> Self {
        Self {
            start: 1,
            format: String::new(),
            text: String::new(),
        }
    }
}

type Levels = [Level; MOST_LEVELS];

/// The lists of a document and where each of them is.
#[derive(Default)]
pub(super) struct Numbering {
    definitions: HashMap<String, Levels>,
    /// The definition of each list, and where it begins anew.
    lists: HashMap<String, (String, HashMap<usize, u32>)>,
    /// The last number of each level, by definition: its lists go on with each other's numbers.
    counters: HashMap<String, [Option<u32>; MOST_LEVELS]>,
    /// Lists that have begun.
    begun: HashMap<String, bool>,
}

impl Numbering {
    pub(super) fn read(xml: &str) -> Result<Self, SkipReason> {
        let mut numbering = Self::default();
        let (mut definition, mut list) = (String::new(), String::new());
        let mut level = 0;
        let mut overrides = false;
        xml::read(xml, |node| {
            let Node::Open(tag) = node else {
                if matches!(node, Node::Close("lvlOverride")) {
                    overrides = false;
                }
                return Ok(());
            };
            let value = || tag.attribute("val").unwrap_or_default();
            let level_of = || {
                let level = tag.attribute("ilvl").and_then(|level| level.parse().ok());
                level.unwrap_or(0_usize).min(MOST_LEVELS - 1)
            };
            match tag.name() {
                "abstractNum" => definition = tag.attribute("abstractNumId").unwrap_or_default(),
                "lvl" => level = level_of(),
                "num" => list = tag.attribute("numId").unwrap_or_default(),
                "abstractNumId" => {
                    let lists = &mut numbering.lists;
                    lists.entry(list.clone()).or_default().0 = value();
                }
                "lvlOverride" => (level, overrides) = (level_of(), true),
                "startOverride" => {
                    let list = numbering.lists.entry(list.clone()).or_default();
                    list.1.insert(level, value().parse().unwrap_or(1));
                }
                name @ ("start" | "numFmt" | "lvlText") if !overrides => {
                    let levels = numbering.definitions.entry(definition.clone());
                    let level = &mut levels.or_default()[level];
                    match name {
                        "start" => level.start = value().parse().unwrap_or(1),
                        "numFmt" => level.format = value(),
                        _ => level.text = value(),
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(numbering)
    }

    /// The number of the next item of a list, such as `2.` or `b)`; `None` for a bullet.
    pub(super) fn next(&mut self, list: &str, level: usize) -> Option<String> {
        let level = level.min(MOST_LEVELS - 1);
        let (definition, starts) = self.lists.get(list)?;
        let levels = self.definitions.get(definition)?;
        let counters = self.counters.entry(definition.clone()).or_default();
        if !std::mem::replace(self.begun.entry(list.to_owned()).or_default(), true) {
            for (&level, &start) in starts {
                if let Some(counter) = counters.get_mut(level) {
                    *counter = start.checked_sub(1);
                }
            }
        }
        counters[level] = Some(match counters[level] {
            Some(last) => last.saturating_add(1),
            None => levels[level].start,
        });
        // Items below a new one begin anew.
        counters[level + 1..].fill(None);
        if matches!(levels[level].format.as_str(), "bullet" | "none" | "") {
            return None;
        }
        let text = written(levels, counters, level);
        (!text.trim().is_empty()).then_some(text)
    }
}

fn written(levels: &Levels, counters: &[Option<u32>; MOST_LEVELS], level: usize) -> String {
    let mut out = String::new();
    let mut chars = levels[level].text.chars().peekable();
    while let Some(c) = chars.next() {
        let shown = chars.peek().and_then(|c| c.to_digit(10));
        match shown {
            Some(shown @ 1..=9) if c == '%' => {
                chars.next();
                let at = shown as usize - 1;
                let number = counters[at].unwrap_or(levels[at].start);
                out.push_str(&counted(number, &levels[at].format));
            }
            _ => out.push(c),
        }
    }
    out
}

/// A number in the letters or digits of a format.
fn counted(number: u32, format: &str) -> String {
    match format {
        "lowerLetter" => letters(number),
        "upperLetter" => letters(number).to_uppercase(),
        "lowerRoman" => roman(number),
        "upperRoman" => roman(number).to_uppercase(),
        "decimalZero" => format!("{number:02}"),
        "chineseCounting"
        | "chineseCountingThousand"
        | "taiwaneseCountingThousand"
        | "ideographDigital"
        | "japaneseCounting" => chinese(number),
        _ => number.to_string(),
    }
}

/// a … z, aa … zz, aaa …
fn letters(number: u32) -> String {
    let (letter, times) = match number.checked_sub(1) {
        // The program repeats the letter; more than a few are nobody's list.
        Some(index) if index < 26 * 8 => (index % 26, index / 26 + 1),
        _ => return number.to_string(),
    };
    let letter = char::from_u32(u32::from('a') + letter).unwrap_or('a');
    std::iter::repeat_n(letter, times as usize).collect()
}

fn roman(number: u32) -> String {
    const VALUES: [(u32, &str); 13] = [
        (1000, "m"),
        (900, "cm"),
        (500, "d"),
        (400, "cd"),
        (100, "c"),
        (90, "xc"),
        (50, "l"),
        (40, "xl"),
        (10, "x"),
        (9, "ix"),
        (5, "v"),
        (4, "iv"),
        (1, "i"),
    ];
    if !(1..4000).contains(&number) {
        return number.to_string();
    }
    let (mut left, mut out) = (number, String::new());
    for (value, text) in VALUES {
        while left >= value {
            out.push_str(text);
            left -= value;
        }
    }
    out
}

/// 一 … 九十九.
fn chinese(number: u32) -> String {
    const DIGITS: [&str; 10] = ["", "一", "二", "三", "四", "五", "六", "七", "八", "九"];
    let digit = |value: u32| DIGITS[value as usize % 10];
    match number {
        1..=9 => digit(number).to_owned(),
        10..=19 => format!("十{}", digit(number - 10)),
        20..=99 => format!("{}十{}", digit(number / 10), digit(number % 10)),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_as_the_program_counts() {
        let level = |ilvl: usize, format: &str, text: &str| {
            format!(
                r#"<w:lvl w:ilvl="{ilvl}"><w:start w:val="1"/><w:numFmt w:val="{format}"/><w:lvlText w:val="{text}"/></w:lvl>"#
            )
        };
        let xml = format!(
            r#"<w:numbering><w:abstractNum w:abstractNumId="7">{}{}</w:abstractNum><w:abstractNum w:abstractNumId="8">{}</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="7"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num><w:num w:numId="3"><w:abstractNumId w:val="8"/></w:num></w:numbering>"#,
            level(0, "decimal", "%1."),
            level(1, "lowerLetter", "%1.%2)"),
            level(0, "bullet", "•"),
        );
        let mut numbering = Numbering::read(&xml).unwrap();
        let items = [
            ("1", 0),
            ("1", 1),
            ("1", 1),
            ("1", 0),
            ("1", 1),
            ("3", 0),
            ("2", 0),
            ("9", 0),
        ];
        let numbers: Vec<_> = items
            .iter()
            .map(|&(list, level)| numbering.next(list, level).unwrap_or_default())
            .collect();
        assert_eq!(numbers, ["1.", "1.a)", "1.b)", "2.", "2.a)", "", "5.", ""]);
        assert_eq!(counted(28, "upperLetter"), "BB");
        assert_eq!(counted(1994, "lowerRoman"), "mcmxciv");
        assert_eq!(counted(21, "chineseCounting"), "二十一");
    }
}
