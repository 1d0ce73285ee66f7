//! PDF in small files of its own: what stands on the pages, in which order, and what cannot be read.

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Object, Stream, dictionary};

use super::formats::{blocks, read_bytes_as};
use super::*;

/// A string on a page: font, size, place, bytes.
pub(super) type Shown<'a> = (&'a str, f32, (f32, f32), &'a [u8]);

/// A PDF of pages that show strings.
pub(super) fn pdf(pages: &[&[Shown<'_>]]) -> lopdf::Document {
    let mut document = lopdf::Document::with_version("1.5");
    let to_unicode = b"1 begincodespacerange <0000> <FFFF> endcodespacerange 1 beginbfrange <0001> <0002> <4E2D> endbfrange".to_vec();
    let map = document.add_object(Stream::new(Dictionary::new(), to_unicode));
    let descendant = |subtype: &str| {
        dictionary! { "Type" => "Font", "Subtype" => subtype, "DW" => 1000 }
    };
    let fonts = dictionary! {
        "Latin" => dictionary! { "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica", "Encoding" => "WinAnsiEncoding" },
        "Gbk" => dictionary! { "Type" => "Font", "Subtype" => "Type0", "BaseFont" => "SimSun", "Encoding" => "GBK-EUC-H", "DescendantFonts" => vec![descendant("CIDFontType0").into()] },
        "Cid" => dictionary! { "Type" => "Font", "Subtype" => "Type0", "BaseFont" => "X", "Encoding" => "Identity-H", "ToUnicode" => map, "DescendantFonts" => vec![descendant("CIDFontType2").into()] },
    };
    let fonts = document.add_object(fonts);
    let pages_id = document.new_object_id();
    let mut kids = Vec::new();
    for strings in pages {
        let mut operations = vec![Operation::new("BT", vec![])];
        for (font, size, (x, y), bytes) in *strings {
            let matrix: Vec<Object> = [1.0, 0.0, 0.0, 1.0, *x, *y].map(Object::Real).to_vec();
            let string = Object::String(bytes.to_vec(), lopdf::StringFormat::Literal);
            operations.push(Operation::new("Tf", vec![(*font).into(), (*size).into()]));
            operations.push(Operation::new("Tm", matrix));
            operations.push(Operation::new("Tj", vec![string]));
        }
        operations.push(Operation::new("ET", vec![]));
        let mut content = Content { operations }.encode().unwrap();
        if strings.is_empty() {
            content = b"/Scan Do".to_vec();
        }
        let content = document.add_object(Stream::new(Dictionary::new(), content));
        let image = document.add_object(Stream::new(dictionary! { "Subtype" => "Image" }, vec![0]));
        let page = dictionary! {
            "Type" => "Page", "Parent" => pages_id, "Contents" => content,
            "Resources" => dictionary! { "Font" => fonts, "XObject" => dictionary! { "Scan" => image } },
        };
        kids.push(document.add_object(page).into());
    }
    let count = kids.len() as i64;
    let tree = dictionary! { "Type" => "Pages", "Kids" => kids, "Count" => count };
    document.objects.insert(pages_id, Object::Dictionary(tree));
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages_id });
    document.trailer.set("Root", catalog);
    document.trailer.set(
        "ID",
        vec![
            Object::string_literal("0123456789abcdef"),
            Object::string_literal("0123456789abcdef"),
        ],
    );
    document
}

pub(super) fn saved(mut document: lopdf::Document) -> Vec<u8> {
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn chinese_pdf_text_comes_from_maps_and_encodings() {
    let gbk = encoding_rs::GBK
        .encode("文意把文本变成向量，")
        .0
        .into_owned();
    let more = encoding_rs::GBK.encode("在本机回答问题。").0.into_owned();
    let document = pdf(&[
        &[
            ("Latin", 20.0, (72.0, 700.0), b"Caf\xe9 report"),
            ("Gbk", 10.0, (72.0, 660.0), &gbk),
            ("Gbk", 10.0, (72.0, 646.0), &more),
        ],
        &[
            ("Cid", 10.0, (72.0, 700.0), &[0, 1, 0, 2]),
            ("Latin", 10.0, (72.0, 500.0), b"Item"),
            ("Latin", 10.0, (200.0, 500.0), b"Cost"),
            ("Latin", 10.0, (72.0, 486.0), b"Train"),
            ("Latin", 10.0, (200.0, 486.0), b"30"),
        ],
    ]);
    let document = read_bytes_as("a.pdf", &saved(document)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "page 1: h1 Café report",
            "page 1: p 文意把文本变成向量，在本机回答问题。",
            "page 2: p 中丮",
            "page 2: table Item | Cost\nTrain | 30",
        ]
    );
}

