//! How a local model is told of tools, and the grammar that its calls are held to.

use serde_json::{Value, json};
use wenyi_engine::decoder::compact;

use super::{ChatError, ChatErrorKind, ChatRequest, Tool, ToolChoice};

/// A family's way of writing calls: `lead`, the function's name, `"`, `arguments`, their JSON, `}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// The model's own template tells it of tools and of their results.
    pub(super) is_native: bool,
    /// What a call begins with, wherever it stands in an answer.
    pub(super) trigger: &'static str,
    /// What follows, up to the function's name.
    pub(super) lead: &'static str,
    /// What stands between the name and the arguments.
    pub(super) arguments: &'static str,
    /// What stands between two calls, up to the next function's name.
    pub(super) next: &'static str,
    /// The template takes calls of nine letters and digits.
    pub(super) has_short_ids: bool,
}

/// Qwen's, and that of many others (Hermes). Models whose template knows no tools are told of it.
const TAGGED: Syntax = Syntax {
    is_native: true,
    trigger: "<tool_call>",
    lead: "\n{\"name\": \"",
    arguments: "\", \"arguments\": ",
    next: "\n</tool_call>\n<tool_call>\n{\"name\": \"",
    has_short_ids: false,
};

/// Mistral's.
const LISTED: Syntax = Syntax {
    trigger: "[TOOL_CALLS]",
    lead: "[{\"name\": \"",
    next: ", {\"name\": \"",
    has_short_ids: true,
    ..TAGGED
};

/// Llama 3's: nothing but the object, and one call an answer.
const BARE: Syntax = Syntax {
    trigger: "{\"name\": \"",
    lead: "",
    arguments: "\", \"parameters\": ",
    next: "",
    ..TAGGED
};

impl Syntax {
    /// The one that a template speaks of.
    pub(super) fn of_template(template: &str) -> Self {
        let has = |text: &str| template.contains(text);
        let untold = Self {
            is_native: false,
            ..TAGGED
        };
        match () {
            () if !has("tools") => untold,
            () if has("[TOOL_CALLS]") => LISTED,
            // Qwen3-Coder's calls are no JSON; it is told of ours.
            () if has("<tool_call>") && !has("<function=") => TAGGED,
            () if has("\"parameters\": ") && has("ipython") => BARE,
            () => untold,
        }
    }

    /// The grammar, in llguidance's Lark, of one or more calls of `tools` from the first's name on.
    fn grammar(&self, before: &str, tools: &[&Tool], several: bool) -> String {
        let literal = |text: &str| json!(text).to_string();
        let calls: Vec<String> = (0..tools.len())
            .map(|index| format!("call{index}"))
            .collect();
        let mut lark = String::from("start: ");
        if !before.is_empty() {
            lark += &format!("{} ", literal(before));
        }
        lark += "call";
        if several && !self.next.is_empty() {
            lark += &format!(" ({} call)*", literal(self.next));
        }
        lark += &format!("\ncall: {}\n", calls.join(" | "));
        for (index, tool) in tools.iter().enumerate() {
            let name = format!("{}{}", tool.function.name, self.arguments);
            let schema = compact(&parameters(tool));
            lark += &format!("call{index}: {} arguments{index} \"}}\"\n", literal(&name));
            lark += &format!("arguments{index}: %json {schema}\n");
        }
        lark
    }

    /// Calls that begin with the function's name: what comes before stands in the prompt.
    pub(super) fn after_lead(&self, tools: &[&Tool], several: bool) -> String {
        self.grammar("", tools, several)
    }

    /// Calls that begin after the trigger.
    pub(super) fn after_trigger(&self, tools: &[&Tool], several: bool) -> String {
        self.grammar(self.lead, tools, several)
    }

    /// Calls from their first letter on.
    pub(super) fn whole(&self, tools: &[&Tool], several: bool) -> String {
        let before = format!("{}{}", self.trigger, self.lead);
        self.grammar(&before, tools, several)
    }
}

/// The schema of a tool's arguments: an object that has nothing but what the tool knows.
fn parameters(tool: &Tool) -> Value {
    let schema = tool.function.parameters.clone();
    let mut schema = schema.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let is_plain = ["$ref", "anyOf", "oneOf", "allOf"]
        .iter()
        .all(|key| schema.get(key).is_none());
    if is_plain {
        for (key, usual) in [
            ("type", json!("object")),
            ("properties", json!({})),
            ("additionalProperties", false.into()),
        ] {
            if schema.get(key).is_none() {
                schema[key] = usual;
            }
        }
    }
    schema
}

