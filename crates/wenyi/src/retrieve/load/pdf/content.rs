//! The content of a page: its operators, followed until every character has its place.

use std::collections::HashMap;
use std::rc::Rc;

use lopdf::content::Content;
use lopdf::{Dictionary, Document, Object, ObjectId};

use super::annotations;
use super::font::Font;

/// Bytes of one page's content when unpacked.
const MOST_CONTENT: usize = 64 << 20;

/// Bytes of all pages' contents, those of forms counted each time that they are drawn: some
/// seconds of work.
pub(super) const MOST_OF_ALL: usize = 256 << 20;

/// Pieces of text on one page; a full page of a newspaper has some ten thousand.
const MOST_PIECES: usize = 1 << 20;

/// Fonts of one file.
const MOST_FONTS: usize = 1024;

/// Operators of one page, those of its forms counted each time that they are drawn.
const MOST_OPERATORS: usize = 4_000_000;

/// Forms within forms.
const MOST_DEPTH: usize = 12;

/// A piece of text on a page, in reading direction.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Where it begins and ends along the line, in points.
    pub(super) left: f32,
    pub(super) right: f32,
    /// Its base line, in points, greater is lower.
    pub(super) line: f32,
    /// Height of the font in points.
    pub(super) size: f32,
    /// Quarter turns of its direction.
    pub(super) turn: u8,
    pub(super) is_bold: bool,
    pub(super) is_monospaced: bool,
}

/// What is on a page.
#[derive(Debug, Default)]
pub(super) struct PageContent {
    pub(super) pieces: Vec<Piece>,
    /// Characters whose fonts do not tell what they are.
    pub(super) num_unknown: usize,
    pub(super) num_images: usize,
    /// Pieces of drawn outlines; some programs turn letters into such.
    pub(super) num_segments: usize,
    /// What readers noted on the page, beside its text.
    pub(super) notes: Vec<String>,
}

/// What pages share.
pub(super) struct Shared {
    /// Fonts by the address of their dictionary, which the document keeps where it is.
    fonts: HashMap<usize, Rc<Font>>,
    /// Bytes of content that may still be read.
    pub(super) room: usize,
    /// True if content was left out because there is too much of it.
    pub(super) left_out: bool,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            fonts: HashMap::new(),
            room: MOST_OF_ALL,
            left_out: false,
        }
    }
}

pub(super) fn read(document: &Document, page: ObjectId, shared: &mut Shared) -> PageContent {
    let mut reader = Reader {
        document,
        shared,
        out: PageContent::default(),
        operators: 0,
    };
    let content = document.get_page_content_with_limit(page, MOST_CONTENT);
    let mut resources = Vec::new();
    if let Ok((own, inherited)) = document.get_page_resources(page) {
        resources.extend(own);
        let inherited = inherited
            .iter()
            .filter_map(|&id| document.get_dictionary(id).ok());
        resources.extend(inherited);
    }
    match content {
        Ok(content) => reader.run(&content, &resources, Matrix::IDENTITY, 0),
        Err(_) => reader.shared.left_out = true,
    }
    annotations::read(document, page, &mut reader.out);
    reader.out
}

/// `[a b c d e f]` as PDF writes them.
#[derive(Clone, Copy, Debug)]
struct Matrix([f32; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    /// First `self`, then `next`.
    fn then(self, next: Self) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (self.0, next.0);
        Self([
            a * g + b * i,
            a * h + b * j,
            c * g + d * i,
            c * h + d * j,
            e * g + f * i + k,
            e * h + f * j + l,
        ])
    }

    fn moved(x: f32, y: f32) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    fn of(operands: &[Object]) -> Option<Self> {
        let values: Vec<f32> = operands
            .iter()
            .filter_map(|value| value.as_float().ok())
            .collect();
        values.try_into().ok().map(Self)
    }
}

#[derive(Clone)]
struct State {
    to_page: Matrix,
    font: Option<Rc<Font>>,
    size: f32,
    character_space: f32,
    word_space: f32,
    stretch: f32,
    leading: f32,
    rise: f32,
}

struct Reader<'a> {
    document: &'a Document,
    shared: &'a mut Shared,
    out: PageContent,
    operators: usize,
}

/// Where the next character and the next line begin.
#[derive(Clone, Copy)]
struct Cursor {
    text: Matrix,
    line: Matrix,
}

