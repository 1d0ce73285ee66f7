//! Pages of PDF: what is taken out of them, what readers put onto them, what cannot be read.

use lopdf::{Object, Stream, dictionary};

use super::formats::{blocks, read_bytes_as};
use super::pdf::{Shown, pdf, saved};
use super::*;

const LEFT: f32 = 72.0;

/// Pages of the lines that `lines` gives for each, from the top.
fn pages(count: u32, lines: impl Fn(u32) -> Vec<String>) -> Document {
    let texts: Vec<Vec<String>> = (1..=count).map(lines).collect();
    let shown: Vec<Vec<Shown<'_>>> = texts
        .iter()
        .map(|lines| {
            let line = |(index, text)| shown_line(index, text);
            (0..).zip(lines).map(line).collect()
        })
        .collect();
    let pages: Vec<&[Shown<'_>]> = shown.iter().map(Vec::as_slice).collect();
    read_bytes_as("a.pdf", &saved(pdf(&pages))).unwrap()
}

fn shown_line(index: u16, text: &String) -> Shown<'_> {
    let y = 760.0 - f32::from(index) * 30.0;
    ("Latin", 10.0, (LEFT, y), text.as_bytes())
}

#[test]
fn headers_and_page_numbers_go_and_numbers_of_the_text_stay() {
    let document = pages(5, |page| {
        vec![
            "ACME Corp, 2024, Confidential".to_owned(),
            format!("Invoice No. {}", 10_022 + page),
            format!("Date: 2024-0{page}-10"),
            format!("It speaks of matter {page} at length."),
            "So do others, and they say so here.".to_owned(),
            "They go on until the page is full.".to_owned(),
            format!("Net: {}.50 EUR", 900 + 100 * page),
            format!("Total: {} EUR", 1071 + 119 * page),
            format!("file:///acme.html {page}/5"),
            format!("Page {page} of 5"),
        ]
    });
    for page in 1..=5 {
        let numbers = [
            format!("Invoice No. {}", 10_022 + page),
            format!("Date: 2024-0{page}-10"),
            format!("Net: {}.50 EUR", 900 + 100 * page),
            format!("Total: {} EUR", 1071 + 119 * page),
        ];
        for number in numbers {
            assert!(document.text.contains(&number), "{number}");
        }
    }
    for repeated in ["Confidential", "/5", "of 5"] {
        assert!(!document.text.contains(repeated), "{repeated}");
    }
}

#[test]
fn the_number_of_a_page_is_none_of_its_headings() {
    let document = pages(2, |page| {
        vec![
            format!("Section {page} tells how the costs are shared."),
            format!("Page {page}"),
        ]
    });
    assert!(!document.text.contains("Page"), "{}", document.text);
}

/// Letters drawn as outlines, on the page that shows no text.
fn with_drawing(mut document: lopdf::Document, page: u32) -> lopdf::Document {
    let id = document.get_pages()[&page];
    let curves = b"0 0 m 1 1 2 2 3 3 c 4 4 l f\n".repeat(40);
    let content = document.add_object(Stream::new(lopdf::Dictionary::new(), curves));
    let page = document.get_object_mut(id).and_then(Object::as_dict_mut);
    page.unwrap().set("Contents", content);
    document
}

