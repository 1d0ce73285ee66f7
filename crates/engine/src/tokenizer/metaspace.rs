//! Words as sentencepiece models see them: each begins with a word mark, `▁`.

use super::Offsets;
use super::charsmap::{Charsmap, Sink};

/// Stands for the space before a word.
pub(super) const WORD_MARK: char = '▁';
const MARK_BYTES: [u8; 3] = [0xe2, 0x96, 0x81];

/// How spaces become word marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spaces {
    /// White space of any kind and length separates words, and is dropped at both ends.
    Separate,
    /// Every run of U+0020 is one mark, at the ends too; with white space stripped first from the
    /// ends that are named.
    Collapse {
        /// Strip the beginning.
        start: bool,
        /// Strip the end.
        end: bool,
    },
    /// Every U+0020 is a mark.
    Keep,
}

/// Receives words: the bytes, mark included, and where each byte comes from, if that was asked.
pub(super) trait Words {
    fn word(&mut self, word: &[u8], sources: &[Offsets]);
}

/// The word that is being put together.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) word: Vec<u8>,
    /// Where each byte comes from, if that was asked.
    pub(super) sources: Vec<Offsets>,
}

impl Buffer {
    #[inline]
    pub(super) fn clear(&mut self) {
        self.word.clear();
        self.sources.clear();
    }
}

/// Normalises `text` and passes on its words.
pub(super) fn split(
    text: &str,
    charsmap: &Charsmap,
    spaces: Spaces,
    traced: bool,
    buffer: &mut Buffer,
    words: &mut impl Words,
) {
    buffer.clear();
    let mut splitter = Splitter {
        buffer,
        words,
        traced,
        separate: spaces == Spaces::Separate,
        pending: true,
    };
    match spaces {
        Spaces::Separate => charsmap.normalize(text, &mut splitter),
        Spaces::Keep => charsmap.normalize(text, &mut splitter),
        Spaces::Collapse { start, end } => {
            let mut collapser = Collapser {
                splitter: &mut splitter,
                start,
                held: Vec::new(),
            };
            charsmap.normalize(text, &mut collapser);
            collapser.finish(end);
        }
    }
    splitter.finish();
}

/// Cuts normalised text into words.
struct Splitter<'a, W> {
    buffer: &'a mut Buffer,
    words: &'a mut W,
    traced: bool,
    /// White space separates words and is dropped; otherwise U+0020 is a word mark.
    separate: bool,
    /// The next character begins a word and needs a mark unless it is one.
    pending: bool,
}

impl<W: Words> Splitter<'_, W> {
    fn finish(&mut self) {
        if !self.buffer.word.is_empty() {
            self.words.word(&self.buffer.word, &self.buffer.sources);
        }
        self.buffer.clear();
    }

    /// Begins a word. A mark that is not in the text has the source of the character after it.
    fn mark(&mut self, source: Offsets) {
        self.finish();
        self.pending = false;
        self.push(&MARK_BYTES, source);
    }

    fn push(&mut self, bytes: &[u8], source: Offsets) {
        self.buffer.word.extend_from_slice(bytes);
        if self.traced {
            self.buffer
                .sources
                .extend(std::iter::repeat_n(source, bytes.len()));
        }
    }
}

impl<W: Words> Sink for Splitter<'_, W> {
    #[inline]
    fn plain(&mut self, text: &str, at: usize) {
        if self.pending {
            let first = text.chars().next().map_or(0, char::len_utf8);
            self.mark((at, at + first));
        }
        self.buffer.word.extend_from_slice(text.as_bytes());
        if self.traced {
            for (index, c) in text.char_indices() {
                let source = (at + index, at + index + c.len_utf8());
                self.buffer
                    .sources
                    .extend(std::iter::repeat_n(source, c.len_utf8()));
            }
        }
    }

    #[inline]
    fn char(&mut self, c: char, source: Offsets) {
        if self.separate && c.is_whitespace() {
            self.pending = true;
        } else if c == WORD_MARK || (!self.separate && c == ' ') {
            self.mark(source);
        } else {
            if self.pending {
                self.mark(source);
            }
            self.push(c.encode_utf8(&mut [0; 4]).as_bytes(), source);
        }
    }
}

/// Makes runs of U+0020 one space, and strips white space from the ends.
struct Collapser<'a, 'b, W> {
    splitter: &'a mut Splitter<'b, W>,
    /// White space is dropped as long as nothing else came.
    start: bool,
    /// White space that is dropped if nothing else comes.
    held: Vec<(char, Offsets)>,
}

impl<W: Words> Collapser<'_, '_, W> {
    fn release(&mut self) {
        let mut held = self.held.drain(..).peekable();
        while let Some((c, mut source)) = held.next() {
            while let Some((_, (_, end))) = held.next_if(|(next, _)| c == ' ' && *next == ' ') {
                source.1 = end;
            }
            self.splitter.char(c, source);
        }
    }

    fn finish(&mut self, strip: bool) {
        if !strip {
            self.release();
        }
    }
}

impl<W: Words> Sink for Collapser<'_, '_, W> {
    fn plain(&mut self, text: &str, at: usize) {
        self.release();
        self.start = false;
        self.splitter.plain(text, at);
    }

    fn char(&mut self, c: char, source: Offsets) {
        if !c.is_whitespace() {
            self.release();
            self.start = false;
            self.splitter.char(c, source);
        } else if !self.start {
            self.held.push((c, source));
        }
    }
}