impl<'a> Reader<'a> {
    fn run(&mut self, content: &[u8], resources: &[&'a Dictionary], to_page: Matrix, depth: usize) {
        let Some(room) = self.shared.room.checked_sub(content.len()) else {
            (self.shared.room, self.shared.left_out) = (0, true);
            return;
        };
        self.shared.room = room;
        let mut state = State {
            to_page,
            font: None,
            size: 0.0,
            character_space: 0.0,
            word_space: 0.0,
            stretch: 1.0,
            leading: 0.0,
            rise: 0.0,
        };
        let mut saved = Vec::new();
        let mut cursor = Cursor {
            text: Matrix::IDENTITY,
            line: Matrix::IDENTITY,
        };
        // For each open mark, whether it holds what is not part of the text.
        let mut marks: Vec<bool> = Vec::new();
        // One at a time: held together they would take twenty times the content's memory.
        for operation in Content::decode_iter(content).map_while(Result::ok) {
            self.operators += 1;
            if self.operators > MOST_OPERATORS || self.out.pieces.len() > MOST_PIECES {
                self.shared.left_out = true;
                return;
            }
            let operands = operation.operands.as_slice();
            match operation.operator.as_str() {
                "q" if saved.len() < 512 => saved.push(state.clone()),
                "Q" => state = saved.pop().unwrap_or(state),
                "cm" => {
                    if let Some(matrix) = Matrix::of(operands) {
                        state.to_page = matrix.then(state.to_page);
                    }
                }
                "BMC" | "BDC" if marks.len() < 4096 => marks.push(is_artifact(operands)),
                "EMC" => {
                    marks.pop();
                }
                "Do" => {
                    if !marks.contains(&true) {
                        self.draw(operands, resources, state.to_page, depth);
                    }
                }
                "BI" => self.out.num_images += 1,
                "l" | "c" | "v" | "y" => self.out.num_segments += 1,
                "Tf" => self.set_font(operands, resources, &mut state),
                _ if marks.contains(&true) => {
                    // Its place still moves the cursor, but nobody reads it.
                    let length = self.out.pieces.len();
                    self.text(&operation.operator, operands, &mut state, &mut cursor);
                    self.out.pieces.truncate(length);
                }
                operator => self.text(operator, operands, &mut state, &mut cursor),
            }
        }
    }

    /// The operators of text objects.
    fn text(&mut self, operator: &str, operands: &[Object], state: &mut State, at: &mut Cursor) {
        let number = |index: usize| {
            let value = operands.get(index).and_then(|value| value.as_float().ok());
            value.unwrap_or(0.0)
        };
        match operator {
            "BT" => (at.text, at.line) = (Matrix::IDENTITY, Matrix::IDENTITY),
            "Tc" => state.character_space = number(0),
            "Tw" => state.word_space = number(0),
            "Tz" => state.stretch = number(0) / 100.0,
            "TL" => state.leading = number(0),
            "Ts" => state.rise = number(0),
            "Td" => at.next_line(number(0), number(1)),
            "TD" => {
                state.leading = -number(1);
                at.next_line(number(0), number(1));
            }
            "Tm" => {
                if let Some(matrix) = Matrix::of(operands) {
                    (at.text, at.line) = (matrix, matrix);
                }
            }
            "T*" => at.next_line(0.0, -state.leading),
            "Tj" => self.show(operands.first(), state, at),
            "'" => {
                at.next_line(0.0, -state.leading);
                self.show(operands.first(), state, at);
            }
            "\"" => {
                (state.word_space, state.character_space) = (number(0), number(1));
                at.next_line(0.0, -state.leading);
                self.show(operands.get(2), state, at);
            }
            "TJ" => {
                for item in operands
                    .first()
                    .and_then(|list| list.as_array().ok())
                    .into_iter()
                    .flatten()
                {
                    if let Ok(back) = item.as_float() {
                        let x = -back / 1000.0 * state.size * state.stretch;
                        at.text = Matrix::moved(x, 0.0).then(at.text);
                    } else {
                        self.show(Some(item), state, at);
                    }
                }
            }
            _ => {}
        }
    }

    /// Puts the characters of a string onto the page.
    fn show(&mut self, string: Option<&Object>, state: &State, at: &mut Cursor) {
        let (Some(Object::String(bytes, _)), Some(font)) = (string, &state.font) else {
            return;
        };
        let out = &mut self.out;
        let mut piece: Option<Piece> = None;
        font.read(bytes, |glyph| {
            let advance = (glyph.width / 1000.0 * state.size
                + state.character_space
                + if glyph.is_space {
                    state.word_space
                } else {
                    0.0
                })
                * state.stretch;
            let matrix = Matrix::moved(0.0, state.rise)
                .then(at.text)
                .then(state.to_page);
            at.text = Matrix::moved(advance, 0.0).then(at.text);
            let Some(text) = glyph.text else {
                out.num_unknown += 1;
                return;
            };
            let drawn = glyph.width / 1000.0 * state.size * state.stretch;
            place(&matrix, drawn, state.size, &text, font, &mut piece);
        });
        out.pieces.extend(piece);
    }

    fn set_font(&mut self, operands: &[Object], resources: &[&'a Dictionary], state: &mut State) {
        state.size = operands
            .get(1)
            .and_then(|size| size.as_float().ok())
            .unwrap_or(0.0);
        let Some(name) = operands.first().and_then(|name| name.as_name().ok()) else {
            return;
        };
        state.font = self.resource(resources, b"Font", name).and_then(|object| {
            let (_, object) = self.document.dereference(object).ok()?;
            let dictionary = object.as_dict().ok()?;
            let address = std::ptr::from_ref(dictionary).addr();
            let fonts = &mut self.shared.fonts;
            if fonts.len() == MOST_FONTS && !fonts.contains_key(&address) {
                return None;
            }
            let font = fonts.entry(address);
            Some(Rc::clone(font.or_insert_with(|| {
                Rc::new(Font::new(self.document, dictionary))
            })))
        });
    }

    fn resource(
        &self,
        resources: &[&'a Dictionary],
        kind: &[u8],
        name: &[u8],
    ) -> Option<&'a Object> {
        resources.iter().find_map(|resources| {
            let kind = resources.get_deref(kind, self.document).ok()?;
            kind.as_dict().ok()?.get(name).ok()
        })
    }

    /// Draws a form, or counts an image.
    fn draw(
        &mut self,
        operands: &[Object],
        resources: &[&'a Dictionary],
        to_page: Matrix,
        depth: usize,
    ) {
        let Some(name) = operands.first().and_then(|name| name.as_name().ok()) else {
            return;
        };
        let object = self.resource(resources, b"XObject", name);
        let stream = object
            .and_then(|object| self.document.dereference(object).ok())
            .and_then(|(_, object)| object.as_stream().ok());
        let Some(stream) = stream else { return };
        let subtype = stream.dict.get(b"Subtype").and_then(Object::as_name);
        if subtype.is_ok_and(|subtype| subtype == b"Image") {
            self.out.num_images += 1;
            return;
        }
        if depth >= MOST_DEPTH {
            return;
        }
        let matrix = stream
            .dict
            .get_deref(b"Matrix", self.document)
            .and_then(Object::as_array);
        let matrix = matrix.ok().and_then(|matrix| Matrix::of(matrix));
        let own = stream
            .dict
            .get_deref(b"Resources", self.document)
            .and_then(Object::as_dict);
        let mut inner: Vec<&'a Dictionary> = own.ok().into_iter().collect();
        inner.extend(resources);
        if let Ok(content) = stream.get_plain_content_with_limit(MOST_CONTENT) {
            let to_page = matrix.unwrap_or(Matrix::IDENTITY).then(to_page);
            self.run(&content, &inner, to_page, depth + 1);
        }
    }
}

impl Cursor {
    fn next_line(&mut self, x: f32, y: f32) {
        self.line = Matrix::moved(x, y).then(self.line);
        self.text = self.line;
    }
}

/// Page headers, footers and watermarks, where the file says so.
fn is_artifact(operands: &[Object]) -> bool {
    let tag = operands.first().and_then(|tag| tag.as_name().ok());
    tag == Some(b"Artifact")
}

/// Adds a character that stands at `matrix` to the piece.
fn place(
    matrix: &Matrix,
    width: f32,
    size: f32,
    text: &str,
    font: &Font,
    piece: &mut Option<Piece>,
) {
    let [a, b, c, d, x, y] = matrix.0;
    let (along, across) = (a.hypot(b), c.hypot(d));
    let values = [along, across, x, y, width, size];
    if values
        .iter()
        .any(|value| !value.is_finite() || value.abs() > 1e6)
    {
        return;
    }
    // Which way the line runs on the page: right, up, left or down.
    let (turn, from, line) = if a.abs() >= b.abs() {
        if a >= 0.0 { (0, x, -y) } else { (2, -x, y) }
    } else if b > 0.0 {
        (1, y, x)
    } else {
        (3, -y, -x)
    };
    let (left, right) = (from, from + width * along);
    match piece {
        Some(piece) => {
            piece.text.push_str(text);
            piece.right = piece.right.max(right);
        }
        None => {
            *piece = Some(Piece {
                text: text.to_owned(),
                left,
                right: right.max(left),
                line,
                size: (size * across).abs(),
                turn,
                is_bold: font.is_bold,
                is_monospaced: font.is_monospaced,
            });
        }
    }
}
