//! Company for a few passages: whether a text answers a question shows beside texts that do not.
//!
//! A cosine alone tells little, since models differ in how wide they spread theirs. Among many
//! passages those further down are the measure; a folder of one note has none. What stands in for
//! them are sentences of everyday life, embedded as passages are, by the same model.

use std::sync::{Arc, Mutex, PoisonError};

use super::retriever::Candidate;
use crate::embed::{Embedder, Fingerprint};
use crate::retrieve::Result;
use crate::retrieve::words::runs;

/// With so many candidates there is company enough: half of them are taken not to answer.
const ENOUGH: usize = 24;

/// Each speaks of something else, and none of programs, offices or products, which notes are mostly
/// about.
const ENGLISH: &[&str] = &[
    "The river rises in the northern mountains and flows into the sea.",
    "She peeled the potatoes, cut them in half and put them into boiling water.",
    "The violinist played the second movement more slowly than the first.",
    "Whales are mammals and must come to the surface to breathe.",
    "In the final minute the goalkeeper saved a penalty.",
    "The king died without an heir, and a long war followed.",
    "A cold wind is expected tomorrow, with rain in the afternoon.",
    "The doctor told him to rest for a week and drink a lot of tea.",
    "Apple trees should be pruned in late winter, before the buds open.",
    "The novel tells how two sisters grow up in a small village.",
    "The bridge was built of stone in the twelfth century.",
    "My grandmother knitted a red scarf for every child.",
];

/// The same in Chinese.
const CHINESE: &[&str] = &[
    "这条河发源于北方的山脉，最后流入大海。",
    "她把土豆去皮，切成两半，放进沸水里。",
    "小提琴手把第二乐章拉得比第一乐章慢。",
    "鲸鱼是哺乳动物，必须浮上水面呼吸。",
    "比赛的最后一分钟，守门员扑出了点球。",
    "国王去世时没有继承人，随后是长年的战争。",
    "预计明天刮冷风，下午有雨。",
    "医生让他休息一个星期，多喝茶。",
    "苹果树应在冬末发芽之前修剪。",
    "这部小说讲述两姐妹在小村庄里长大的故事。",
    "这座桥是十二世纪用石头建成的。",
    "奶奶给每个孩子织了一条红围巾。",
];

/// Sentences and their vectors.
type Probes = (&'static [&'static str], Arc<Vec<Vec<f32>>>);

/// What stands in for missing company of `candidates`, nearest to the question first, whose vector is
/// `question`; nothing if they are enough. In the candidates' language: across languages every cosine
/// is smaller.
pub(super) fn company(
    embedder: &dyn Embedder,
    question: &[f32],
    candidates: &[Candidate],
) -> Result<Vec<Candidate>> {
    if candidates.len() >= ENOUGH {
        return Ok(Vec::new());
    }
    let (sentences, vectors) = probes(embedder, is_chinese(candidates))?;
    let scored = sentences.iter().zip(vectors.iter());
    let mut company: Vec<Candidate> = scored
        .map(|(text, vector)| Candidate {
            text: (*text).to_owned(),
            cosine: question.iter().zip(vector).map(|(a, b)| a * b).sum(),
        })
        .collect();
    company.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
    Ok(company)
}

/// The cosine of what does not answer among few `candidates` with their `company`, both sorted.
pub(super) fn cosine(candidates: &[Candidate], company: &[Candidate]) -> Option<f32> {
    /// A sentence or two may by chance speak of what a note is about.
    const CHANCE: usize = 2;
    let mut cosines: Vec<f32> = candidates.iter().chain(company).map(|c| c.cosine).collect();
    cosines.sort_by(|a, b| b.total_cmp(a));
    // Of the candidates one half is taken to answer, as among many.
    cosines.get(candidates.len().div_ceil(2) + CHANCE).copied()
}

/// Embedded once in a process for each model.
fn probes(embedder: &dyn Embedder, is_chinese: bool) -> Result<Probes> {
    /// Models that one process uses at the same time.
    const MOST: usize = 16;
    type Known = Vec<(Fingerprint, bool, Arc<Vec<Vec<f32>>>)>;
    static KNOWN: Mutex<Known> = Mutex::new(Vec::new());
    let sentences = if is_chinese { CHINESE } else { ENGLISH };
    let own = embedder.fingerprint();
    let lock = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = lock()
        .iter()
        .find(|(fingerprint, language, _)| fingerprint == own && *language == is_chinese)
        .map(|(.., vectors)| Arc::clone(vectors));
    if let Some(vectors) = known {
        return Ok((sentences, vectors));
    }
    let vectors = Arc::new(embedder.embed_documents(sentences)?);
    let mut known = lock();
    if known.len() == MOST {
        known.remove(0);
    }
    known.push((own.clone(), is_chinese, Arc::clone(&vectors)));
    Ok((sentences, vectors))
}

/// True if the texts are mostly written in ideographs. Chinese texts are full of English names.
fn is_chinese(candidates: &[Candidate]) -> bool {
    /// Letters of an English word that say as much as one ideograph.
    const WORD: usize = 4;
    let (mut ideographs, mut letters) = (0, 0);
    for candidate in candidates {
        for run in runs(&candidate.text) {
            let count = candidate.text[run.span].chars().count();
            match run.cjk {
                true => ideographs += count,
                false => letters += count,
            }
        }
    }
    ideographs * WORD > letters
}
