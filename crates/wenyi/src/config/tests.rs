use std::fs;

use super::*;

const TOML: &str = r#"
[defaults]
embeddings = "dashscope:text-embedding-v4"
chat = "deepseek:deepseek-v4-flash"

[aliases]
"text-embedding-3-large" = "好模型"
"好模型" = "dashscope:text-embedding-v4"

[providers.vllm]
base_url = "http://127.0.0.1:8000/v1"
api_key_env = "VLLM_API_KEY"
headers = { "x-team" = "密" }
models."bge-m3" = { dimensions = 1024, max_tokens = 8192 }

[serve]
port = 1234
"#;

#[test]
fn the_file_is_read_from_above_and_the_environment_wins_over_dotenv() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("甲");
    fs::create_dir(&below).unwrap();
    fs::write(folder.path().join("wenyi.toml"), TOML).unwrap();
    fs::write(below.join(".env"), "A=file\nB=file\nnonsense here\nC=\n").unwrap();
    let existing = |name: &str| (name == "A").then(|| "environment".to_owned());
    let config = Config::load_from(&below, existing).unwrap();
    assert_eq!(config.variable("A").as_deref(), Some("environment"));
    assert_eq!(config.variable("B").as_deref(), Some("file"));
    assert_eq!(config.variable("C"), None);
    assert_eq!(config.notes().len(), 1);
    assert!(config.notes()[0].contains("line 3"), "{:?}", config.notes());
    assert_eq!(
        config.defaults().chat.as_deref(),
        Some("deepseek:deepseek-v4-flash")
    );
    let resolved = config.resolve_alias("text-embedding-3-large").unwrap();
    assert_eq!(resolved, "dashscope:text-embedding-v4");
    assert_eq!(config.resolve_alias("other").unwrap(), "other");
    assert_eq!(config.section("serve").unwrap()["port"], 1234);
    assert_eq!(
        config.providers()["vllm"].models["bge-m3"].dimensions,
        Some(1024)
    );
}

#[test]
fn dotenv_can_be_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "A=file").unwrap();
    let load = |value: &'static str| {
        let existing =
            move |name: &str| (name == "PYTHON_DOTENV_DISABLED").then(|| value.to_owned());
        Config::load_from(folder.path(), existing)
            .unwrap()
            .variable("A")
    };
    assert_eq!(load("Yes"), None);
    assert_eq!(load("0").as_deref(), Some("file"));
}

#[test]
fn a_chosen_file_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let chosen = folder.path().join("other.toml");
    let load = || {
        let chosen = chosen.to_string_lossy().into_owned();
        Config::load_from(folder.path(), move |name| {
            (name == FILE_VARIABLE).then(|| chosen.clone())
        })
    };
    assert!(matches!(load(), Err(ConfigError::NoFile { .. })));
    fs::write(&chosen, TOML).unwrap();
    assert_eq!(load().unwrap().aliases().len(), 2);
}

#[test]
fn nothing_secret_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "DEEPSEEK_API_KEY=sk-verysecret").unwrap();
    fs::write(folder.path().join("wenyi.toml"), TOML).unwrap();
    let config = Config::load_from(folder.path(), |_| None).unwrap();
    let shown = format!("{config:?}");
    assert!(
        shown.contains("DEEPSEEK_API_KEY") && shown.contains("x-team"),
        "{shown}"
    );
    assert!(
        !shown.contains("verysecret") && !shown.contains('密'),
        "{shown}"
    );
    let toml = "[providers.openai]\napi_key = \"sk-verysecret\"";
    let error = Config::from_lookup(|_| None).with_toml(toml).unwrap_err();
    let message = format!("{error} {error:?}");
    assert!(
        message.contains("line 2") && message.contains("api_key"),
        "{message}"
    );
    assert!(!message.contains("verysecret"), "{message}");
}

#[test]
fn aliases_that_go_round_are_refused() {
    let toml = "[aliases]\na = \"b\"\nb = \"a\"";
    let config = Config::from_lookup(|_| None).with_toml(toml).unwrap();
    assert!(matches!(
        config.resolve_alias("a"),
        Err(ConfigError::CircularAlias { .. })
    ));
}
