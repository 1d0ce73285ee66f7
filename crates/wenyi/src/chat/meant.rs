//! Which tool a question means, for models that cannot tell.
//!
//! A model of a hundred million parameters that was never shown tools does not decide on a call: asked
//! whether it needs one, it says the same whatever the question. So the words of the question decide,
//! against those that the tools are described with; the model then writes the arguments.

use std::collections::HashSet;

use wenyi_engine::decoder::Decoder;

use super::quoted::without_passages;
use super::tools::Syntax;
use super::{ChatRequest, MessageRole, ResponseFormat, Tool, ToolChoice};
use crate::retrieve::words::{STOP_WORDS, cjk_pieces, runs, stem};

/// Widest hidden state of a model that is taken not to decide: those of 500 million parameters have
/// about this.
const WIDEST: usize = 1024;

/// What makes a call where none is asked for: a word of the tool's name, or two of its description.
const ENOUGH: usize = 2;

/// The same request with the tool chosen that the person's last words mean; `None` if the model is to
/// decide, or the words mean none.
pub(super) fn with_meant_tool(decoder: &Decoder, request: &ChatRequest) -> Option<ChatRequest> {
    let (is_open, least) = match request.tool_choice {
        None | Some(ToolChoice::Auto) => {
            let format = &request.response_format;
            (matches!(format, None | Some(ResponseFormat::Text)), ENOUGH)
        }
        // Any word is better than none where a tool is called in any case.
        Some(ToolChoice::Required) => (request.options.parallel_tool_calls != Some(true), 1),
        Some(ToolChoice::None | ToolChoice::Function(_)) => (false, ENOUGH),
    };
    let template = decoder.template()?;
    let is_able =
        Syntax::of_template(template.source()).is_native || decoder.hidden_size() > WIDEST;
    if !is_open || is_able {
        return None;
    }
    // After a tool's result it is time for an answer.
    let last = request.messages.last()?;
    if last.role != MessageRole::User {
        return None;
    }
    let text = last.text();
    // What is quoted decides nothing.
    let said = without_passages(&text).unwrap_or(text);
    let name = meant(&said, &request.tools, least)?.function.name.clone();
    Some(ChatRequest {
        tool_choice: Some(ToolChoice::Function(name)),
        ..request.clone()
    })
}

/// The tool that shares most words with what was said, if they score `least`; of equals the first.
fn meant<'a>(said: &str, tools: &'a [Tool], least: usize) -> Option<&'a Tool> {
    let said = words(said);
    let scored = tools.iter().map(|tool| {
        let described = words(tool.function.description.as_deref().unwrap_or_default());
        let named = words(&tool.function.name);
        let score = |word: &String| match (named.contains(word), described.contains(word)) {
            (true, _) => ENOUGH,
            // Two ideographs are a word that was chosen, a name being mostly English.
            (false, true) if !word.is_ascii() => ENOUGH,
            (false, is_described) => usize::from(is_described),
        };
        (said.iter().map(score).sum::<usize>(), tool)
    });
    let enough = scored.filter(|(score, _)| *score >= least);
    let best = enough.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, tool)| tool)
}

/// Stems of words and pairs of ideographs that say what a text is about.
fn words(text: &str) -> HashSet<String> {
    /// What tools in general do.
    const GENERAL: &[&str] = &[
        "get", "set", "look", "find", "search", "fetch", "query", "call", "use", "run", "do",
        "make", "create", "return", "give", "tell", "show", "tool", "function", "value", "name",
        "number", "查询", "查找", "获取", "返回", "调用", "工具", "函数", "使用", "什么", "怎么",
        "怎样", "多少", "一个",
    ];
    let mut found = HashSet::new();
    for run in runs(text) {
        let word = &text[run.span];
        if run.cjk {
            for piece in cjk_pieces(word) {
                let pairs = piece.chars().zip(piece.chars().skip(1));
                found.extend(pairs.map(|(a, b)| String::from_iter([a, b])));
            }
        } else if !STOP_WORDS.contains(&word.to_lowercase().as_str()) {
            found.insert(stem(word));
        }
    }
    let general: HashSet<String> = GENERAL.iter().map(|word| stem(word)).collect();
    // Two letters say little: `up`, `to`.
    found.retain(|word| word.len() > 2 && !general.contains(word));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(said: &str) -> Option<String> {
        scored(said, ENOUGH)
    }

    fn scored(said: &str, least: usize) -> Option<String> {
        let tool = |name, description| Tool::function(name, description, json!({}));
        let tools = [
            tool("get_weather", "Get the weather at a location."),
            tool("look_up_order", "Find out where an order is by its number."),
            tool("create_customer", "查询或登记客户的资料。"),
        ];
        meant(said, &tools, least).map(|tool| tool.function.name.clone())
    }

    #[test]
    fn words_that_a_tool_is_described_with_mean_it() {
        let meant = |said: &str| name(said).unwrap_or_default();
        assert_eq!(
            meant("What is the weather in San Francisco, CA?"),
            "get_weather"
        );
        assert_eq!(meant("Where are my orders?"), "look_up_order");
        assert_eq!(meant("登记一个新客户"), "create_customer");
        // Of two, the one that more is said of.
        assert_eq!(
            meant("Does the weather at this location delay an order?"),
            "get_weather"
        );
    }

    #[test]
    fn one_word_is_enough_where_a_tool_is_called_in_any_case() {
        let said = "Is the delivery at another location?";
        assert_eq!(name(said), None);
        assert_eq!(scored(said, 1).as_deref(), Some("get_weather"));
        assert_eq!(scored("你好", 1), None);
    }

    #[test]
    fn other_questions_mean_none() {
        for said in [
            "What is the capital of France?",
            "Get up and do something, use your time!",
            "Give me a number.",
            "查询一下怎么做蛋糕",
            "写一首诗",
            "",
        ] {
            assert_eq!(name(said), None, "{said}");
        }
    }
}
