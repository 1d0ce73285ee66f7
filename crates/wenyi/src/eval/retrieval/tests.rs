use std::fs;

use super::*;
use crate::progress::Silent;
use crate::retrieve::bag_of_words::BagOfWords;

#[test]
fn ndcg_is_that_of_trec_eval() {
    let relevant = HashMap::from([("a".to_owned(), 2.0), ("b".to_owned(), 1.0)]);
    assert_eq!(ndcg_at_10(&["a", "b"], &relevant), 1.0);
    assert_eq!(ndcg_at_10(&["x"; 12], &relevant), 0.0);
    // (1 / log2 3 + 2 / log2 5) / (2 / log2 2 + 1 / log2 3)
    let expected = (1.0 / 3f64.log2() + 2.0 / 5f64.log2()) / (2.0 + 1.0 / 3f64.log2());
    assert!((ndcg_at_10(&["x", "b", "x", "a"], &relevant) - expected).abs() < 1e-12);
    let eleventh = ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "a"];
    assert_eq!(ndcg_at_10(&eleventh, &relevant), 0.0);
    assert_eq!(recall_at_10(&["b", "x"], &relevant), 0.5);
}

#[test]
fn both_layouts_are_read_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "beir/corpus.jsonl",
        "{\"_id\":\"1\",\"title\":\"Trains\",\"text\":\"leave at nine\"}\n\
         {\"_id\":\"2\",\"title\":\"\",\"text\":\"bread needs salt\"}\n\n",
    );
    write(
        "beir/queries.jsonl",
        "{\"_id\":\"q\",\"text\":\"trains at nine\"}\n{\"_id\":\"unjudged\",\"text\":\"salt\"}\n",
    );
    write(
        "beir/qrels/train.tsv",
        "query-id\tcorpus-id\tscore\nq\t1\t1\nq\t2\t0\n",
    );
    write(
        "pairs/pairs.jsonl",
        "{\"id\":\"x\",\"en_title\":\"Cats\",\"zh_title\":\"猫\",\"en\":\"cats sleep\",\"zh\":\"猫睡觉\"}\n\
         {\"id\":\"y\",\"en_title\":\"Dogs\",\"zh_title\":\"狗\",\"en\":\"dogs bark\",\"zh\":\"狗叫\"}\n",
    );
    let sets = judged_sets(folder.path()).unwrap();
    let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "beir",
            "pairs en → zh",
            "pairs zh → en",
            "pairs en_title → en",
            "pairs zh_title → zh"
        ]
    );
    assert_eq!(sets[0].queries.len(), 1);
    assert_eq!(sets[0].documents[0].text, "Trains\nleave at nine");
    let methods = [
        Method::Text,
        Method::Dense,
        Method::Hybrid(Fusion::default()),
    ];
    for set in [&sets[0], &sets[3], &sets[4]] {
        let scores = evaluate(&BagOfWords::new(64), set, &methods, &Silent).unwrap();
        assert_eq!(scores.len(), 3);
        assert!(
            scores.iter().all(|score| score.recall_at_10 == 1.0),
            "{}: {scores:?}",
            set.name
        );
        assert_eq!(scores[0].ndcg_at_10, 1.0, "{}", set.name);
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let error = judged_sets(folder.path()).unwrap_err();
    assert!(error.is_user_error() && error.hint().is_some());
    fs::write(folder.path().join("pairs.jsonl"), "{\"en\":\"a\"}\n{").unwrap();
    let error = judged_sets(folder.path()).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}
