use super::*;

fn joined(text: &str) -> String {
    terms(text).join(" ")
}

fn asked(query: &str) -> String {
    let show = |term: &QueryTerm| match term {
        QueryTerm::Exact(term) => term.clone(),
        QueryTerm::Prefix(term) => format!("{term}*"),
    };
    query_terms(query)
        .iter()
        .map(show)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn forms_of_an_english_word_meet() {
    assert_eq!(joined("Indexing, indexes; INDEXED!"), "index index index");
    assert_eq!(joined("the children's books"), "the children book");
    assert_eq!(joined("it’s"), "it");
}

#[test]
fn identifiers_are_exact_terms_and_words() {
    assert_eq!(joined("read_to_string()"), "read_to_string read to string");
    assert_eq!(joined("std::fs::File."), "std::fs::file std fs file");
    assert_eq!(joined("HashMaps"), "hashmaps hash map");
    assert_eq!(joined("HTTPServer"), "httpserver http server");
    assert_eq!(
        joined("utf-8 v1.2.3 E0382"),
        "utf-8 utf 8 v1.2.3 v1 2 3 e0382"
    );
    assert_eq!(
        joined("--no-index __init__ e.g. x -"),
        "no-index no index init e.g e g x"
    );
}

#[test]
fn chinese_is_cut_into_pairs_and_mixed_text_where_the_script_changes() {
    assert_eq!(joined("没有网络"), "没有 有网 网络 络");
    assert_eq!(joined("在GPU上，用Rust写"), "在 gpu 上 用 rust 写");
    assert_eq!(joined("ＡＢＣ１２"), "abc12");
    assert_eq!(joined("カタカナ"), "カタ タカ カナ ナ");
    assert_eq!(joined("über Größe naïve"), "über größe naïve");
}

#[test]
fn a_query_asks_for_each_telling_term_once() {
    assert_eq!(asked("what is the index of an index?"), "index");
    assert_eq!(asked("to be or the"), "to be or the");
    assert_eq!(asked("猫"), "猫*");
    assert_eq!(asked("怎样使用网络"), "样使 使用 用网 网络");
    assert_eq!(asked("是的"), "是的");
    assert_eq!(asked(" ?! "), "");
}

/// A pseudo-random text of letters, marks and ideographs must neither panic nor yield a term that
/// the index would cut again.
#[test]
fn terms_have_no_space_and_a_bounded_length() {
    let alphabet: Vec<char> = "aZ9_.-:'’ \n中文の、。é\u{301}ß\u{10ffff}\0"
        .chars()
        .collect();
    let mut random = crate::random::Random::new(5);
    for _ in 0..500 {
        let length = random.below(200);
        let text: String = (0..length)
            .map(|_| alphabet[random.below(alphabet.len())])
            .collect();
        for term in terms(&text) {
            assert!(!term.is_empty() && term.len() <= MAX_TERM, "{text:?}");
            assert!(
                !term.contains(char::is_whitespace) && !term.contains('"'),
                "{text:?}"
            );
        }
    }
}
