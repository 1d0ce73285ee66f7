//! Help, version, and what a mistyped command line gets.

use super::run::run;
use super::wenyi;

/// Every verb, with those below it.
const VERBS: [&[&str]; 16] = [
    &[],
    &["search"],
    &["index"],
    &["embed"],
    &["chat"],
    &["models"],
    &["models", "list"],
    &["models", "pull"],
    &["models", "verify"],
    &["models", "bundle"],
    &["models", "import"],
    &["models", "path"],
    &["models", "remove"],
    &["bench"],
    &["bench", "embed"],
    &["help"],
];

#[test]
fn every_verb_explains_itself() {
    for verb in VERBS.iter().filter(|verb| verb != &&["help"].as_slice()) {
        let help = run(wenyi().args(*verb).arg("--help")).succeeded();
        assert!(
            help.stdout.contains("Usage: wenyi"),
            "{verb:?}:\n{}",
            help.stdout
        );
        assert!(help.stderr.is_empty());
        for line in help.stdout.lines() {
            assert!(
                line.chars().count() <= 100,
                "{verb:?} has a line too long: {line}"
            );
        }
    }
}

#[test]
fn every_verb_that_computes_shows_examples() {
    for verb in ["search", "index", "embed"] {
        let help = run(wenyi().args([verb, "--help"])).succeeded().stdout;
        let examples = help
            .split("Examples:")
            .nth(1)
            .unwrap_or_else(|| panic!("{verb}: {help}"));
        assert!(
            examples.contains(&format!("wenyi {verb}")),
            "{verb}: {examples}"
        );
    }
}

/// Each example of the help is at least understood by the program.
#[test]
fn the_examples_name_only_options_that_exist() {
    for verb in VERBS {
        let help = run(wenyi().args(verb).arg("--help")).stdout;
        let examples = help.split("Examples:").nth(1).unwrap_or_default();
        let words = examples.lines().filter(|line| line.contains("wenyi"));
        for option in words
            .flat_map(str::split_whitespace)
            .map(|word| word.trim_matches('`'))
            .filter(|word| word.starts_with("--"))
        {
            let options = help.split("Examples:").next().unwrap_or_default();
            assert!(
                options.contains(option),
                "{verb:?}: the examples use {option}"
            );
        }
    }
}

#[test]
fn the_version_is_the_crates_own() {
    let version = run(wenyi().arg("--version")).succeeded().stdout;
    assert_eq!(version.trim(), concat!("wenyi ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_mistyped_command_line_is_a_user_error() {
    for arguments in [
        &["serach", "docs", "why"][..],
        &["embed", "--dimensions", "many", "a"],
        &["embed", "--precision", "fp16", "a"],
        &["embed", "--overflow", "drop", "a"],
        &["embed", "--threads", "0", "a"],
        &["embed", "a", "--input", "b.txt"],
        &["embed", "--no-such-option"],
        &["bench", "embed", "--precision", "f32,f64"],
        &["bench", "embed", "--seconds", "-1"],
        &["models", "pull", "--source", "the-moon"],
        &["models", "remove"],
    ] {
        run(wenyi().args(arguments)).failed(2, &[]);
    }
}

#[test]
fn no_verb_shows_the_help_and_is_a_user_error() {
    let bare = run(&mut wenyi());
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("Usage: wenyi"), "{}", bare.stderr);
}
