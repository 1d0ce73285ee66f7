//! Every format in a small file of its own: text, order, headings, tables, places.

use std::io::{Cursor, Write};
use std::path::Path;

use super::*;

pub(super) fn read_bytes_as(name: &str, bytes: &[u8]) -> Result<Document, SkipReason> {
    let path = Path::new(name);
    let file = SourceFile {
        path: path.to_owned(),
        kind: Kind::from_path(path),
        bytes: bytes.len() as u64,
        modified: 0,
    };
    decode_document(&file, bytes.to_vec())
}

/// `place: kind text` of each block.
pub(super) fn blocks(document: &Document) -> Vec<String> {
    let shown = |block: &Block| {
        let (first, last) = document.source.lines(&block.span);
        let place = document
            .places()
            .and_then(|places| places.locate(first as u64, last as u64));
        let place = place.map_or(String::new(), |place| format!("{place}: "));
        let kind = match &block.kind {
            BlockKind::Heading { level, .. } => format!("h{level}"),
            BlockKind::Paragraph => "p".to_owned(),
            BlockKind::List => "list".to_owned(),
            BlockKind::Code => "code".to_owned(),
            BlockKind::Table => "table".to_owned(),
            BlockKind::Markup => "markup".to_owned(),
        };
        format!("{place}{kind} {}", &document.text[block.span.clone()])
    };
    document.blocks.iter().map(shown).collect()
}

pub(super) fn package(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, content) in parts {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub(super) const DOCX_RELATIONS: &str = r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>"#;

pub(super) fn docx(body: &str) -> Vec<u8> {
    let part_relations = r#"<Relationships><Relationship Id="s" Type="x/styles" Target="styles.xml"/><Relationship Id="n" Type="x/footnotes" Target="footnotes.xml"/></Relationships>"#;
    let styles = r#"<w:styles><w:style w:styleId="a1"><w:name w:val="heading 1"/></w:style><w:style w:styleId="mine"><w:basedOn w:val="a1"/></w:style><w:style w:styleId="o"><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style></w:styles>"#;
    package(&[
        ("_rels/.rels", DOCX_RELATIONS),
        ("word/_rels/document.xml.rels", part_relations),
        ("word/styles.xml", styles),
        (
            "word/footnotes.xml",
            "<w:footnotes><w:footnote><w:p><w:r><w:t>脚注</w:t></w:r></w:p></w:footnote></w:footnotes>",
        ),
        (
            "word/document.xml",
            &format!("<w:document><w:body>{body}</w:body></w:document>"),
        ),
    ])
}

#[test]
fn a_word_document_keeps_headings_lists_tables_and_notes() {
    let body = r#"<w:p><w:pPr><w:pStyle w:val="mine"/></w:pPr><w:r><w:t>费用</w:t></w:r></w:p>
        <w:p><w:r><w:t xml:space="preserve">One </w:t></w:r><w:r><w:t>&amp; two&#x21;</w:t><w:tab/><w:delText>gone</w:delText><w:instrText>PAGE</w:instrText></w:r></w:p>
        <w:p><w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="3"/></w:numPr></w:pPr><w:r><w:lastRenderedPageBreak/><w:t>item</w:t></w:r></w:p>
        <w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
        <w:p><w:pPr><w:pStyle w:val="o"/></w:pPr><w:r><w:t>Third</w:t></w:r></w:p>
        <mc:AlternateContent><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Choice><mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>"#;
    let document = read_bytes_as("文档.docx", &docx(body)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "page 1: h1 费用",
            "page 1: p One & two!",
            "page 2: list   - item",
            "page 2: table a b | c",
            "page 2: h3 Third",
            "page 2: p box",
            "page 2: p 脚注",
        ]
    );
    assert_eq!(document.title(), Some("费用"));
}

#[test]
fn slides_are_numbered_and_notes_follow() {
    let slide = |title: &str, body: &str| {
        format!(
            r#"<p:sld><p:sp><p:nvSpPr><p:nvPr/></p:nvSpPr><p:txBody>{body}</p:txBody></p:sp><p:sp><p:nvPr><p:ph type="title"/></p:nvPr><a:p><a:r><a:t>{title}</a:t></a:r></a:p></p:sp><p:sp><p:nvPr><p:ph type="sldNum"/></p:nvPr><a:p><a:t>9</a:t></a:p></p:sp></p:sld>"#
        )
    };
    let table = "<a:tbl><a:tr><a:tc><a:p><a:t>x</a:t></a:p></a:tc><a:tc><a:p><a:t>y</a:t></a:p></a:tc></a:tr></a:tbl>";
    let list = r#"<a:p><a:t>first</a:t></a:p><a:p><a:pPr lvl="1"/><a:t>second</a:t></a:p>"#;
    let bytes = package(&[
        (
            "ppt/presentation.xml",
            r#"<p:presentation><p:sldId id="256" r:id="r2"/><p:sldId id="257" r:id="r1"/></p:presentation>"#,
        ),
        (
            "ppt/_rels/presentation.xml.rels",
            r#"<Relationships><Relationship Id="r1" Type="x/slide" Target="slides/slide1.xml"/><Relationship Id="r2" Type="x/slide" Target="/ppt/slides/slide2.xml"/></Relationships>"#,
        ),
        ("ppt/slides/slide1.xml", &slide("表格", table)),
        ("ppt/slides/slide2.xml", &slide("Begin", list)),
        (
            "ppt/slides/_rels/slide2.xml.rels",
            r#"<Relationships><Relationship Id="r1" Type="x/notesSlide" Target="../notesSlides/n.xml"/></Relationships>"#,
        ),
        (
            "ppt/notesSlides/n.xml",
            r#"<p:notes><p:sp><p:nvPr><p:ph type="body"/></p:nvPr><a:p><a:t>Say hello.</a:t></a:p></p:sp></p:notes>"#,
        ),
    ]);
    let document = read_bytes_as("a.pptx", &bytes).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "slide 1: h1 Begin",
            "slide 1: list - first\n  - second",
            "slide 1: p Say hello.",
            "slide 2: h1 表格",
            "slide 2: table x | y",
        ]
    );
}

