//! Files that are made to take all memory or all time: each ends soon, in an answer or a refusal.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::time::{Duration, Instant};

use lopdf::{Dictionary, Object, ObjectId, Stream, dictionary};

use super::formats::{DOCX_RELATIONS, docx, package, read_bytes_as};
use super::pdf::{pdf, saved};
use super::*;

/// Far more than any of these needs; a slip makes it hours.
const SOON: Duration = Duration::from_secs(120);

fn soon(name: &str, bytes: &[u8]) -> Result<Document, SkipReason> {
    let started = Instant::now();
    let result = read_bytes_as(name, bytes);
    let elapsed = started.elapsed();
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
    assert!(elapsed < SOON, "{name} took {elapsed:?}: {head}");
    result
}

#[test]
fn a_package_beyond_all_bounds_is_refused() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.start_file("_rels/.rels", options).unwrap();
    writer.write_all(DOCX_RELATIONS.as_bytes()).unwrap();
    writer
        .start_file("word/document.xml", options.large_file(true))
        .unwrap();
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..260 {
        writer.write_all(&zeros).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert!(bytes.len() < 1 << 20);
    let error = soon("a.docx", &bytes).unwrap_err();
    assert!(matches!(error, SkipReason::TooMuch { .. }), "{error}");
}

#[test]
fn a_book_that_repeats_a_chapter_without_end_is_refused() {
    let items = r#"<itemref idref="a"/>"#.repeat(100_000);
    let item = r#"<item id="a" href="a.xhtml"/>"#;
    let book = format!("<package><manifest>{item}</manifest><spine>{items}</spine></package>");
    let chapter = format!("<p>{}</p>", "word ".repeat(20_000));
    let parts = [
        (
            "META-INF/container.xml",
            r#"<rootfile full-path="book.opf"/>"#,
        ),
        ("book.opf", book.as_str()),
        ("a.xhtml", chapter.as_str()),
    ];
    let error = soon("a.epub", &package(&parts)).unwrap_err();
    assert!(matches!(error, SkipReason::TooMuch { .. }), "{error}");
}

#[test]
fn nothing_expands_in_a_document_and_tables_may_be_deep() {
    let laughs = r#"<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>"#;
    let body = "<w:p><w:r><w:t>one &c; two</w:t></w:r></w:p>";
    let document = format!("{laughs}<w:document>{body}</w:document>");
    let parts = [
        ("_rels/.rels", DOCX_RELATIONS),
        ("word/document.xml", &document),
    ];
    let document = soon("a.docx", &package(&parts)).unwrap();
    assert_eq!(document.text, "one two");

    let open = "<w:tbl><w:tr><w:tc>".repeat(100_000);
    let long = "long ".repeat(100_000);
    let close = "</w:tc></w:tr></w:tbl>".repeat(100_000);
    let body = format!("{open}<w:p><w:r><w:t>{long}</w:t></w:r></w:p>{close}");
    let document = soon("a.docx", &docx(&body)).unwrap();
    assert_eq!(document.text.matches("long").count(), 100_000);
}

#[test]
fn what_is_opened_again_and_again_ends() {
    for open in [
        "<div>",
        "<ul><li>",
        "<table><tr><td>",
        "<b>",
        "<blockquote>",
        "<pre>",
        "<h1>",
        "<a href='",
        "<!--",
    ] {
        let _ = soon("a.html", (open.repeat(100_000) + "text").as_bytes());
    }
    for open in [
        "> ",
        "- ",
        "[",
        "![",
        "*a ",
        "`",
        "<a ",
        "| ",
        "# ",
        "1. ",
        "&#",
        "[a]: b\n",
        "a|b\n-|-\n",
    ] {
        let _ = soon("a.md", open.repeat(30_000).as_bytes());
    }
    for open in [
        "{",
        "fn a(",
        "/*",
        "\"",
        "class A {\n",
        "#if\n",
        "'''",
        "def a():\n ",
        "<",
        "// a\n",
        "(\n",
    ] {
        let _ = soon("a.py", open.repeat(100_000).as_bytes());
        let _ = soon("a.rs", open.repeat(100_000).as_bytes());
    }
    for (name, open) in [
        ("a.jsonl", "["),
        ("a.jsonl", "{\"a\":"),
        ("a.csv", ","),
        ("a.csv", "\"a,"),
        ("a.csv", "\"\",\"\n"),
        ("a.txt", "\n"),
        ("a.txt", "1.1 A\n"),
    ] {
        let _ = soon(name, open.repeat(1_000_000).as_bytes());
    }
}

