//! Messages to one text, by the model's own Jinja template.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind as JinjaKind, Value as JinjaValue};
use serde_json::{Map, Value, json};

use crate::tokenizer::Tokenizer;
use crate::weights::gguf::Metadata;
use crate::{Error, ErrorKind, Result};

/// Steps that a template may take: a broken one must not run for ever.
const FUEL: u64 = 50_000_000;

/// A model's chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

/// What a template is given besides the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// End with the opening of the model's turn.
    pub add_generation_prompt: bool,
    /// Tools that the model may call, as in the OpenAI API.
    pub tools: Option<Vec<Value>>,
    /// Further variables, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

impl ChatTemplate {
    /// Compiles `source`.
    ///
    /// # Errors
    ///
    /// If it is not a template.
    pub fn new(source: &str, bos: Option<String>, eos: Option<String>) -> Result<Self> {
        let mut environment = Environment::new();
        // As transformers does.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| failed(&error))?);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| {
            Err::<JinjaValue, _>(minijinja::Error::new(JinjaKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| today(&format));
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| failed(&error))?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            bos_token: bos,
            eos_token: eos,
        })
    }

    /// The template of a model folder, if it has one.
    pub(super) fn of_folder(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("tokenizer_config.json");
        let config = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Error::invalid(&path, format!("expected JSON: {error}")))?,
            Err(_) => Value::Null,
        };
        let apart = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
        let Some(source) = apart.or_else(|| named_template(&config["chat_template"])) else {
            return Ok(None);
        };
        let token = |name: &str| {
            let value = &config[name];
            let text = value.as_str().or(value["content"].as_str());
            text.map(str::to_owned)
        };
        Self::new(&source, token("bos_token"), token("eos_token")).map(Some)
    }

    /// The template of a GGUF file, if it has one.
    pub(super) fn of_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = metadata.str("tokenizer.chat_template")? else {
            return Ok(None);
        };
        let ids = tokenizer.special_ids();
        let token = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        Self::new(source, token(ids.bos), token(ids.eos)).map(Some)
    }

    /// The template as the model's files have it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of `messages` (objects with `role` and `content`, as in the OpenAI API).
    ///
    /// # Errors
    ///
    /// If the template refuses them, fails, or runs for too long.
    pub fn render(&self, messages: &[Value], options: &RenderOptions) -> Result<String> {
        let mut context = Map::new();
        if let Some(token) = &self.bos_token {
            context.insert("bos_token".to_owned(), json!(token));
        }
        if let Some(token) = &self.eos_token {
            context.insert("eos_token".to_owned(), json!(token));
        }
        context.extend(options.variables.clone());
        let prompt = options.add_generation_prompt;
        context.insert("messages".to_owned(), json!(messages));
        context.insert("add_generation_prompt".to_owned(), json!(prompt));
        if let Some(tools) = &options.tools {
            context.insert("tools".to_owned(), json!(tools));
        }
        let template = self.environment.get_template("chat");
        let template = template.map_err(|error| failed(&error))?;
        template
            .render(JinjaValue::from(Serde(&context)))
            .map_err(|error| failed(&error))
    }
}

/// A template, or the one called `default` of several.
fn named_template(value: &Value) -> Option<String> {
    if let Some(source) = value.as_str() {
        return Some(source.to_owned());
    }
    let list = value.as_array()?;
    let default = list.iter().find(|entry| entry["name"] == "default");
    let entry = default.or(list.first())?;
    entry["template"].as_str().map(str::to_owned)
}

/// As Python's `json.dumps` without ASCII escapes: a space after colons and commas.
fn to_json(value: Serde<Value>, options: Kwargs) -> Result<JinjaValue, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Templates pass `ensure_ascii` and `separators` too, always with these values.
    options.get::<Option<bool>>("ensure_ascii")?;
    let mut out = Vec::new();
    let done = match indent {
        Some(width) => {
            let spaces = " ".repeat(width);
            let style = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            write_json(&value.0, &mut out, style)
        }
        None => write_json(&value.0, &mut out, Spaced),
    };
    done.map_err(|error| {
        minijinja::Error::new(JinjaKind::BadSerialization, "not JSON").with_source(error)
    })?;
    Ok(JinjaValue::from_safe_string(
        String::from_utf8_lossy(&out).into_owned(),
    ))
}

/// `value` on one line, as Python's `json.dumps` without ASCII escapes writes it.
#[must_use]
pub fn python_json(value: &Value) -> String {
    let mut out = Vec::new();
    // A `Value` can always be written into memory.
    let _ = write_json(value, &mut out, Spaced);
    String::from_utf8_lossy(&out).into_owned()
}

fn write_json(
    value: &Value,
    out: &mut Vec<u8>,
    style: impl serde_json::ser::Formatter,
) -> serde_json::Result<()> {
    use serde::Serialize;
    value.serialize(&mut serde_json::Serializer::with_formatter(out, style))
}

/// One line, a space after colons and commas.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Today in UTC, for the formats that templates use.
fn today(format: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = now.map_or(0, |now| now.as_secs() / 86_400);
    let (year, month, day) = civil(days);
    let name = MONTHS[month - 1];
    format
        .replace("%d", &format!("{day:02}"))
        .replace("%m", &format!("{month:02}"))
        .replace("%b", &name[..3])
        .replace("%B", name)
        .replace("%Y", &year.to_string())
}

/// Year, month and day of a day counted from 1970 (H. Hinnant's `civil_from_days`, for dates since).
fn civil(days: u64) -> (u64, usize, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day)
}

fn failed(error: &minijinja::Error) -> Error {
    let reason = error
        .detail()
        .map_or_else(|| error.to_string(), str::to_owned);
    ErrorKind::ChatTemplate { reason }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[Value]) -> Result<String> {
        let template = ChatTemplate::new(source, Some("<s>".into()), None)?;
        template.render(messages, &RenderOptions::default())
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_780), (2026, 11, 23));
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let text = render(
            "{{ messages[0].content | tojson }}",
            &[json!({"content": {"a": [1, "<é>"]}})],
        );
        assert_eq!(text.unwrap(), "{\"a\": [1, \"<é>\"]}");
    }

    #[test]
    fn a_template_that_refuses_loops_or_is_broken_is_an_error() {
        let refusal = render("{{ raise_exception('roles must alternate') }}", &[]);
        assert!(
            refusal
                .unwrap_err()
                .to_string()
                .contains("roles must alternate")
        );
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(render(endless, &[]).is_err());
        assert!(ChatTemplate::new("{% if %}", None, None).is_err());
    }
}
