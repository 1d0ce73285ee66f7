use proptest::prelude::*;

use super::*;
use crate::retrieve::bag_of_words::BagOfWords;
use crate::retrieve::load::Kind;

fn cut(kind: Kind, text: &str, chunk_size: usize, overlap: usize) -> Vec<Chunk> {
    let embedder = BagOfWords::new(512);
    let document = Document::from_text("a.md", kind, text.to_owned());
    chunk(
        &embedder,
        &document,
        &ChunkOptions {
            chunk_size,
            overlap,
        },
    )
    .unwrap()
}

#[test]
fn sections_become_chunks_with_their_heading_path() {
    let text = "# Guide\n\nIntro.\n\n## Install\n### Linux\nUse pip.\n\n## Use\n\nType `wenyi`.\n";
    let chunks = cut(Kind::Markdown, text, 256, 32);
    let seen: Vec<_> = chunks
        .iter()
        .map(|chunk| {
            (
                chunk.heading_path.join("/"),
                chunk.text.as_str(),
                chunk.context.as_str(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("Guide".into(), "# Guide\n\nIntro.", ""),
            (
                "Guide/Install/Linux".into(),
                "## Install\n### Linux\nUse pip.",
                "Guide"
            ),
            ("Guide/Use".into(), "## Use\n\nType `wenyi`.", "Guide"),
        ]
    );
    assert_eq!((chunks[1].first_line, chunks[1].last_line), (5, 7));
    assert_eq!(&text[chunks[2].bytes.clone()], chunks[2].text);
    assert_eq!(
        chunks[1].embedding_text(),
        "Guide\n## Install\n### Linux\nUse pip."
    );
}

#[test]
fn an_anchor_is_no_passage() {
    let text = "<a id=\"old\"></a>\n\n# Title\n\nText.\n\n<a id=\"b\"></a>\n\n## Next\n\nMore.\n";
    let texts: Vec<String> = cut(Kind::Markdown, text, 256, 32)
        .into_iter()
        .map(|chunk| chunk.text)
        .collect();
    assert_eq!(
        texts,
        [
            "<a id=\"old\"></a>\n\n# Title\n\nText.\n\n<a id=\"b\"></a>",
            "## Next\n\nMore."
        ]
    );
}

#[test]
fn a_long_section_is_cut_evenly_between_sentences_with_overlap() {
    let text: String = (0..30)
        .map(|n| format!("Sentence number {n} has seven words. "))
        .collect();
    let chunks = cut(Kind::Text, &text, 100, 20);
    assert!(chunks.len() > 3);
    let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.tokens).collect();
    assert!(
        sizes.iter().all(|&size| (50..=100).contains(&size)),
        "{sizes:?}"
    );
    for pair in chunks.windows(2) {
        assert!(pair[0].text.ends_with('.') && pair[1].text.starts_with("Sentence"));
        assert!(
            pair[1].span.start < pair[0].span.end,
            "the last sentence is repeated"
        );
    }
}

#[test]
fn code_is_cut_between_lines_only() {
    let code: String = (0..80)
        .map(|n| format!("    let a{n} = f. b; // One. Two.\n"))
        .collect();
    let chunks = cut(Kind::Markdown, &format!("```rust\n{code}```\n"), 64, 8);
    assert!(chunks.len() > 2);
    for chunk in &chunks[1..chunks.len() - 1] {
        assert!(chunk.text.starts_with("    let a"), "{:?}", chunk.text);
        assert!(chunk.text.ends_with("One. Two."), "{:?}", chunk.text);
    }
}

#[test]
fn chinese_is_cut_between_sentences() {
    let text = "文意把文本变成向量，再用向量找回文本。它在普通的处理器上运行。".repeat(20);
    let chunks = cut(Kind::Text, &text, 80, 20);
    assert!(chunks.len() > 4);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.text.ends_with('。') && chunk.tokens <= 80)
    );
}

#[test]
fn a_page_is_cut_at_its_headings_and_keeps_its_lines() {
    let text = "<html><head><title>T</title></head>\n<body>\n<h1>Guide</h1>\n<p>One &amp; two.</p>\n\
                <h2>More</h2>\n<ul><li>a</li>\n<li>b</li></ul></body></html>";
    let chunks = cut(Kind::Html, text, 256, 32);
    assert_eq!(chunks[0].text, "Guide\n\nOne & two.");
    assert_eq!((chunks[0].first_line, chunks[0].last_line), (3, 4));
    assert_eq!(
        &text[chunks[0].bytes.clone()],
        "Guide</h1>\n<p>One &amp; two."
    );
    assert_eq!(chunks[1].heading_path, ["Guide", "More"]);
    assert_eq!(chunks[1].text, "More\n\n- a\n- b");
    assert_eq!((chunks[1].first_line, chunks[1].last_line), (5, 7));
}