#[test]
fn scanned_locked_and_cut_files_are_told_apart() {
    let scan = saved(pdf(&[&[], &[]]));
    let scanned = read_bytes_as("scan.pdf", &scan).unwrap_err();
    assert_eq!(
        scanned,
        SkipReason::Scanned {
            pages: vec![1, 2],
            num_pages: 2
        }
    );
    let half = saved(pdf(&[
        &[],
        &[("Latin", 10.0, (72.0, 700.0), b"There is text on this page.")],
    ]));
    let half = read_bytes_as("half.pdf", &half).unwrap();
    assert_eq!(
        half.gaps,
        [SkipReason::Scanned {
            pages: vec![1],
            num_pages: 2
        }]
    );

    let mut locked = pdf(&[&[("Latin", 10.0, (72.0, 700.0), b"secret")]]);
    let version = lopdf::EncryptionVersion::V2 {
        document: &locked,
        owner_password: "owner",
        user_password: "user",
        key_length: 128,
        permissions: lopdf::Permissions::all(),
    };
    let state = lopdf::EncryptionState::try_from(version).unwrap();
    locked.encrypt(&state).unwrap();
    assert_eq!(
        read_bytes_as("locked.pdf", &saved(locked)).unwrap_err(),
        SkipReason::Encrypted
    );

    // Encrypted against printing: anybody may read it. Some programs write the dictionary into the
    // trailer, others refer to it.
    let mut open = pdf(&[&[("Latin", 10.0, (72.0, 700.0), b"for everybody")]]);
    let version = lopdf::EncryptionVersion::V2 {
        document: &open,
        owner_password: "owner",
        user_password: "",
        key_length: 128,
        permissions: lopdf::Permissions::all(),
    };
    let state = lopdf::EncryptionState::try_from(version).unwrap();
    open.encrypt(&state).unwrap();
    let dictionary = open.get_encrypted().unwrap().clone();
    let referred = saved(open);
    let at = referred
        .windows(9)
        .rposition(|word| word == b"/Encrypt ")
        .unwrap();
    let end = at
        + referred[at..]
            .iter()
            .position(|&byte| byte == b'R')
            .unwrap();
    let mut direct = referred[..at + 9].to_vec();
    lopdf::Writer::write_object(&mut direct, &Object::Dictionary(dictionary)).unwrap();
    direct.extend(&referred[end + 1..]);
    for bytes in [&referred, &direct] {
        let document = read_bytes_as("open.pdf", bytes).unwrap();
        assert_eq!(document.text.trim(), "for everybody");
    }

    let whole = saved(pdf(&[&[(
        "Latin",
        10.0,
        (72.0, 700.0),
        b"There is a page.",
    )]]));
    let cut = whole
        .windows(5)
        .position(|word| word == b"ET\nen")
        .unwrap_or(whole.len() / 3);
    let error = read_bytes_as("cut.pdf", &whole[..cut]).unwrap_err();
    assert!(matches!(error, SkipReason::Broken { .. }), "{error}");
}

#[test]
fn cells_are_whole_in_whatever_order_their_letters_are_written() {
    let line = |x: f32, text: &'static [u8]| ("Latin", 10.0, (x, 700.0), text);
    let document = pdf(&[&[
        line(300.0, b"30"),
        line(72.0, b"T"),
        line(77.0, b"r"),
        line(200.0, b"Le"),
        line(82.0, b"ain"),
        line(211.0, b"ft"),
        ("Latin", 10.0, (72.0, 686.0), b"Bus"),
        ("Latin", 10.0, (200.0, 686.0), b"Right"),
    ]]);
    let document = read_bytes_as("a.pdf", &saved(document)).unwrap();
    assert_eq!(
        blocks(&document),
        ["page 1: table Train | Left | 30\nBus | Right"]
    );
}

