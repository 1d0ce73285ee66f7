//! Lines of a conversation that begin with `/`.

use std::path::PathBuf;

use crate::exit::UserError;

pub(super) const COMMANDS: &str = "\
/model NAME        go on with another model
/system TEXT       instructions for the model; without TEXT, none
/collection PATH   answer from documents or a collection; without PATH, from none
/save FILE         write the conversation to a file
/clear             forget the conversation
/quit              end (so does Ctrl-D)";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<'a> {
    Model(&'a str),
    System(&'a str),
    Collection(Option<PathBuf>),
    Save(PathBuf),
    Clear,
    Help,
    Quit,
}

/// The order in `line`, if it is one.
pub(super) fn order(line: &str) -> Option<Result<Order<'_>, UserError>> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let needs = |what: &str| {
        let message = format!("`{name}` needs {what}");
        Err(UserError::new(message).with_hint("/help shows the commands"))
    };
    Some(match (name.strip_prefix('/')?, rest) {
        ("model", "") => needs("a model's name"),
        ("model", name) => Ok(Order::Model(name)),
        ("system", text) => Ok(Order::System(text)),
        ("collection", "") => Ok(Order::Collection(None)),
        ("collection", path) => Ok(Order::Collection(Some(path.into()))),
        ("save", "") => needs("a file's name"),
        ("save", path) => Ok(Order::Save(path.into())),
        ("clear", _) => Ok(Order::Clear),
        ("help" | "?", _) => Ok(Order::Help),
        ("quit" | "exit" | "q", _) => Ok(Order::Quit),
        _ => {
            let message = format!("`{name}` is no command");
            Err(UserError::new(message).with_hint("/help shows the commands"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_questions() {
        assert!(order("what is /model?").is_none());
        assert_eq!(
            order("/model  qwen3-0.6b ").unwrap().unwrap(),
            Order::Model("qwen3-0.6b")
        );
        assert_eq!(order("/system").unwrap().unwrap(), Order::System(""));
        assert_eq!(
            order("/collection 文档/").unwrap().unwrap(),
            Order::Collection(Some("文档/".into()))
        );
        assert_eq!(
            order("/collection").unwrap().unwrap(),
            Order::Collection(None)
        );
        assert!(order("/save").unwrap().is_err());
        assert!(order("/frobnicate").unwrap().is_err());
    }
}
