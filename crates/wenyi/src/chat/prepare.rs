//! A request becomes what a local model reads, and what its answer is held to.

use serde_json::{Map, Value, json};
use wenyi_engine::decoder::{
    Begins, Constraint, Decoder, GenerateOptions, Grammar, RenderOptions, SamplingOptions,
    python_json,
};
use wenyi_engine::tokenizer::AddedWord;

use super::bare::BareReader;
use super::calls::{CallReader, short_id};
use super::meant::with_meant_tool;
use super::quoted::{broken, encode, without_passages};
use super::tools::{Syntax, callable, instructions, must_call, unsupported};
use super::{
    ChatError, ChatErrorKind, ChatOptions, ChatRequest, Content, Message, MessageRole,
    ResponseFormat, Thinking, Tool,
};

/// What a model is to read and how it is to answer.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The prompt.
    pub(super) ids: Vec<u32>,
    pub(super) options: GenerateOptions,
    /// What asks for the form of the answer, if it has one.
    pub(super) form: &'static str,
    /// What sets the limit of its length.
    pub(super) limit: &'static str,
    /// Reads the calls in the answer, if it may have some.
    pub(super) calls: Option<CallReader>,
    /// Reads a call without marks, if the model decides on calls.
    pub(super) bare: Option<BareReader>,
    /// What is to be decided before.
    pub(super) decision: Option<Decision>,
}

/// Whether a tool is called, and which, is decided without what quoted passages say: they are read for
/// the answer and for a call's arguments, but no call is made because a passage asks for it.
#[derive(Debug)]
pub(super) struct Decision {
    /// The prompt without passages.
    pub(super) ids: Vec<u32>,
    pub(super) options: GenerateOptions,
    pub(super) calls: CallReader,
    pub(super) bare: BareReader,
    tools: Vec<Tool>,
    syntax: Syntax,
}

impl Decision {
    /// What holds the answer after the call of `name` was decided on, or that of none.
    pub(super) fn constraint(
        &self,
        decoder: &Decoder,
        name: Option<&str>,
    ) -> Result<Constraint, wenyi_engine::Error> {
        let mut tools = self.tools.iter();
        let tool = tools.find(|tool| Some(tool.function.name.as_str()) == name);
        let Some(tool) = tool else {
            return decoder.forbid(self.syntax.trigger);
        };
        let grammar = Grammar::Lark(self.syntax.after_trigger(&[tool], false));
        decoder.constraint(&grammar, Begins::On(self.syntax.trigger.into()))
    }
}

/// Everything that makes a prompt.
struct Prompt<'a> {
    model: &'a str,
    decoder: &'a Decoder,
    request: &'a ChatRequest,
    syntax: Syntax,
    tools: Vec<&'a Tool>,
    words: Vec<AddedWord>,
    /// The answer has a form from its beginning on.
    is_held: bool,
}