/// What a model that was not made for tools is told of them.
pub(super) fn instructions(tools: &[&Tool], must_call: bool) -> String {
    let list: Vec<String> = tools
        .iter()
        .map(|tool| json!(tool.function).to_string())
        .collect();
    let list = list.join("\n");
    let wish = if must_call {
        "Answer with a function call."
    } else {
        "If a function can find out or do what the user asks for, answer with a function call and \
         nothing else. Otherwise answer in words."
    };
    format!(
        "You can call these functions:\n<tools>\n{list}\n</tools>\n{wish} A function call looks like \
         this:\n<tool_call>\n{{\"name\": \"function\", \"arguments\": {{\"argument\": \"value\"}}}}\n\
         </tool_call>"
    )
}

/// The tools that may be called.
pub(super) fn callable<'a>(
    model: &str,
    request: &'a ChatRequest,
) -> Result<Vec<&'a Tool>, ChatError> {
    for tool in &request.tools {
        let name = &tool.function.name;
        let is_name = !name.is_empty()
            && name.len() <= 256
            && !name.contains(|c: char| c.is_control() || c == '"' || c == '\\');
        if !is_name || tool.kind != "function" {
            let expected = "functions, with names without quotes and backslashes";
            return Err(unsupported(model, "tools", expected));
        }
    }
    match &request.tool_choice {
        Some(ToolChoice::None) => Ok(Vec::new()),
        None | Some(ToolChoice::Auto) => Ok(request.tools.iter().collect()),
        Some(ToolChoice::Required) if request.tools.is_empty() => Err(no_tool(request)),
        Some(ToolChoice::Required) => Ok(request.tools.iter().collect()),
        Some(ToolChoice::Function(name)) => {
            let mut tools = request.tools.iter();
            let tool = tools.find(|tool| tool.function.name == *name);
            Ok(vec![tool.ok_or_else(|| no_tool(request))?])
        }
    }
}

/// That what has to be called is not among the tools.
fn no_tool(request: &ChatRequest) -> ChatError {
    let names = request.tools.iter().map(|tool| tool.function.name.clone());
    ChatErrorKind::ToolChoice {
        choice: request.tool_choice.clone().unwrap_or(ToolChoice::Auto),
        tools: names.collect(),
    }
    .into()
}

/// True if the model has to call.
pub(super) fn must_call(request: &ChatRequest) -> bool {
    matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Function(_))
    )
}

pub(super) fn unsupported(model: &str, option: &'static str, expected: &str) -> ChatError {
    ChatErrorKind::Unsupported {
        model: model.to_owned(),
        option,
        expected: expected.to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_say_how_their_models_call() {
        assert_eq!(
            Syntax::of_template("{{ messages }}"),
            Syntax {
                is_native: false,
                ..TAGGED
            }
        );
        assert_eq!(Syntax::of_template("{% if tools %}<tool_call>"), TAGGED);
        assert_eq!(Syntax::of_template("{% if tools %}[TOOL_CALLS]"), LISTED);
        assert_eq!(
            Syntax::of_template("{% if tools %}ipython \"parameters\": "),
            BARE
        );
        assert!(!Syntax::of_template("{% if tools %}<tool_call><function=").is_native);
    }

    #[test]
    fn arguments_are_an_object_of_what_the_tool_knows() {
        let empty = Tool::function("f", "", Value::Null);
        assert_eq!(
            parameters(&empty),
            json!({"type": "object", "properties": {}, "additionalProperties": false})
        );
        let open = json!({"type": "object", "properties": {}, "additionalProperties": true});
        assert_eq!(parameters(&Tool::function("f", "", open.clone())), open);
    }

    #[test]
    fn a_choice_must_be_among_the_tools() {
        let mut request = ChatRequest::ask("x");
        request.tool_choice = Some(ToolChoice::Required);
        let said = |request: &ChatRequest| callable("m", request).unwrap_err().to_string();
        let nothing = "`tool_choice` is `required`, and there are no `tools` to choose from";
        assert_eq!(said(&request), nothing);
        request.tools = vec![Tool::function("查", "", json!({}))];
        assert_eq!(callable("m", &request).unwrap().len(), 1);
        request.tool_choice = Some(ToolChoice::Function("other".into()));
        assert_eq!(
            said(&request),
            "`tool_choice` names `other`, expected one of `tools`: `查`"
        );
        request.tools = vec![Tool::function("a\"b", "", json!({}))];
        assert!(callable("m", &request).is_err());
    }
}