#[test]
fn pages_of_outlines_are_pictures_and_not_empty() {
    let drawn = with_drawing(pdf(&[&[]]), 1);
    let error = read_bytes_as("a.pdf", &saved(drawn)).unwrap_err();
    assert!(matches!(error, SkipReason::Scanned { .. }), "{error}");
    assert!(error.is_failure());
    let text: &[Shown<'_>] = &[("Latin", 10.0, (LEFT, 700.0), b"There is text on this page.")];
    let half = with_drawing(pdf(&[text, &[]]), 2);
    let half = read_bytes_as("a.pdf", &saved(half)).unwrap();
    let (pages, num_pages) = (vec![2], 2);
    assert_eq!(half.gaps, [SkipReason::Scanned { pages, num_pages }]);
}

#[test]
fn values_of_fields_and_remarks_are_read() {
    let mut document = pdf(&[&[
        ("Latin", 10.0, (LEFT, 700.0), b"Name"),
        ("Latin", 10.0, (LEFT, 500.0), b"Please sign the form."),
    ]]);
    let rectangle = |y: i64| vec![Object::from(110), y.into(), 300.into(), (y + 18).into()];
    let text = |text: &str| lopdf::text_string(text);
    let name = document.add_object(dictionary! { "FT" => "Tx", "V" => text("李雷 Li") });
    let annotations: Vec<Object> = vec![
        dictionary! { "Subtype" => "Widget", "Parent" => name, "Rect" => rectangle(694) }.into(),
        dictionary! { "Subtype" => "Widget", "FT" => "Tx", "Ff" => 1 << 13, "V" => text("SECRET"), "Rect" => rectangle(600) }.into(),
        dictionary! { "Subtype" => "Widget", "FT" => "Tx", "F" => 2, "V" => text("HIDDEN"), "Rect" => rectangle(600) }.into(),
        dictionary! { "Subtype" => "FreeText", "Contents" => text("Urgent!"), "Rect" => rectangle(640) }.into(),
        dictionary! { "Subtype" => "Text", "Contents" => text("Ask him again."), "Rect" => rectangle(640) }.into(),
        dictionary! { "Subtype" => "Link", "Contents" => text("LINK"), "Rect" => rectangle(640) }.into(),
    ];
    let page = document.get_pages()[&1];
    let page = document.get_object_mut(page).and_then(Object::as_dict_mut);
    page.unwrap().set("Annots", annotations);
    let document = read_bytes_as("a.pdf", &saved(document)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "page 1: p Name 李雷 Li",
            "page 1: p Urgent!",
            "page 1: p Please sign the form.",
            "page 1: p Ask him again.",
        ]
    );
}

#[test]
fn a_hyphen_that_the_document_has_elsewhere_stays() {
    let document = pdf(&[&[
        (
            "Latin",
            10.0,
            (LEFT, 700.0),
            b"A human-readable name is told in the Markup-",
        ),
        (
            "Latin",
            10.0,
            (LEFT, 688.0),
            b"multiline field, or in another one that is human-",
        ),
        (
            "Latin",
            10.0,
            (LEFT, 676.0),
            b"readable, as Markup-multiline is, with infor-",
        ),
        ("Latin", 10.0, (LEFT, 664.0), b"mation for all who read."),
    ]]);
    let document = read_bytes_as("a.pdf", &saved(document)).unwrap();
    assert_eq!(
        document.text,
        "A human-readable name is told in the Markup-multiline field, or in another one that is \
         human-readable, as Markup-multiline is, with information for all who read."
    );
}

#[test]
fn columns_written_line_by_line_are_no_table() {
    let left = [
        "The first column says",
        "that it goes on in",
        "lines of its own and",
        "does not care for what",
        "stands beside it here.",
    ];
    let right = [
        "In the second column",
        "there are others, for",
        "which the same is true",
        "although nobody has",
        "asked them about it.",
    ];
    let mut lines = Vec::new();
    for (index, (left, right)) in (0_u8..).zip(left.iter().zip(right)) {
        let y = 700.0 - f32::from(index) * 12.0;
        lines.push(("Latin", 10.0, (LEFT, y), left.as_bytes()));
        lines.push(("Latin", 10.0, (320.0, y), right.as_bytes()));
    }
    let document = read_bytes_as("a.pdf", &saved(pdf(&[&lines]))).unwrap();
    let words = |lines: &[&str]| lines.join(" ");
    assert_eq!(
        document.text,
        format!("{}\n\n{}", words(&left), words(&right))
    );
}