#[test]
fn a_mail_in_a_mail_without_end_is_read_to_some_depth() {
    let mut mail = "Subject: innermost\r\n\r\ntext\r\n".to_owned();
    for depth in 0..200 {
        mail = format!(
            "Subject: {depth}\r\nContent-Type: multipart/mixed; boundary=b{depth}\r\n\r\n\
             --b{depth}\r\nContent-Type: message/rfc822\r\n\r\n{mail}\r\n--b{depth}--\r\n"
        );
    }
    let document = soon("a.eml", mail.as_bytes()).unwrap();
    assert!(document.text.starts_with("199"));
    let part = "--x\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nb\r\n";
    let parts = part.repeat(50_000);
    let mail = format!("Content-Type: multipart/mixed; boundary=x\r\n\r\n{parts}--x--");
    let _ = soon("a.eml", mail.as_bytes());
}

/// A file of one page that shows `content`, which may draw the forms `F0`, `F1` … of `forms`.
fn pdf_of(content: &[u8], forms: &[Vec<u8>]) -> lopdf::Document {
    let mut document = pdf(&[&[("Latin", 10.0, (72.0, 700.0), b"first")]]);
    let page_id = document.page_iter().next().unwrap();
    let page = document.get_dictionary(page_id).unwrap();
    let mut resources = page
        .get(b"Resources")
        .and_then(Object::as_dict)
        .unwrap()
        .clone();
    let ids: Vec<ObjectId> = forms.iter().map(|_| document.new_object_id()).collect();
    let mut drawn = Dictionary::new();
    for (index, id) in ids.iter().enumerate() {
        drawn.set(format!("F{index}"), Object::Reference(*id));
    }
    resources.set("XObject", drawn);
    let resources = document.add_object(resources);
    for (form, id) in forms.iter().zip(ids) {
        let described = dictionary! { "Subtype" => "Form", "Resources" => resources };
        let mut stream = Stream::new(described, form.clone());
        stream.compress().unwrap();
        document.objects.insert(id, Object::Stream(stream));
    }
    let mut content = Stream::new(Dictionary::new(), content.to_vec());
    content.compress().unwrap();
    let content = document.add_object(content);
    let page = dictionary_mut(&mut document, page_id);
    page.set("Contents", content);
    page.set("Resources", resources);
    document
}

fn dictionary_mut(document: &mut lopdf::Document, id: ObjectId) -> &mut Dictionary {
    let object = document.get_object_mut(id);
    object.and_then(Object::as_dict_mut).unwrap()
}

fn page_tree(document: &lopdf::Document) -> ObjectId {
    let catalog = document.catalog().unwrap();
    catalog.get(b"Pages").unwrap().as_reference().unwrap()
}

#[test]
fn forms_that_draw_themselves_or_each_other_end() {
    let shown = b"BT /Latin 10 Tf 1 0 0 1 72 650 Tm (form) Tj ET /F0 Do".to_vec();
    let document = soon("a.pdf", &saved(pdf_of(b"/F0 Do", &[shown]))).unwrap();
    assert!(document.text.contains("form"));
    // Each draws the next ten times: 10^11 in all.
    let draws = |next: usize| format!("/F{next} Do\n").repeat(10).into_bytes();
    let forms: Vec<Vec<u8>> = (1..12).map(draws).collect();
    let _ = soon("a.pdf", &saved(pdf_of(b"/F0 Do", &forms)));
    // Each of many draws unpacks a large form.
    let large = b"0 g ".repeat(1 << 20);
    let result = soon(
        "a.pdf",
        &saved(pdf_of(&b"/F0 Do ".repeat(100_000), &[large])),
    );
    assert!(
        matches!(result, Err(SkipReason::TooMuch { .. })),
        "{result:?}"
    );
}

