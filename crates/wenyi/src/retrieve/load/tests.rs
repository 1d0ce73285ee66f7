use std::fs;

use super::*;
use crate::progress::Silent;

fn load(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<Document>, Vec<(String, SkipReason)>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let (documents, skipped) = load_folder(folder.path(), &LoadOptions::default());
    (folder, documents, skipped)
}

fn load_folder(root: &Path, options: &LoadOptions) -> (Vec<Document>, Vec<(String, SkipReason)>) {
    let listing = walk(&[root.to_path_buf()], options, &Silent).unwrap();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut skipped: Vec<_> = listing
        .skipped
        .iter()
        .map(|skip| (name(&skip.path), skip.reason.clone()))
        .collect();
    let mut documents = Vec::new();
    for file in &listing.files {
        match read(file, options) {
            Ok(document) => documents.push(document),
            Err(reason) => skipped.push((name(&file.path), reason)),
        }
    }
    (documents, skipped)
}

fn text_of(name: &str, bytes: &[u8]) -> Result<(String, &'static str), SkipReason> {
    let (_folder, mut documents, mut skipped) = load(&[(name, bytes)]);
    documents
        .pop()
        .map(|d| (d.text, d.encoding))
        .ok_or_else(|| skipped.pop().unwrap().1)
}

#[test]
fn markdown_text_and_html_are_read_and_the_rest_is_reported() {
    let (_folder, documents, skipped) = load(&[
        ("a.md", b"# A"),
        ("文件/b.TXT", "中文".as_bytes()),
        ("c.html", b"<p>c</p>"),
        ("README", b"no extension"),
        ("page", b"<!DOCTYPE html><p>page</p>"),
        (".hidden/x.md", b"x"),
        (".gitignore", b"ignored.md\n"),
        ("ignored.md", b"x"),
        ("data.json", b"{}"),
        ("picture.md", b"\x89PNG\r\n\0\0"),
        ("empty.md", b""),
        ("blank.md", b" \n"),
        ("nothing.html", b"<script>x</script>"),
    ]);
    let kinds: Vec<_> = documents
        .iter()
        .map(|d| {
            (
                d.path.file_name().unwrap().to_str().unwrap().to_owned(),
                d.kind,
            )
        })
        .collect();
    let expected = [
        ("README", Kind::Text),
        ("a.md", Kind::Markdown),
        ("c.html", Kind::Html),
        ("page", Kind::Html),
        ("b.TXT", Kind::Text),
    ];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
    let expected = [
        (
            "data.json",
            SkipReason::OtherKind {
                extension: "json".into(),
            },
        ),
        ("blank.md", SkipReason::Empty),
        ("empty.md", SkipReason::Empty),
        ("nothing.html", SkipReason::Empty),
        ("picture.md", SkipReason::Binary),
    ];
    assert_eq!(
        skipped,
        expected.map(|(name, reason)| (name.to_owned(), reason))
    );
}

#[test]
fn encodings_are_decoded_or_reported() {
    let utf16 = |text: &str| -> Vec<u8> {
        "\u{feff}"
            .encode_utf16()
            .chain(text.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect()
    };
    assert_eq!(
        text_of("a.txt", &utf16("文意 a")),
        Ok(("文意 a".into(), "UTF-16LE"))
    );
    let gbk = encoding_rs::GBK
        .encode("文意把文本变成向量。ok")
        .0
        .into_owned();
    assert_eq!(
        text_of("a.txt", &gbk),
        Ok(("文意把文本变成向量。ok".into(), "gb18030"))
    );
    let latin = b"Un caf\xe9 pr\xe8s de l'\xe9cole \xe9l\xe8ve";
    assert_eq!(
        text_of("a.txt", latin),
        Ok(("Un café près de l'école élève".into(), "windows-1252"))
    );
    for (encoding, text) in [
        (encoding_rs::BIG5, "這個程式把文件變成向量，然後回答問題。"),
        (encoding_rs::SHIFT_JIS, "このプログラムは文書を読みます。"),
        (encoding_rs::EUC_KR, "이 프로그램은 문서를 읽습니다."),
        (encoding_rs::GB18030, "短文"),
    ] {
        let bytes = encoding.encode(text).0.into_owned();
        assert_eq!(text_of("a.txt", &bytes).map(|read| read.0), Ok(text.into()));
    }
    let bare: Vec<u8> = "plain words\n"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    assert_eq!(
        text_of("a.txt", &bare),
        Ok(("plain words\n".into(), "UTF-16BE"))
    );
    let page = b"<meta charset=\"iso-8859-1\"><p>caf\xe9";
    assert_eq!(
        text_of("a.html", page),
        Ok(("caf\u{e9}\n\n".into(), "windows-1252"))
    );
    assert_eq!(
        text_of("a.txt", b"\x7fELF\xff\0\x01"),
        Err(SkipReason::Binary)
    );
}

#[test]
fn a_byte_order_mark_is_not_text_but_counts_in_spans() {
    let (_folder, documents, _) = load(&[("a.md", b"\xef\xbb\xbf# A\nb")]);
    assert_eq!(documents[0].text, "# A\nb");
    assert_eq!(documents[0].source.bytes(&(4..5)), 7..8);
    assert_eq!(documents[0].source.lines(&(0..5)), (1, 2));
}

#[test]
fn too_large_files_and_missing_roots_are_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.md"), "12345").unwrap();
    let options = LoadOptions {
        max_bytes: 4,
        ..LoadOptions::default()
    };
    let (_, skipped) = load_folder(folder.path(), &options);
    assert_eq!(
        skipped,
        [("a.md".into(), SkipReason::TooLarge { bytes: 5, limit: 4 })]
    );
    let missing = walk(&[folder.path().join("x")], &options, &Silent).unwrap_err();
    assert!(missing.is_user_error() && missing.hint().is_some());
}