pub(super) fn prepare(
    model: &str,
    decoder: &Decoder,
    request: &ChatRequest,
) -> Result<Prepared, ChatError> {
    let template = decoder.template();
    let template = template.ok_or_else(|| unsupported(model, "messages", "a chat template"))?;
    let meant = with_meant_tool(decoder, request);
    let request = meant.as_ref().unwrap_or(request);
    let (tools, form) = (callable(model, request)?, form(request));
    let must_call = must_call(request);
    if form.is_some() && !tools.is_empty() && !must_call {
        let expected = "tools or a form of the answer, not both; `tool_choice` can be `none`";
        return Err(unsupported(model, "response_format", expected));
    }
    let prompt = Prompt {
        model,
        decoder,
        request,
        syntax: Syntax::of_template(template.source()),
        tools,
        words: decoder.tokenizer().added_words(),
        is_held: must_call || form.is_some(),
    };
    let mut text = prompt.render(true)?;
    let mut options = GenerateOptions {
        sampling: sampling(&request.options),
        max_tokens: request.options.max_tokens.map(|count| count as usize),
        stop: request.options.stop.clone(),
        logprobs: request.options.logprobs.map(|count| count as usize),
        ..GenerateOptions::default()
    };
    let (mut calls, mut bare) = (None, None);
    if must_call {
        // What a call is made of is no text that could be stopped.
        options.stop.clear();
        calls = Some(CallReader::new(prompt.syntax));
        options.is_call = true;
    }
    let option = match prompt.tools.is_empty() {
        true => "response_format",
        false => "tools",
    };
    if let Some((grammar, begins)) = prompt.hold(&mut text, form)? {
        let constraint = decoder.constraint(&grammar, begins);
        let constraint = constraint.map_err(|source| ChatErrorKind::Form { option, source })?;
        options.constraint = Some(constraint);
    }
    let mut decision = None;
    if !prompt.tools.is_empty() && !must_call {
        calls = Some(CallReader::new(prompt.syntax));
        bare = Some(prompt.bare());
        options.is_call = true;
        if prompt.has_passages() {
            decision = Some(prompt.decision(&options)?);
        }
    }
    let ids = prompt.fitting(&text)?;
    let room = prompt.context() - ids.len();
    let limit = match options.max_tokens {
        Some(most) if most <= room => "max_tokens",
        _ => "messages",
    };
    options.max_tokens = Some(options.max_tokens.map_or(room, |most| most.min(room)));
    Ok(Prepared {
        ids,
        options,
        form: option,
        limit,
        calls,
        bare,
        decision,
    })
}

/// The grammar of the form that the answer has to have.
fn form(request: &ChatRequest) -> Option<Grammar> {
    match request.response_format.as_ref()? {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(Grammar::json_object()),
        ResponseFormat::JsonSchema { schema, .. } => Some(Grammar::JsonSchema(schema.clone())),
        ResponseFormat::Regex(regex) => Some(Grammar::Regex(regex.clone())),
    }
}

