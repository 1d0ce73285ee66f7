//! What a question asks for, where its words say so: a number of days, a size, an address.
//!
//! "How many floors are there?" is near to whatever speaks of floors, and its words stand in it. But where no
//! number of floors stands, it is not answered.

use std::collections::HashSet;

use super::quotes::is_row;
use crate::retrieve::words::{STOP_WORDS, runs, stem};

/// What must stand where the answer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    kind: Kind,
    /// What the question itself says is not what it asks for.
    said: HashSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A number, in digits or words, or a word in its place ("free", "unlimited").
    Amount,
    /// A number of one of these, stems of the words that follow "how many".
    Count(Vec<String>),
    /// A number before one of these.
    ChineseCount(&'static str),
    /// A number, beside what is measured.
    ChineseAmount(String),
    /// Or an extent that is told without a number ("until", "as long as").
    Extent,
    /// A number with a unit of size.
    Size,
    /// A year.
    Year,
    /// An e-mail address.
    Mail,
    /// A telephone number.
    Phone,
}

/// Numbers, and what is said in their place.
const NUMBERS: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen \
    fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty \
    sixty seventy eighty ninety hundred thousand million billion dozen half once \
    twice free unlimited none nothing noon midnight both several many no single";

/// What is counted after 几 and 多少, and what numbers stand before in answers to that.
const CHINESE_COUNTS: &[(&str, &str)] = &[
    ("钱块元", "元块角分万千百费"),
    ("天日周月年小分秒", "天日周月年季小分秒"),
    ("次遍回", "次遍回"),
    ("人位名", "人位名个"),
    ("层楼", "层楼"),
    ("点", "点时:："),
    ("台", "台"),
    ("张", "张"),
    ("条", "条"),
    ("份", "份"),
    ("字", "字个"),
];

impl Wanted {
    /// `None` if anything might answer `question`.
    pub(super) fn of(question: &str) -> Option<Self> {
        let words = words(question);
        let kind = of_english(&words).or_else(|| of_chinese(question))?;
        Some(Self {
            kind,
            said: words.into_iter().collect(),
        })
    }

    /// True if `text` has what the question asks for.
    pub(super) fn is_in(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Amount => self.has_amount(text),
            Kind::Count(things) => self.counts(things, text) || has_row_of_numbers(text),
            Kind::ChineseCount(units) => has_chinese_count(text, units) || has_row_of_numbers(text),
            Kind::ChineseAmount(thing) => self.has_amount(text) && text.contains(thing),
            Kind::Extent => self.has_amount(text) || has_extent(text),
            Kind::Size => self.has_size(text),
            Kind::Year => self.has_year(text),
            Kind::Mail => has_mail(text),
            Kind::Phone => has_phone(text),
        }
    }

    fn is_number(&self, word: &str) -> bool {
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        (is_number || is_one_of(NUMBERS, word)) && !self.said.contains(word)
    }

    fn has_amount(&self, text: &str) -> bool {
        let words = words(text);
        // "A day" is one.
        let is_one = |pair: &[String]| {
            matches!(pair[0].as_str(), "a" | "an" | "every" | "each" | "per") && is_unit(&pair[1])
        };
        words.iter().any(|word| self.is_number(word))
            || words.windows(2).any(is_one)
            || has_chinese_count(text, "")
    }

    /// A number before one of the things, with at most two words between: "28 days", "eleven covered places".
    fn counts(&self, things: &[String], text: &str) -> bool {
        let words = words(text);
        let is_thing = |word: &String| things.contains(&stem(word));
        (0..words.len()).any(|at| {
            let mut behind = words[at + 1..].iter().take(3);
            self.is_number(&words[at]) && behind.any(is_thing)
        })
    }

    fn has_size(&self, text: &str) -> bool {
        const UNITS: &str = "byte bytes bit bits kb mb gb tb kib mib gib tib gigabyte megabyte terabyte \
            gigabytes megabytes terabytes metre meter metres meters km cm mm m inch inches \
            pixels percent lines people members characters times rows";
        const CHINESE: &str = "米寸平岁公字兆吉厘毫像倍个人行万亿";
        let words = words(text);
        let is_size =
            |word: &str| is_one_of(UNITS, word.trim_start_matches(|c: char| c.is_ascii_digit()));
        let with_unit = words.iter().enumerate().any(|(at, word)| {
            let next = words.get(at + 1).map_or("", String::as_str);
            self.is_number(word) && (is_size(word) || is_size(next))
        });
        with_unit || has_chinese_count(text, CHINESE)
    }

    fn has_year(&self, text: &str) -> bool {
        let is_year = |word: &String| {
            word.len() == 4
                && word
                    .parse()
                    .is_ok_and(|year: u16| (1000..2200).contains(&year))
        };
        words(text)
            .iter()
            .any(|word| is_year(word) && !self.said.contains(word))
            || has_chinese_count(text, "年")
    }
}

fn of_english(words: &[String]) -> Option<Kind> {
    let find = |wanted: &[&str]| {
        words
            .windows(wanted.len())
            .position(|words| words == wanted)
    };
    if find(&["phone", "number"])
        .or(find(&["telephone", "number"]))
        .is_some()
    {
        return Some(Kind::Phone);
    }
    if find(&["mail", "address"])
        .or(find(&["email", "address"]))
        .is_some()
    {
        return Some(Kind::Mail);
    }
    if let Some(at) = find(&["how", "many"]) {
        let things = words[at + 2..].iter().take(3);
        let things = things.take_while(|word| !STOP_WORDS.contains(&word.as_str()));
        let things: Vec<String> = things.map(|word| stem(word)).collect();
        // "How many are there?"
        return Some(if things.is_empty() {
            Kind::Amount
        } else {
            Kind::Count(things)
        });
    }
    let is_how = |of: &[&str]| of.iter().any(|word| find(&["how", word]).is_some());
    if find(&["what", "year"])
        .or(find(&["which", "year"]))
        .is_some()
    {
        Some(Kind::Year)
    } else if is_how(&["large", "big"]) {
        Some(Kind::Size)
    } else if is_how(&["much", "old", "tall", "expensive"])
        || find(&["what", "percentage"]).is_some()
    {
        Some(Kind::Amount)
    } else if is_how(&["long", "often", "soon", "fast", "far"]) || find(&["what", "time"]).is_some()
    {
        Some(Kind::Extent)
    } else {
        None
    }
}