/// Each is within the bound of one stream. Neither a table that leads nowhere nor one without pages may
/// be a way around the bound of all.
#[test]
fn objects_in_many_streams_are_too_much_however_the_file_is_read() {
    let mut document = pdf(&[&[("Latin", 10.0, (72.0, 700.0), b"a page")]]);
    let mut content = b"9000 0 (text) ".to_vec();
    content.resize(15 << 20, b' ');
    // The writer leaves streams of objects out, so they get their name in the finished file.
    let described = dictionary! { "Type" => "ObjXxx", "N" => 1, "First" => 7 };
    let mut stream = Stream::new(described, content);
    stream.compress().unwrap();
    for _ in 0..3 {
        document.add_object(stream.clone());
    }
    let named = |document: lopdf::Document| {
        let bytes = saved(document);
        replaced(&bytes, b"ObjXxx", b"ObjStm")
    };
    let few = named(document.clone());
    assert_eq!(soon("a.pdf", &few).unwrap().text, "a page");
    for _ in 0..6 {
        document.add_object(stream.clone());
    }
    let many = named(document.clone());
    let lost = replaced(&many, b"startxref", b"startxxxx");
    let without_pages = replaced(&many, b"/Kids", b"/Xids");
    for bytes in [many, lost, without_pages] {
        let result = soon("a.pdf", &bytes);
        let is_refused = matches!(result, Err(SkipReason::TooMuch { .. }));
        assert!(is_refused, "{result:?}");
    }
}

/// `bytes` with each `old` turned to `new`, which is as long.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = (0..bytes.len().saturating_sub(old.len()))
        .filter(|&at| bytes[at..].starts_with(old))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + old.len()].copy_from_slice(new);
    }
    bytes
}

#[test]
fn pages_that_lead_in_a_circle_end() {
    let mut document = pdf(&[&[("Latin", 10.0, (72.0, 700.0), b"a page")]]);
    let (tree, page) = (page_tree(&document), document.page_iter().next().unwrap());
    let pages = dictionary_mut(&mut document, tree);
    pages.set("Parent", Object::Reference(tree));
    let kids: Vec<Object> = [page, tree].map(Object::Reference).to_vec();
    pages.set("Kids", kids);
    pages.set("Resources", Object::Reference(tree));
    let _ = soon("a.pdf", &saved(document));
}

#[test]
fn pages_of_the_same_endless_content_are_read_in_part() {
    let mut document = pdf_of(&b"BT /Latin 9 Tf (text) Tj ET\n".repeat(100_000), &[]);
    let (tree, page) = (page_tree(&document), document.page_iter().next().unwrap());
    let endless = document.get_dictionary(page).unwrap().clone();
    let shown = b"BT /Latin 9 Tf 72 700 Td (a page of its own) Tj ET".to_vec();
    let shown = document.add_object(Stream::new(Dictionary::new(), shown));
    dictionary_mut(&mut document, page).set("Contents", shown);
    let mut kids = vec![Object::Reference(page)];
    for _ in 0..3000 {
        kids.push(document.add_object(endless.clone()).into());
    }
    let pages = dictionary_mut(&mut document, tree);
    pages.set("Kids", kids);
    pages.set("Count", 3001);
    let document = soon("a.pdf", &saved(document)).unwrap();
    assert!(document.text.contains("a page of its own"));
    let is_told = |gap: &SkipReason| matches!(gap, SkipReason::TooMuch { .. });
    assert!(document.gaps.iter().any(is_told), "{:?}", document.gaps);
}

#[test]
fn letters_anywhere_on_a_page_end() {
    let mut content = "BT /Latin 1 Tf\n".to_owned();
    for index in 0..150_000_u32 {
        // Far apart and in no order, on one line and on as many as there are letters.
        let x = f64::from(index.wrapping_mul(2_654_435_761) >> 12) / 4.0;
        for y in [500.0, x] {
            let _ = writeln!(content, "1 0 0 1 {x} {y} Tm (a) Tj");
        }
    }
    content.push_str("ET");
    let _ = soon("a.pdf", &saved(pdf_of(content.as_bytes(), &[])));
    let dots = "a.....".repeat(200_000);
    let content = format!("BT /Latin 9 Tf 72 700 Td ({dots}) Tj ET");
    let _ = soon("a.pdf", &saved(pdf_of(content.as_bytes(), &[])));
}