impl Prompt<'_> {
    /// Tokens that conversation and answer may have together.
    fn context(&self) -> usize {
        let most = self.decoder.context();
        let asked = self.request.options.context;
        asked.map_or(most, |asked| most.min(asked as usize))
    }

    /// The tokens of `text`, which must leave room for an answer.
    fn fitting(&self, text: &str) -> Result<Vec<u32>, ChatError> {
        let ids = encode(self.decoder.tokenizer(), text)?;
        let context_length = self.context();
        if ids.is_empty() || ids.len() >= context_length {
            return Err(ChatErrorKind::ContextLength {
                model: self.model.to_owned(),
                tokens: ids.len(),
                context_length,
            }
            .into());
        }
        Ok(ids)
    }

    /// What holds the answer after the prompt `text`, which may get the call's first letters.
    fn hold(
        &self,
        text: &mut String,
        form: Option<Grammar>,
    ) -> Result<Option<(Grammar, Begins)>, ChatError> {
        let Self { syntax, tools, .. } = self;
        let template = self
            .decoder
            .template()
            .map_or("", |template| template.source());
        let mut is_thinking = text.trim_end().ends_with(THINK);
        if self.is_held && self.wants_thought() && !is_thinking && template.contains(THINK) {
            text.push_str("<think>\n");
            is_thinking = true;
        }
        let begins = if is_thinking {
            Begins::After("</think>".into())
        } else {
            Begins::AtOnce
        };
        if must_call(self.request) {
            let several = self.takes_several();
            if is_thinking {
                return Ok(Some((Grammar::Lark(syntax.whole(tools, several)), begins)));
            }
            text.push_str(syntax.trigger);
            text.push_str(syntax.lead);
            return Ok(Some((
                Grammar::Lark(syntax.after_lead(tools, several)),
                begins,
            )));
        }
        if let Some(form) = form {
            return Ok(Some((form, begins)));
        }
        if tools.is_empty() {
            return Ok(None);
        }
        let grammar = Grammar::Lark(syntax.after_trigger(tools, self.takes_several()));
        Ok(Some((grammar, Begins::On(syntax.trigger.into()))))
    }

    /// Several calls an answer, which only models made for it end by themselves.
    fn takes_several(&self) -> bool {
        let is_one = matches!(
            self.request.tool_choice,
            Some(super::ToolChoice::Function(_))
        );
        !is_one
            && self
                .request
                .options
                .parallel_tool_calls
                .unwrap_or(self.syntax.is_native)
    }

    fn wants_thought(&self) -> bool {
        !matches!(self.request.options.thinking, None | Some(Thinking::Off))
    }

    fn has_passages(&self) -> bool {
        let mut messages = self.request.messages.iter();
        messages.any(|message| without_passages(&message.text()).is_some())
    }

    fn bare(&self) -> BareReader {
        let names = self.tools.iter().map(|tool| tool.function.name.clone());
        BareReader::new(names.collect())
    }

    /// The question whether to call, asked without the passages.
    fn decision(&self, options: &GenerateOptions) -> Result<Decision, ChatError> {
        /// A model that calls does so after a few words at most.
        const WORDS: usize = 48;
        let mut options = options.clone();
        options.logprobs = None;
        options.sampling.temperature = 0.0;
        options.max_tokens = Some(options.max_tokens.map_or(WORDS, |most| most.max(WORDS)));
        Ok(Decision {
            ids: self.fitting(&self.render(false)?)?,
            options,
            calls: CallReader::new(self.syntax),
            bare: self.bare(),
            tools: self.tools.iter().map(|tool| (*tool).clone()).collect(),
            syntax: self.syntax,
        })
    }

    /// The text that the model reads.
    fn render(&self, has_passages: bool) -> Result<String, ChatError> {
        let template = self.decoder.template();
        let template =
            template.ok_or_else(|| unsupported(self.model, "messages", "a chat template"))?;
        let mut variables = Map::new();
        let thinking = self.request.options.thinking.as_ref();
        let is_off = thinking.map_or(self.is_held, |thinking| *thinking == Thinking::Off);
        if thinking.is_some() || self.is_held {
            variables.insert("enable_thinking".into(), (!is_off).into());
        }
        let tools: Vec<Value> = self.tools.iter().map(|tool| json!(tool)).collect();
        let options = RenderOptions {
            add_generation_prompt: true,
            tools: (self.syntax.is_native && !tools.is_empty()).then_some(tools),
            variables,
        };
        Ok(template.render(&self.messages(has_passages)?, &options)?)
    }

    fn messages(&self, has_passages: bool) -> Result<Vec<Value>, ChatError> {
        let mut messages: Vec<Value> = Vec::new();
        for message in &self.request.messages {
            let told = self.message(message, has_passages)?;
            let is_result = is_result(message) && !self.syntax.is_native;
            match messages.last_mut() {
                // Templates may want roles to alternate.
                Some(last) if is_result && last["is_result"] == true => {
                    let both = format!(
                        "{}\n{}",
                        last["content"].as_str().unwrap_or_default(),
                        told["content"].as_str().unwrap_or_default()
                    );
                    last["content"] = both.into();
                }
                _ => messages.push(told),
            }
        }
        if !self.syntax.is_native && !self.tools.is_empty() {
            instruct(
                &mut messages,
                &instructions(&self.tools, must_call(self.request)),
            );
        }
        match &self.request.response_format {
            _ if must_call(self.request) => {}
            Some(ResponseFormat::JsonSchema { schema, .. }) => {
                let schema = python_json(schema);
                instruct(
                    &mut messages,
                    &format!("Answer in JSON of this schema: {schema}"),
                );
            }
            Some(ResponseFormat::JsonObject) => instruct(&mut messages, "Answer in JSON."),
            _ => {}
        }
        Ok(messages)
    }

    /// A message as templates expect it: words alone, arguments of calls as objects.
    fn message(&self, message: &Message, has_passages: bool) -> Result<Value, ChatError> {
        let content = message.content.as_ref();
        if content.is_some_and(Content::has_media) {
            return Err(unsupported(self.model, "content", "text alone"));
        }
        let mut text = message.text();
        if !has_passages {
            text = without_passages(&text).unwrap_or(text);
        }
        // What the model said may have its own marks, but nobody else's words may.
        let is_own = message.role == MessageRole::Assistant;
        let safe = |text: &str| {
            let words = self.words.iter();
            broken(text, words.filter(|word| word.is_special || !is_own))
        };
        let text = safe(&text);
        if !self.syntax.is_native {
            return Ok(self.untold(message, text, &safe));
        }
        let role = match message.role {
            MessageRole::Developer => json!("system"),
            role => json!(role),
        };
        let mut value = json!({"role": role, "content": text});
        if let Some(thought) = &message.reasoning_content {
            value["reasoning_content"] = safe(thought).into();
        }
        let id = |id: &str| match self.syntax.has_short_ids {
            true => short_id(id),
            false => id.to_owned(),
        };
        if !message.tool_calls.is_empty() {
            let call = |call: &super::ToolCall| {
                let arguments = arguments(&call.function.arguments, &safe);
                let function = json!({"name": call.function.name, "arguments": arguments});
                json!({"id": id(&call.id), "type": call.kind, "function": function})
            };
            value["tool_calls"] = message.tool_calls.iter().map(call).collect();
        }
        if let Some(name) = &message.name {
            value["name"] = safe(name).into();
        }
        if let Some(answered) = &message.tool_call_id {
            value["tool_call_id"] = id(answered).into();
        }
        Ok(value)
    }

    /// The same for a template that knows no tools.
    fn untold(&self, message: &Message, mut text: String, safe: &dyn Fn(&str) -> String) -> Value {
        if is_result(message) {
            let content = format!("<tool_response>\n{text}\n</tool_response>");
            return json!({"role": "user", "content": content, "is_result": true});
        }
        for call in &message.tool_calls {
            let arguments = arguments(&call.function.arguments, safe);
            let (name, arguments) = (&call.function.name, python_json(&arguments));
            if !text.is_empty() {
                text.push('\n');
            }
            text += &format!(
                "{}{}{name}{}{arguments}}}\n</tool_call>",
                self.syntax.trigger, self.syntax.lead, self.syntax.arguments
            );
        }
        let role = match message.role {
            MessageRole::Developer => json!("system"),
            role => json!(role),
        };
        let mut value = json!({"role": role, "content": text});
        if let Some(thought) = &message.reasoning_content {
            value["reasoning_content"] = safe(thought).into();
        }
        if let Some(name) = &message.name {
            value["name"] = safe(name).into();
        }
        value
    }
}