fn of_chinese(question: &str) -> Option<Kind> {
    /// Words that 几 is a part of.
    const OTHER: &[&str] = &["几乎", "几何", "几率", "茶几"];
    let has = |words: &[&str]| words.iter().any(|word| question.contains(word));
    if has(&["电话号码", "手机号"]) {
        return Some(Kind::Phone);
    }
    if has(&["邮箱是", "邮箱地址", "邮件地址"]) {
        return Some(Kind::Mail);
    }
    if has(&["哪一年", "哪年"]) {
        return Some(Kind::Year);
    }
    if has(&["多久", "多长", "多远", "多快", "多高"]) {
        return Some(Kind::Extent);
    }
    if has(&["多大"]) {
        return Some(Kind::Size);
    }
    let plain = OTHER
        .iter()
        .fold(question.to_owned(), |plain, word| plain.replace(word, ""));
    let behind = |word: &str| plain.find(word).map(|at| &plain[at + word.len()..]);
    let behind = behind("多少").or_else(|| behind("几"))?;
    let behind = behind.strip_prefix('个').unwrap_or(behind);
    let counted = behind.chars().next().unwrap_or('？');
    let known = CHINESE_COUNTS
        .iter()
        .find(|(things, _)| things.contains(counted));
    Some(match known {
        Some((_, units)) => Kind::ChineseCount(units),
        None => {
            let thing = behind.chars().take_while(|c| c.is_alphanumeric()).take(2);
            Kind::ChineseAmount(thing.collect())
        }
    })
}

/// Words in lower case, in the order of the text; ideographs are no words.
fn words(text: &str) -> Vec<String> {
    let words = runs(text).filter(|run| !run.cjk);
    words.map(|run| text[run.span].to_lowercase()).collect()
}

/// True if `word` is in a list of words with blanks between.
fn is_one_of(list: &str, word: &str) -> bool {
    list.split(' ').any(|other| other == word)
}

/// True of a table with numbers: what they count stands in its head, and whose they are in its rows.
fn has_row_of_numbers(text: &str) -> bool {
    let mut rows = text.lines().filter(|line| is_row(line));
    rows.any(|row| row.contains(|c: char| c.is_ascii_digit()))
}

fn is_unit(word: &str) -> bool {
    const UNITS: &str = "second minute hour day week month quarter year night morning evening third \
        fourth fifth tenth";
    is_one_of(UNITS, word)
}

/// An extent that is told by something else than a number.
fn has_extent(text: &str) -> bool {
    const WORDS: &str = "until till while forever always never immediately instantly daily hourly weekly \
        monthly quarterly yearly annually constant permanently during every whenever \
        lifetime as";
    const CHINESE: &str =
        "永久 永远 立即 立刻 马上 随时 期间 直到 为止 每 当天 当日 终身 任意 一样 相同 长期";
    words(text).iter().any(|word| is_one_of(WORDS, word))
        || CHINESE.split(' ').any(|word| text.contains(word))
}

/// True if `text` has a number, in digits or numerals, before one of the characters of `units`; before anything
/// that is counted if that is empty.
fn has_chinese_count(text: &str, units: &str) -> bool {
    /// Said in the place of a number.
    const WORDS: &[&str] = &["免费", "不限", "无限", "没有限制", "一半", "双倍"];
    /// What a numeral counts. After 一 only those of the first line: 一个 is hardly ever a number.
    const OF_ONE: &str = "天日周月年季秒分刻元块点次倍";
    const OF_MORE: &str = "个位名人份台张条层间号楼岁件种步页行字家辆箱套轮级等米克斤吨里度成折小";
    let is_numeral = |c: char| "一二三四五六七八九十百千万亿两零〇半".contains(c);
    let characters: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let counted = characters.windows(2).enumerate().any(|(at, pair)| {
        let (number, what) = (pair[0], pair[1]);
        let is_digit = number.is_ascii_digit();
        if !is_digit && !is_numeral(number) {
            return false;
        }
        // "三个月" and "三个工作日" count times.
        let behind = characters[at + 2..].iter().take(3);
        let of_unit = |c: char| units.contains(c);
        if what == '个' && behind.copied().any(of_unit) {
            return true;
        }
        match (units, number) {
            ("", '一') => OF_ONE.contains(what),
            ("", _) => !is_digit && (OF_ONE.contains(what) || OF_MORE.contains(what)),
            _ => of_unit(what),
        }
    });
    counted || WORDS.iter().any(|word| text.contains(word))
}

fn has_mail(text: &str) -> bool {
    let mut parts = text.split(|c: char| c.is_whitespace() || "<>()（），,；;：".contains(c));
    parts.any(|part| {
        let sides = part.split_once('@');
        sides.is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
    })
}

/// Six digits and more with what stands between those of telephone numbers.
fn has_phone(text: &str) -> bool {
    let mut digits = 0;
    text.chars().any(|c| {
        if c.is_ascii_digit() {
            digits += 1;
        } else if !" -–/()+".contains(c) {
            digits = 0;
        }
        digits >= 6
    })
}

#[cfg(test)]
mod tests;