#[test]
fn ten_megabytes_of_one_line_are_cut_within_the_bound() {
    for piece in [
        "word ",
        "没有标点的一行",
        "nospaceatall",
        "A. ",
        ". a ",
        "a.B",
        "![](",
        "* ",
        "<a ",
    ] {
        let text = piece.repeat((10 << 20) / piece.len());
        for kind in [Kind::Text, Kind::Markdown, Kind::Html] {
            let chunks = cut(kind, &text, 256, 32);
            assert!(
                chunks.iter().all(|chunk| chunk.tokens <= 256),
                "{piece:?} as {kind}"
            );
            let covered = chunks.last().map_or(0, |chunk| chunk.span.end);
            assert!(
                kind == Kind::Html || covered + 8 > text.len(),
                "{piece:?} as {kind}"
            );
        }
    }
}

#[test]
fn the_model_bounds_the_chunk_size() {
    let embedder = BagOfWords::new(24);
    let text = "# A heading of some words\n\n".to_owned() + &"one two three. ".repeat(30);
    let document = Document::from_text("a.md", Kind::Markdown, text);
    let chunks = chunk(&embedder, &document, &ChunkOptions::default()).unwrap();
    // Three tokens of `passage: ` and two special ones.
    assert!(
        chunks
            .iter()
            .all(|chunk| { embedder.count_tokens(&chunk.embedding_text()).unwrap() + 3 <= 24 })
    );
    let refused = chunk(&BagOfWords::new(5), &document, &ChunkOptions::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`max_length` is `5`, expected more than the 5 tokens of the prompt"
    );
    let refused = chunk(
        &embedder,
        &document,
        &ChunkOptions {
            chunk_size: 0,
            overlap: 0,
        },
    );
    assert!(refused.unwrap_err().is_user_error());
}

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,9}",
        "[。！？；…，]",
        "[.!?]",
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n# ".to_owned()),
        Just("\n### ".to_owned()),
        Just("\n- ".to_owned()),
        Just("\n```\n".to_owned()),
        Just("\n|a|b|\n|-|-|\n".to_owned()),
        Just("    ".to_owned()),
        Just("\n> ".to_owned()),
        Just("\n---\n".to_owned()),
        Just("\n[^1]: ".to_owned()),
        Just("\n[x]: y\n".to_owned()),
        "<[a-z/!]{0,5}[>]?",
        "&[a-z#0-9]{0,5};?",
        "[中文字句𠀀]{1,12}",
        "\\PC{0,6}",
        "(?s).{0,3}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn chunks_cover_the_text_within_the_bound(
        text in any_text(),
        markdown in any::<bool>(),
        chunk_size in 2_usize..40,
        max_length in 12_usize..60,
    ) {
        let kind = if markdown { Kind::Markdown } else { Kind::Text };
        let embedder = BagOfWords::new(max_length);
        let document = Document::from_text("a", kind, text.clone());
        let options = ChunkOptions { chunk_size, overlap: chunk_size / 3 };
        let chunks = chunk(&embedder, &document, &options).unwrap();
        let (mut covered, mut start) = (0, 0);
        for chunk in &chunks {
            prop_assert_eq!(&text[chunk.bytes.clone()], chunk.text.as_str());
            prop_assert!(chunk.span.start >= start, "order is kept");
            if chunk.span.start > covered {
                prop_assert!(text[covered..chunk.span.start].trim().is_empty(), "nothing is lost");
            }
            prop_assert!(chunk.span.end > covered, "each chunk brings something new");
            (start, covered) = (chunk.span.start, chunk.span.end);
            let lines = text[..chunk.span.start].matches('\n').count() + 1;
            prop_assert_eq!(chunk.first_line, lines);
            prop_assert_eq!(chunk.last_line, lines + chunk.text.matches('\n').count());
            let single = chunk.text.chars().count() == 1;
            let tokens = embedder.count_tokens(&chunk.embedding_text()).unwrap();
            prop_assert!(single || tokens + 3 <= max_length, "{} tokens", tokens);
        }
        prop_assert!(text[covered..].trim().is_empty(), "nothing is lost at the end");
    }

    #[test]
    fn pages_never_panic_and_map_into_their_source(text in any_text()) {
        let document = Document::from_text("a", Kind::Html, text.clone());
        let options = ChunkOptions { chunk_size: 16, overlap: 4 };
        for chunk in chunk(&BagOfWords::new(64), &document, &options).unwrap() {
            prop_assert!(text.get(chunk.bytes.clone()).is_some(), "{:?}", chunk.bytes);
            prop_assert!(chunk.first_line <= chunk.last_line);
        }
    }
}
