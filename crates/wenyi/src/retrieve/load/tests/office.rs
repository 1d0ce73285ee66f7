//! Documents of office programs, books and mails: what is shown where, and what is missing.

use super::formats::{DOCX_RELATIONS, blocks, package, read_bytes_as};
use super::*;

/// A document of Word with parts of its own, each told by its name alone.
fn docx_with(body: &str, parts: &[(&str, &str)]) -> Vec<u8> {
    let relations: Vec<String> = parts
        .iter()
        .map(|(name, _)| {
            format!(r#"<Relationship Id="{name}" Type="x/{name}" Target="{name}.xml"/>"#)
        })
        .collect();
    let relations = format!("<Relationships>{}</Relationships>", relations.concat());
    let document = format!("<w:document><w:body>{body}</w:body></w:document>");
    let names: Vec<String> = parts
        .iter()
        .map(|(name, _)| format!("word/{name}.xml"))
        .collect();
    let mut all = vec![
        ("_rels/.rels", DOCX_RELATIONS),
        ("word/_rels/document.xml.rels", &relations),
        ("word/document.xml", &document),
    ];
    all.extend(
        names
            .iter()
            .zip(parts)
            .map(|(name, (_, part))| (name.as_str(), *part)),
    );
    package(&all)
}

fn paragraph(properties: &str, text: &str) -> String {
    format!("<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>")
}

#[test]
fn lists_of_styles_are_lists_and_have_their_numbers() {
    let styles = r#"<w:styles><w:style w:styleId="B"><w:name w:val="List Bullet"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style><w:style w:styleId="B2"><w:basedOn w:val="B"/><w:pPr><w:numPr><w:ilvl w:val="1"/></w:numPr></w:pPr></w:style><w:style w:styleId="N"><w:pPr><w:numPr><w:numId w:val="2"/></w:numPr></w:pPr></w:style><w:style w:styleId="H"><w:name w:val="heading 1"/><w:pPr><w:numPr><w:numId w:val="3"/></w:numPr></w:pPr></w:style></w:styles>"#;
    let definition = |id: u8, format: &str, text: &str| {
        format!(
            r#"<w:abstractNum w:abstractNumId="{id}"><w:lvl w:ilvl="0"><w:numFmt w:val="{format}"/><w:lvlText w:val="{text}"/></w:lvl></w:abstractNum><w:num w:numId="{id}"><w:abstractNumId w:val="{id}"/></w:num>"#
        )
    };
    let numbering = format!(
        "<w:numbering>{}{}{}</w:numbering>",
        definition(1, "bullet", "•"),
        definition(2, "lowerLetter", "%1)"),
        definition(3, "chineseCounting", "第%1章"),
    );
    let style = |id: &str, text: &str| paragraph(&format!(r#"<w:pStyle w:val="{id}"/>"#), text);
    let body = [
        style("H", "Costs"),
        style("B", "bullet"),
        style("B2", "deeper"),
        style("N", "first"),
        style("N", "second"),
        paragraph(
            r#"<w:pStyle w:val="N"/><w:numPr><w:numId w:val="0"/></w:numPr>"#,
            "none",
        ),
    ]
    .concat();
    let document = docx_with(&body, &[("styles", styles), ("numbering", &numbering)]);
    assert_eq!(
        blocks(&read_bytes_as("a.docx", &document).unwrap()),
        [
            "h1 第一章 Costs",
            "list - bullet\n  - deeper\na) first\nb) second",
            "p none"
        ]
    );
}

#[test]
fn notes_stand_on_their_pages_and_columns_below_each_other() {
    let cell = |properties: &str, text: &str| {
        format!(
            "<w:tc><w:tcPr>{properties}</w:tcPr>{}</w:tc>",
            paragraph("", text)
        )
    };
    let body = [
        r#"<w:p><w:r><w:t>cites</w:t><w:footnoteReference w:id="2"/><w:commentReference w:id="0"/></w:r></w:p>"#.to_owned(),
        format!(
            r#"<w:tbl><w:tr>{}{}</w:tr><w:tr><w:trPr><w:gridBefore w:val="1"/></w:trPr>{}{}</w:tr></w:tbl>"#,
            cell(r#"<w:gridSpan w:val="2"/>"#, "wide"),
            cell("", "c"),
            cell("", "b"),
            cell("", "c"),
        ),
        r#"<w:p><w:moveFrom><w:r><w:t>MOVED</w:t></w:r></w:moveFrom><w:r><w:rPr><w:vanish/></w:rPr><w:t>HIDDEN</w:t></w:r><w:r><w:lastRenderedPageBreak/><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>seen</w:t></w:r></w:p>"#.to_owned(),
    ]
    .concat();
    let footnotes = format!(
        r#"<w:footnotes><w:footnote w:id="2">{}</w:footnote></w:footnotes>"#,
        paragraph("", "a note")
    );
    let comments = format!(
        r#"<w:comments><w:comment w:id="0" w:author="Li">{}</w:comment></w:comments>"#,
        paragraph("", "Why?")
    );
    let bytes = docx_with(&body, &[("footnotes", &footnotes), ("comments", &comments)]);
    let document = read_bytes_as("a.docx", &bytes).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "page 1: p cites",
            "page 1: table wide |  | c\n | b | c",
            "page 2: p seen",
            "page 1: p a note",
            "page 1: p Comment by Li: Why?",
        ]
    );
}

#[test]
fn headers_and_footers_are_read_once() {
    let margin = |kind: &str, texts: &[&str]| {
        let texts: String = texts.iter().map(|text| paragraph("", text)).collect();
        format!("<w:{kind}>{texts}</w:{kind}>")
    };
    let body = [paragraph("", "The text."), paragraph("", "More.")].concat();
    let parts = [
        ("header", margin("hdr", &["ACME Ltd.", "Draft of May"])),
        (
            "footer",
            margin("ftr", &["Page 1 of 3", "第 1 页", "ACME Ltd.", "机密"]),
        ),
    ];
    let parts = parts.each_ref().map(|(kind, xml)| (*kind, xml.as_str()));
    let document = read_bytes_as("a.docx", &docx_with(&body, &parts)).unwrap();
    let expected = [
        "p ACME Ltd.",
        "p Draft of May",
        "p 机密",
        "p The text.",
        "p More.",
    ];
    assert_eq!(blocks(&document), expected);
    // A damaged one is told of, and the rest is read.
    let broken = docx_with(&body, &[("header", "<w:hdr><w:p></w:hdr>")]);
    let document = read_bytes_as("a.docx", &broken).unwrap();
    assert_eq!(blocks(&document), ["p The text.", "p More."]);
}

#[test]
fn a_file_of_another_kind_is_no_empty_document() {
    let workbook = package(&[
        (
            "_rels/.rels",
            &DOCX_RELATIONS.replace("word/document", "xl/workbook"),
        ),
        ("xl/workbook.xml", "<workbook><sheets/></workbook>"),
    ]);
    for bytes in [workbook, docx_with("", &[])] {
        let error = read_bytes_as("a.docx", &bytes).unwrap_err();
        assert!(matches!(error, SkipReason::Broken { .. }), "{error}");
        assert!(error.is_failure());
    }
}

const CHART: &str = r#"<c:chartSpace><c:chart><c:title><a:p><a:t>Revenue</a:t></a:p></c:title><c:ser><c:tx><c:strCache><c:pt idx="0"><c:v>Q1</c:v></c:pt></c:strCache></c:tx><c:cat><c:pt idx="0"><c:v>East</c:v></c:pt><c:pt idx="1"><c:v>West</c:v></c:pt></c:cat><c:val><c:formatCode>General</c:formatCode><c:pt idx="1"><c:v>21.4</c:v></c:pt></c:val></c:ser><c:valAx><c:title><a:p><a:t>Euro</a:t></a:p></c:title></c:valAx></c:chart></c:chartSpace>"#;

#[test]
fn a_slide_shows_its_chart_and_a_broken_one_is_a_gap() {
    let slide = |text: &str| format!("<p:sld><p:sp><a:p><a:t>{text}</a:t></a:p></p:sp></p:sld>");
    let (first, third) = (slide("first"), slide("third"));
    let relations: Vec<String> = (1..=3)
        .map(|number| {
            format!(
                r#"<Relationship Id="r{number}" Type="x/slide" Target="slides/s{number}.xml"/>"#
            )
        })
        .collect();
    let relations = format!("<Relationships>{}</Relationships>", relations.concat());
    let parts = [
        (
            "ppt/presentation.xml",
            r#"<p:presentation><p:sldId r:id="r1"/><p:sldId r:id="r2"/><p:sldId r:id="r3"/><p:sldId r:id="r4"/></p:presentation>"#,
        ),
        ("ppt/_rels/presentation.xml.rels", &relations),
        ("ppt/slides/s1.xml", &first),
        ("ppt/slides/s2.xml", "<p:sld><a:t>cut <"),
        ("ppt/slides/s3.xml", &third),
        (
            "ppt/slides/_rels/s1.xml.rels",
            r#"<Relationships><Relationship Id="c" Type="x/chart" Target="../charts/c.xml"/></Relationships>"#,
        ),
        ("ppt/charts/c.xml", CHART),
    ];
    let document = read_bytes_as("a.pptx", &package(&parts)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "slide 1: h1 Slide 1",
            "slide 1: p first",
            "slide 1: p Revenue\nEuro",
            "slide 1: table  | Q1\nEast\nWest | 21.4",
            "slide 3: h1 Slide 3",
            "slide 3: p third",
        ]
    );
    let gaps: Vec<String> = document.gaps.iter().map(ToString::to_string).collect();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(
        gaps[0].contains("ppt/slides/s2.xml") && gaps[1].contains("slide 4"),
        "{gaps:?}"
    );
}

#[test]
fn broken_and_unnamed_chapters_are_gaps() {
    let parts = [
        ("META-INF/container.xml", r#"<rootfile full-path="b.opf"/>"#),
        (
            "b.opf",
            r#"<package><item id="a" href="a.xhtml"/><item id="b" href="b.xhtml"/><itemref idref="a"/><itemref idref="b"/><itemref idref="ghost"/></package>"#,
        ),
        ("a.xhtml", "<p>good</p>"),
        ("b.xhtml", "\0\u{1}\0\u{1}\0\0\0"),
    ];
    let document = read_bytes_as("a.epub", &package(&parts)).unwrap();
    assert_eq!(document.text.trim(), "good");
    let gaps: Vec<String> = document.gaps.iter().map(ToString::to_string).collect();
    assert!(
        gaps[0].contains("b.xhtml") && gaps[1].contains("ghost"),
        "{gaps:?}"
    );
    let empty = package(&[parts[0], ("b.opf", "<package/>")]);
    assert!(read_bytes_as("a.epub", &empty).unwrap_err().is_failure());
}

/// A workbook of one sheet, with number formats 0: general, 1: percents, 2: `00000`.
fn workbook(rows: &str) -> Vec<u8> {
    let sheet = format!("<worksheet><sheetData>{rows}</sheetData></worksheet>");
    package(&[
        ("[Content_Types].xml", "<Types/>"),
        (
            "_rels/.rels",
            &DOCX_RELATIONS.replace("word/document", "xl/workbook"),
        ),
        (
            "xl/workbook.xml",
            r#"<workbook xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="S" sheetId="1" state="veryHidden" r:id="r1"/></sheets></workbook>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>"#,
        ),
        (
            "xl/styles.xml",
            r#"<styleSheet><numFmts count="1"><numFmt numFmtId="164" formatCode="00000"/></numFmts><cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="10"/><xf numFmtId="164"/></cellXfs></styleSheet>"#,
        ),
        ("xl/worksheets/sheet1.xml", &sheet),
    ])
}

#[test]
fn cells_show_their_formats_and_headers_stand_below_titles() {
    let text = |cell: &str, text: &str| {
        format!(r#"<c r="{cell}" t="inlineStr"><is><t>{text}</t></is></c>"#)
    };
    let rows = [
        format!(r#"<row r="1">{}</row>"#, text("A1", "Sales of the year")),
        format!(r#"<row r="2">{}<c r="B2"><v>2023</v></c><c r="C2"><v>2024</v></c></row>"#, text("A2", "Region")),
        format!(r#"<row r="3">{}<c r="B3" s="1"><v>0.25</v></c><c r="C3" s="2"><v>1234</v></c></row>"#, text("A3", "North")),
        format!(r#"<row r="4">{}<c r="B4"><f>B3*2</f><v></v></c><c r="C4" t="str"><f>A1</f><v></v></c><c r="AMK4"><v>7</v></c></row>"#, text("A4", "South")),
    ]
    .concat();
    let document = read_bytes_as("a.xlsx", &workbook(&rows)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "sheet S, row 1: h1 S",
            "sheet S, row 1: table Sales of the year",
            "sheet S, row 2: h2 Region | 2023 | 2024",
            "sheet S, rows 3-4: table North | 25.00% | 01234\nSouth",
        ]
    );
    let gaps: Vec<String> = document.gaps.iter().map(ToString::to_string).collect();
    assert!(gaps[0].contains("beyond column 1024"), "{gaps:?}");
    assert!(gaps[1].contains("1 of its formulas"), "{gaps:?}");
}

#[test]
fn attachments_are_read_by_their_type_and_missed_ones_are_told() {
    let parts = [
        ("Content-Type: text/plain; name=README", "read me first"),
        ("Content-Type: text/plain", "no name"),
        ("Content-Type: application/pdf", "%PDF-1.4 cut"),
        (
            "Content-Type: text/calendar; name=a.ics",
            "SUMMARY:planning",
        ),
        ("Content-Type: application/zip; name=a.zip", "PK"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .map(|(head, body)| {
            format!("--x\r\n{head}\r\nContent-Disposition: attachment\r\n\r\n{body}\r\n")
        })
        .collect();
    let logo = "--x\r\nContent-Type: image/png; name=logo.png\r\nContent-ID: <logo>\r\n\r\nPNG\r\n";
    let mail = format!(
        "Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nbody\r\n{}{logo}--x--\r\n",
        parts.concat()
    );
    let document = read_bytes_as("a.eml", mail.as_bytes()).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "h1 s",
            "p body",
            "h2 README",
            "p read me first",
            "h2 Attachment 2",
            "p no name",
            "h2 Attachment 3",
            "h2 a.ics",
            "p SUMMARY:planning",
            "h2 a.zip",
        ]
    );
    let gaps: Vec<&str> = document
        .gaps
        .iter()
        .filter_map(|gap| match gap {
            SkipReason::Attachment { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(gaps, ["Attachment 3", "a.zip"]);
}

#[test]
fn mails_too_deep_in_mails_are_told() {
    let mut mail = "Subject: innermost\r\n\r\ntext\r\n".to_owned();
    for depth in 0..8 {
        mail = format!(
            "Subject: {depth}\r\nContent-Type: multipart/mixed; boundary=b{depth}\r\n\r\n\
             --b{depth}\r\nContent-Type: message/rfc822\r\n\r\n{mail}\r\n--b{depth}--\r\n"
        );
    }
    let document = read_bytes_as("a.eml", mail.as_bytes()).unwrap();
    assert!(!document.text.contains("innermost"));
    assert!(
        matches!(&document.gaps[..], [SkipReason::Attachment { .. }]),
        "{:?}",
        document.gaps
    );
}