const THINK: &str = "<think>";

fn is_result(message: &Message) -> bool {
    matches!(message.role, MessageRole::Tool | MessageRole::Function)
}

/// Arguments of a call as an object, every text in it made safe.
fn arguments(text: &str, safe: &dyn Fn(&str) -> String) -> Value {
    fn each(value: Value, safe: &dyn Fn(&str) -> String) -> Value {
        match value {
            Value::String(text) => safe(&text).into(),
            Value::Array(list) => list.into_iter().map(|value| each(value, safe)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter();
                fields
                    .map(|(key, value)| (safe(&key), each(value, safe)))
                    .collect()
            }
            other => other,
        }
    }
    let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    each(value, safe)
}

/// Adds to the instructions that the conversation begins with.
fn instruct(messages: &mut Vec<Value>, text: &str) {
    match messages.first_mut() {
        Some(first) if first["role"] == "system" => {
            let before = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{before}\n\n{text}").into();
        }
        _ => messages.insert(0, json!({"role": "system", "content": text})),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the engine samples in f32")]
fn sampling(options: &ChatOptions) -> SamplingOptions {
    let usual = SamplingOptions::default();
    let number = |value: Option<f64>, usual: f32| value.map_or(usual, |value| value as f32);
    let biases = options.logit_bias.iter();
    SamplingOptions {
        temperature: number(options.temperature, usual.temperature),
        top_k: options.top_k.map(|count| count as usize),
        top_p: number(options.top_p, usual.top_p),
        min_p: number(options.min_p, usual.min_p),
        repetition_penalty: number(options.repetition_penalty, usual.repetition_penalty),
        presence_penalty: number(options.presence_penalty, usual.presence_penalty),
        frequency_penalty: number(options.frequency_penalty, usual.frequency_penalty),
        logit_bias: biases.map(|(id, bias)| (*id, *bias as f32)).collect(),
        seed: options.seed,
    }
}