#[test]
fn a_file_named_as_root_is_read_whatever_its_extension() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.data");
    fs::write(&path, "a note").unwrap();
    let (documents, skipped) = load_folder(&path, &LoadOptions::default());
    assert_eq!((documents.len(), skipped.len()), (1, 0));
}

#[test]
fn patterns_choose_among_the_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "a.md",
        "报告.pdf.md",
        "drafts/b.md",
        "drafts/deep/c.txt",
        "notes/d.txt",
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "text").unwrap();
    }
    let names = |include: &[&str], exclude: &[&str]| {
        let owned = |patterns: &[&str]| patterns.iter().map(|&p| p.to_owned()).collect();
        let options = LoadOptions {
            include: owned(include),
            exclude: owned(exclude),
            ..LoadOptions::default()
        };
        let listing = walk(&[folder.path().to_owned()], &options, &Silent).unwrap();
        let name = |file: &SourceFile| file.path.file_name().unwrap().to_str().unwrap().to_owned();
        listing.files.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&["*.txt"], &[]), ["c.txt", "d.txt"]);
    assert_eq!(names(&["drafts/"], &["*.txt"]), ["b.md"]);
    assert_eq!(names(&[], &["drafts/", "/notes"]), ["a.md", "报告.pdf.md"]);
    assert_eq!(names(&["报告*"], &[]), ["报告.pdf.md"]);
    let bad = LoadOptions {
        exclude: vec!["a{b".into()],
        ..LoadOptions::default()
    };
    let error = walk(&[folder.path().to_owned()], &bad, &Silent).unwrap_err();
    assert!(
        error.is_user_error() && error.to_string().contains("a{b"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn links_loops_pipes_and_twins_are_handled() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/a.md"), "a").unwrap();
    symlink(root, root.join("sub/loop")).unwrap();
    symlink(root.join("nowhere"), root.join("broken.md")).unwrap();
    symlink(root.join("sub/a.md"), root.join("z.md")).unwrap();
    let status = std::process::Command::new("mkfifo")
        .arg(root.join("pipe.md"))
        .status()
        .unwrap();
    assert!(status.success());
    let (documents, mut skipped) = load_folder(root, &LoadOptions::default());
    assert_eq!(documents.len(), 1);
    skipped.sort_by(|a, b| a.0.cmp(&b.0));
    let reasons: Vec<_> = skipped
        .iter()
        .map(|(name, reason)| (name.as_str(), reason))
        .collect();
    assert!(
        matches!(
            reasons[..],
            [
                ("broken.md", SkipReason::Unreadable { .. }),
                ("loop", SkipReason::LinkLoop { .. }),
                ("pipe.md", SkipReason::NotAFile),
                ("z.md", SkipReason::SameFile { .. }),
            ]
        ),
        "{reasons:?}"
    );
}

#[test]
fn a_page_shows_what_a_reader_sees() {
    let page = "<!-- no --><body>Caf&eacute;&nbsp;<b>bold</b>er<br>next <script>var x='</p>';</script>\
                <p title=\"a > b\">p1<p>p2 1 < 2 &unknown; &#x4e2d;</p><pre>  a\n  b</pre>\
                <table><tr><th>h<th>i</tr><tr><td>1<td>2</tr></table><a ";
    let document = Document::from_text("a", Kind::Html, page.into());
    let blocks: Vec<_> = document
        .blocks
        .iter()
        .map(|b| &document.text[b.span.clone()])
        .collect();
    assert_eq!(
        blocks,
        [
            "Caf\u{e9} bolder\nnext",
            "p1",
            "p2 1 < 2 &unknown; \u{4e2d}",
            "  a\n  b",
            "h | i\n1 | 2",
            "<a",
        ]
    );
}

mod formats;
mod html;
mod office;
mod pdf;
mod pages;
mod hostile;
mod mutated;
