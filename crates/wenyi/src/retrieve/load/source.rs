//! The way back from extracted text to the file.

use std::ops::Range;

/// Maps spans of a document's text to spans and lines of its file.
///
/// Spans count bytes of the file; for a file that was not UTF-8, bytes of the file re-encoded as
/// UTF-8. Lines count from 1 and are the file's own in every case.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    /// Where each line begins, in decoded bytes.
    line_starts: Vec<usize>,
    /// Bytes before the decoded text: a byte order mark.
    offset: usize,
    /// `(text, source)`, both ascending; between two points both sides advance together, as far
    /// as the next point allows. Empty means that the text is the source.
    points: Vec<(usize, usize)>,
}

impl SourceMap {
    pub(super) fn identity(source: &str, offset: usize) -> Self {
        Self::new(source, offset, Vec::new())
    }

    pub(super) fn new(source: &str, offset: usize, points: Vec<(usize, usize)>) -> Self {
        let breaks = source
            .bytes()
            .enumerate()
            .filter(|&(_, byte)| byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(breaks.map(|(index, _)| index + 1))
            .collect();
        Self {
            line_starts,
            offset,
            points,
        }
    }

    /// The file's bytes behind `span` of the text.
    #[must_use]
    pub fn bytes(&self, span: &Range<usize>) -> Range<usize> {
        let (start, end) = self.decoded(span);
        start + self.offset..end + self.offset
    }

    /// The file's first and last line behind `span` of the text, counted from 1.
    #[must_use]
    pub fn lines(&self, span: &Range<usize>) -> (usize, usize) {
        let (start, end) = self.decoded(span);
        let line = |byte: usize| self.line_starts.partition_point(|&first| first <= byte);
        (line(start), line(end.max(start + 1) - 1))
    }

    fn decoded(&self, span: &Range<usize>) -> (usize, usize) {
        if self.points.is_empty() {
            return (span.start, span.end);
        }
        let start = self.interpolate(
            self.points.partition_point(|p| p.0 <= span.start),
            span.start,
        );
        let end = self.interpolate(self.points.partition_point(|p| p.0 < span.end), span.end);
        (start, end.max(start))
    }

    /// The source of `at`, which lies before point `next`.
    fn interpolate(&self, next: usize, at: usize) -> usize {
        let limit = self.points.get(next);
        if let Some(&(text, source)) = limit
            && text == at
        {
            return source;
        }
        let Some(&(text, source)) = next.checked_sub(1).and_then(|last| self.points.get(last))
        else {
            return 0;
        };
        let reached = source + (at - text);
        limit.map_or(reached, |&(_, source)| reached.min(source))
    }
}