#[test]
fn running_text_is_whole_across_lines_columns_and_leaders() {
    let document = pdf(&[&[
        ("Latin", 10.0, (72.0, 700.0), b"The before-and-"),
        ("Latin", 10.0, (72.0, 688.0), b"after pictures of the NIST-"),
        ("Latin", 10.0, (72.0, 676.0), b"published guide are impor-"),
        (
            "Latin",
            10.0,
            (72.0, 664.0),
            b"tant for everybody who reads",
        ),
        (
            "Latin",
            10.0,
            (72.0, 652.0),
            b"and for everybody who writes",
        ),
        (
            "Latin",
            10.0,
            (72.0, 640.0),
            b"such guides, as is known, and",
        ),
        ("Latin", 10.0, (72.0, 628.0), b"so this long sentence goes"),
        ("Latin", 10.0, (320.0, 700.0), b"on in the second column."),
        ("Latin", 10.0, (320.0, 580.0), b"1.2. Overview .......... 4"),
    ]]);
    let document = read_bytes_as("a.pdf", &saved(document)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "page 1: p The before-and-after pictures of the NIST-published guide are important \
             for everybody who reads and for everybody who writes such guides, as is known, and so \
             this long sentence goes\non in the second column.",
            "page 1: p 1.2. Overview … 4",
        ]
    );
}

#[test]
fn a_narrow_table_has_the_columns_of_its_widest_row() {
    let row = |y: f32, item: &'static [u8], cost: &'static [u8]| {
        let item = ("Latin", 10.0, (72.0, y), item);
        [item, ("Latin", 10.0, (124.0, y), cost)]
    };
    let rows = [
        row(700.0, b"Item", b"Euro"),
        // Its gap is no wider than one between words.
        row(686.0, b"Housings", b"2 600"),
        row(672.0, b"Rent", b"900"),
    ];
    let document = pdf(&[&rows.concat()]);
    let document = read_bytes_as("a.pdf", &saved(document)).unwrap();
    assert_eq!(
        blocks(&document),
        ["page 1: table Item | Euro\nHousings | 2 600\nRent | 900"]
    );
}

#[test]
fn cells_stand_in_their_columns_and_are_whole() {
    let cell = |x: f32, y: f32, text: &'static str| ("Latin", 10.0, (x, y), text.as_bytes());
    let document = pdf(&[&[
        cell(72.0, 700.0, "Part"),
        cell(200.0, 700.0, "Use"),
        cell(400.0, 700.0, "Price"),
        cell(72.0, 676.0, "Valve"),
        cell(200.0, 676.0, "Lets water"),
        cell(400.0, 676.0, "30"),
        // The second line of a cell.
        cell(200.0, 664.0, "pass"),
        // No first cell: it is the one above.
        cell(200.0, 640.0, "Lets air pass"),
        cell(400.0, 640.0, "40"),
        // Two cells of two lines.
        cell(72.0, 616.0, "Pump"),
        cell(200.0, 616.0, "Moves"),
        cell(400.0, 616.0, "50"),
        cell(200.0, 604.0, "water"),
        cell(400.0, 604.0, "EUR"),
        cell(72.0, 580.0, "Long"),
        cell(200.0, 580.0, "Reaches"),
        cell(400.0, 580.0, "60"),
        cell(72.0, 568.0, "hose"),
        cell(72.0, 544.0, "Tap"),
        // Nothing in the middle.
        cell(400.0, 544.0, "70"),
        // What follows is no part of it.
        cell(72.0, 520.0, "All prices are without tax."),
    ]]);
    let document = read_bytes_as("a.pdf", &saved(document)).unwrap();
    assert_eq!(
        blocks(&document),
        [
            "page 1: table Part | Use | Price\nValve | Lets water pass | 30\n | Lets air pass | 40\n\
             Pump | Moves water | 50 EUR\nLong hose | Reaches | 60\nTap |  | 70",
            "page 1: p All prices are without tax.",
        ]
    );
}
