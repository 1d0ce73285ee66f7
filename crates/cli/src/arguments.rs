//! The command line: verbs, and the options that several of them share.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser};
use wenyi::chat::CacheFormat;
use wenyi::embed::{Overflow, Precision, Role};

use crate::commands::Command;

/// wenyi 文意: find by meaning, on your own machine.
///
/// Turns texts into vectors with a local model, keeps them in one file, and finds the passages that
/// answer a question, in English, Chinese and a hundred other languages. The first run fetches a
/// small model; after that no network is needed.
#[derive(Debug, Parser)]
#[command(
    name = "wenyi",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
#[command(arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  wenyi search docs/ \"how do I use it without a network?\"
  wenyi search docs/ \"怎样在没有网络的机器上使用？\"
  wenyi ask docs/ \"which port does the server listen on?\"
  wenyi embed \"good morning\" \"早上好\"

`wenyi VERB --help` shows the options and examples of a verb.";

/// Which model, and how it computes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArguments {
    /// Model: a name that `wenyi models list` shows, a folder or .gguf file, or a Hugging Face
    /// repository such as `intfloat/multilingual-e5-small`; or a provider's, such as
    /// `openai:text-embedding-3-small` or `dashscope:text-embedding-v4`
    #[arg(short, long, value_name = "ID|PATH")]
    pub(crate) model: Option<String>,

    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

/// How models on this machine compute.
#[derive(Args, Clone, Debug)]
pub(crate) struct ComputeArguments {
    /// Numbers to compute with: f32 is the reference, bf16 all but equals it, int8 takes the least
    /// memory; the fastest accurate one of this machine if not given
    #[arg(long, value_name = "NAME", value_parser = precision_parser())]
    pub(crate) precision: Option<Precision>,

    /// Threads to compute with; all cores if not given
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) threads: Option<usize>,

    /// Use only what is on this machine; open no connection
    #[arg(long)]
    pub(crate) offline: bool,
}

/// The model that phrases the answer, and the one that finds passages.
#[derive(Args, Debug)]
#[command(next_help_heading = "Models")]
pub(crate) struct AnsweringArguments {
    /// Chat model that answers: a name that `wenyi models list` shows, a folder or .gguf
    /// file; or a provider's, such as `openai:gpt-4o-mini` or `deepseek:deepseek-v4-flash`
    #[arg(short, long, value_name = "ID|PATH")]
    pub(crate) model: Option<String>,

    /// Model that finds passages, as `--model` of `wenyi index`; by default the one that made the
    /// collection
    #[arg(long, value_name = "ID|PATH")]
    pub(crate) embedding_model: Option<String>,

    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

impl AnsweringArguments {
    /// The one that finds passages.
    pub(crate) fn embedding(&self) -> ModelArguments {
        ModelArguments {
            model: self.embedding_model.clone(),
            compute: self.compute.clone(),
        }
    }

    /// The one that answers.
    pub(crate) fn chat(&self) -> ModelArguments {
        ModelArguments {
            model: self.model.clone(),
            compute: self.compute.clone(),
        }
    }
}

/// A count of at least one.
pub(crate) fn positive(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) => Err("expected at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".into()),
    }
}

/// A role by name; anything else is a prompt that the model's files name.
pub(crate) fn role(value: &str) -> Result<Role, String> {
    Ok(match value {
        "plain" => Role::Plain,
        "query" => Role::Query,
        "document" => Role::Document,
        "" => return Err("expected `query`, `document`, `plain` or a prompt's name".into()),
        name => Role::Named(name.into()),
    })
}

/// The precisions by name.
pub(crate) fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(["f32", "bf16", "int8"]).try_map(|name| name.parse::<Precision>())
}

/// How keys and values of a conversation are kept, by name.
pub(crate) fn kv_cache_parser() -> impl TypedValueParser<Value = CacheFormat> {
    PossibleValuesParser::new(["bf16", "int8", "f32"]).map(|name| match name.as_str() {
        "int8" => CacheFormat::Int8,
        "f32" => CacheFormat::F32,
        _ => CacheFormat::Bf16,
    })
}

/// The policies for texts longer than the model.
pub(crate) fn overflow_parser() -> impl TypedValueParser<Value = Overflow> {
    PossibleValuesParser::new(["error", "truncate", "split-mean"])
        .try_map(|name| name.parse::<Overflow>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