#[test]
fn rows_of_a_workbook_stand_below_their_header() {
    let sheet = r#"<worksheet><sheetData>
        <row r="2"><c r="A2" t="inlineStr"><is><t>姓名</t></is></c><c r="B2" t="inlineStr"><is><t>Age</t></is></c></row>
        <row r="3"><c r="A3" t="inlineStr"><is><t>李雷</t></is></c><c r="B3"><v>0.30000000000000004</v></c></row>
        <row r="9"><c r="B9" t="b"><v>1</v></c></row></sheetData></worksheet>"#;
    let bytes = package(&[
        ("[Content_Types].xml", "<Types/>"),
        (
            "_rels/.rels",
            &DOCX_RELATIONS.replace("word/document.xml", "xl/workbook.xml"),
        ),
        (
            "xl/workbook.xml",
            r#"<workbook xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="人员" sheetId="1" r:id="r1"/></sheets></workbook>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
        ),
        ("xl/worksheets/sheet1.xml", sheet),
    ]);
    let document = read_bytes_as("a.xlsx", &bytes).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "sheet 人员, row 1: h1 人员",
            "sheet 人员, row 2: h2 姓名 | Age",
            "sheet 人员, rows 3-9: table 李雷 | 0.3\n | TRUE",
        ]
    );
}

#[test]
fn chapters_of_a_book_come_in_reading_order() {
    let parts = [
        (
            "META-INF/container.xml",
            r#"<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>"#,
        ),
        (
            "OPS/book.opf",
            r#"<package><metadata><dc:title>诗集</dc:title></metadata><manifest><item id="b" href="b%20c.xhtml"/><item id="a" href="text/a.xhtml"/></manifest><spine><itemref idref="a"/><itemref idref="b"/></spine></package>"#,
        ),
        ("OPS/b c.xhtml", "<html><body><p>Second</p></body></html>"),
        (
            "OPS/text/a.xhtml",
            "<html><body><h1>静夜思</h1><p>床前明月光</p></body></html>",
        ),
    ];
    let document = read_bytes_as("a.epub", &package(&parts)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "chapter 1: h1 诗集",
            "chapter 1: h2 静夜思",
            "chapter 1: p 床前明月光",
            "chapter 2: p Second"
        ]
    );
    let mut locked = parts.to_vec();
    let cipher = r#"<encryption><CipherReference URI="OPS/text/a.xhtml"/></encryption>"#;
    locked.push(("META-INF/encryption.xml", cipher));
    let error = read_bytes_as("a.epub", &package(&locked)).unwrap_err();
    assert_eq!(error, SkipReason::Encrypted);
}

#[test]
fn a_mail_is_read_in_its_encoding_with_what_is_attached() {
    let body = encoding_rs::GBK.encode("会议改到星期三。").0.into_owned();
    let mut mail = b"From: =?utf-8?B?5p2O6Zu3?= <li@example.com>\r\nTo: a@b.c\r\nSubject: =?gb2312?B?u+HS6Q==?=\r\nDate: Tue, 3 Nov 2026 10:00:00 +0800\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=gbk\r\n\r\n".to_vec();
    mail.extend(body);
    mail.extend(b"\r\n--x\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"costs.csv\"\r\n\r\nItem,Cost\r\nTrain,30\r\n--x\r\nContent-Disposition: attachment; filename=\"bad.docx\"\r\n\r\nno\r\n--x--\r\n");
    let document = read_bytes_as("a.eml", &mail).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "h1 会议",
            "p From: 李雷 <li@example.com>\nTo: a@b.c\nDate: 2026-11-03T10:00:00+08:00",
            "p 会议改到星期三。",
            "h2 costs.csv",
            "h3 Item | Cost",
            "table Train | 30",
            "h2 bad.docx",
        ]
    );
    assert!(
        matches!(&document.gaps[..], [SkipReason::Attachment { name, .. }] if name == "bad.docx")
    );
}

#[test]
fn what_is_no_file_of_its_kind_is_told_from_what_is_locked() {
    for name in ["a.pdf", "a.docx", "a.pptx", "a.xlsx", "a.epub"] {
        let error = read_bytes_as(name, b"something else").unwrap_err();
        assert!(
            matches!(error, SkipReason::Broken { .. }),
            "{name}: {error}"
        );
        assert!(error.hint().is_some());
    }
    let ole = [
        &[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1][..],
        b"E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0",
    ]
    .concat();
    assert_eq!(
        read_bytes_as("a.docx", &ole).unwrap_err(),
        SkipReason::Encrypted
    );
}
