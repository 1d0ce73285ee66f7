//! Requests for vectors and their answers, in each dialect, checked before they are believed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use serde_json::{Value, json};

use super::http::Client;
use super::native::OutputType;
use super::table::EmbeddingDialect;
use super::{Error, ErrorKind, Result};
use crate::embed::Role;

/// What to ask for.
pub(super) struct Wish<'a> {
    pub(super) model: &'a str,
    pub(super) texts: &'a [&'a str],
    pub(super) role: &'a Role,
    pub(super) width: Option<usize>,
    pub(super) instruct: Option<&'a str>,
    pub(super) base64: bool,
    pub(super) output: OutputType,
}

/// Vectors in the order of the texts, `[texts, dimensions]`.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) dimensions: usize,
    pub(super) values: Vec<f32>,
    /// Ids and weights of each text, if they were wished for.
    pub(super) sparse: Vec<Vec<(u32, f32)>>,
    /// The spelling of their ids.
    pub(super) tokens: BTreeMap<u32, String>,
    /// What the requests cost, in order.
    pub(super) bills: Vec<Bill>,
}

/// What the provider counted for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bill {
    pub(super) texts: usize,
    /// None if it does not say.
    pub(super) tokens: Option<u64>,
}

impl Batch {
    pub(super) fn append(&mut self, other: Self) {
        self.dimensions = self.dimensions.max(other.dimensions);
        self.values.extend(other.values);
        self.sparse.extend(other.sparse);
        self.tokens.extend(other.tokens);
        self.bills.extend(other.bills);
    }
}

/// The body of a request.
pub(super) fn request(dialect: EmbeddingDialect, wish: &Wish<'_>) -> Value {
    match dialect {
        EmbeddingDialect::OpenAi => {
            let input = match wish.texts {
                // OpenAI takes an empty text only as a bare string.
                [""] => json!(""),
                texts => json!(texts),
            };
            let encoding = if wish.base64 { "base64" } else { "float" };
            let mut body =
                json!({"model": wish.model, "input": input, "encoding_format": encoding});
            if let Some(width) = wish.width {
                body["dimensions"] = width.into();
            }
            body
        }
        EmbeddingDialect::DashScope => {
            let is_query = *wish.role == Role::Query;
            let text_type = if is_query { "query" } else { "document" };
            let mut parameters = json!({"text_type": text_type});
            if let Some(width) = wish.width {
                parameters["dimension"] = width.into();
            }
            if let Some(instruct) = wish.instruct {
                parameters["instruct"] = instruct.into();
            }
            if wish.output != OutputType::Dense {
                parameters["output_type"] = wish.output.as_str().into();
            }
            json!({"model": wish.model, "input": {"texts": wish.texts}, "parameters": parameters})
        }
    }
}

#[derive(Deserialize)]
struct OpenAiAnswer {
    data: Option<Vec<Item>>,
    error: Option<Value>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct DashScopeAnswer {
    output: Option<DashScopeOutput>,
    code: Option<String>,
    message: Option<String>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct DashScopeOutput {
    embeddings: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(alias = "text_index")]
    index: Option<usize>,
    embedding: Option<Vector>,
    sparse_embedding: Option<Vec<Weight>>,
}

#[derive(Deserialize)]
struct Weight {
    index: u32,
    value: f32,
    token: Option<String>,
}

struct Vector(Vec<f32>);

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Numbers).map(Self)
    }
}

/// A list of numbers, or the base64 of little-endian `f32`.
struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of numbers or base64")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<f32>, A::Error> {
        let mut values = Vec::with_capacity(list.size_hint().unwrap_or(1024));
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(values)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<f32>, E> {
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| E::custom("a vector is no base64"))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(E::custom("a vector in base64 is cut"));
        }
        Ok(numbers
            .iter()
            .map(|number| f32::from_le_bytes(*number))
            .collect())
    }
}

/// The vectors of an answer to `expected` texts.
pub(super) fn read(
    dialect: EmbeddingDialect,
    bytes: &[u8],
    expected: usize,
    output: OutputType,
    client: &Client,
) -> Result<Batch> {
    let malformed = |error: serde_json::Error| client.malformed(error.to_string());
    let (items, usage) = match dialect {
        EmbeddingDialect::OpenAi => {
            let answer: OpenAiAnswer = serde_json::from_slice(bytes).map_err(malformed)?;
            if let Some(error) = answer.error.filter(|error| !error.is_null()) {
                return Err(client.told_error(200, &json!({"error": error})));
            }
            let data = answer.data;
            let data = data.ok_or_else(|| client.malformed("it has no `data`"))?;
            (data, answer.usage)
        }
        EmbeddingDialect::DashScope => {
            let answer: DashScopeAnswer = serde_json::from_slice(bytes).map_err(malformed)?;
            match answer.output {
                Some(output) => (output.embeddings, answer.usage),
                None if answer.code.is_some() => {
                    let told = json!({"code": answer.code, "message": answer.message});
                    return Err(client.told_error(200, &told));
                }
                None => return Err(client.malformed("it has no `output`")),
            }
        }
    };
    let order = check(&items, expected, client)?;
    let sparse = if output.has_sparse() {
        weights(&items, &order, client)?
    } else {
        Vec::new()
    };
    let (dimensions, values) = if output.has_dense() {
        arrange(&items, &order, client)?
    } else {
        (0, Vec::new())
    };
    let bill = Bill {
        texts: expected,
        tokens: tokens(usage.as_ref()),
    };
    Ok(Batch {
        dimensions,
        values,
        sparse,
        tokens: spellings(items),
        bills: vec![bill],
    })
}

/// The tokens that an answer speaks of. Some servers count none, whatever was sent.
fn tokens(usage: Option<&Value>) -> Option<u64> {
    let count = |name: &str| usage?.get(name)?.as_u64().filter(|count| *count > 0);
    count("prompt_tokens").or_else(|| count("total_tokens"))
}

/// Where the vector of each text is.
fn check(items: &[Item], expected: usize, client: &Client) -> Result<Vec<usize>> {
    if items.len() != expected {
        let received = items.len();
        return Err(ErrorKind::WrongCount {
            provider: client.provider().to_owned(),
            what: "vectors",
            expected,
            received,
        }
        .into());
    }
    order(items).ok_or_else(|| client.malformed("its indices are not 0, 1, 2, …"))
}

/// The weights of each text, by ascending id.
fn weights(items: &[Item], order: &[usize], client: &Client) -> Result<Vec<Vec<(u32, f32)>>> {
    let of = |place: &usize| {
        let weights = items[*place].sparse_embedding.as_ref();
        let weights = weights.ok_or_else(|| client.malformed("it has no `sparse_embedding`"))?;
        let mut weights: Vec<_> = weights.iter().map(|w| (w.index, w.value)).collect();
        if !weights.iter().all(|(_, value)| value.is_finite()) {
            return Err(client.malformed("a weight of its `sparse_embedding` is no number"));
        }
        weights.sort_unstable_by_key(|(id, _)| *id);
        Ok::<_, Error>(weights)
    };
    order.iter().map(of).collect()
}

fn spellings(items: Vec<Item>) -> BTreeMap<u32, String> {
    let weights = items.into_iter().filter_map(|item| item.sparse_embedding);
    let weights = weights.flatten();
    weights
        .filter_map(|weight| Some((weight.index, weight.token?)))
        .collect()
}

/// The width, and the vectors in the order of the texts.
fn arrange(items: &[Item], order: &[usize], client: &Client) -> Result<(usize, Vec<f32>)> {
    let vectors = items.iter().map(|item| item.embedding.as_ref());
    let vectors: Option<Vec<&Vector>> = vectors.collect();
    let vectors = vectors.ok_or_else(|| client.malformed("it has no `embedding`"))?;
    let dimensions = vectors.first().map_or(0, |vector| vector.0.len());
    let mut values = Vec::with_capacity(items.len() * dimensions);
    for (index, place) in order.iter().enumerate() {
        let vector = &vectors[*place].0;
        if vector.len() != dimensions || dimensions == 0 {
            return Err(client.malformed("its vectors have different widths, or none"));
        }
        let odd = |what| {
            Error::from(ErrorKind::NotANumber {
                provider: client.provider().to_owned(),
                index,
                what,
            })
        };
        if !vector.iter().all(|value| value.is_finite()) {
            return Err(odd("values that are no numbers"));
        }
        if vector.iter().all(|value| *value == 0.0) {
            return Err(odd("nothing but zeros"));
        }
        values.extend_from_slice(vector);
    }
    Ok((dimensions, values))
}

/// Where the vector of each text is; list order if there are no indices at all.
fn order(items: &[Item]) -> Option<Vec<usize>> {
    if items.iter().all(|item| item.index.is_none()) {
        return Some((0..items.len()).collect());
    }
    let mut order = vec![usize::MAX; items.len()];
    for (place, item) in items.iter().enumerate() {
        let slot = order.get_mut(item.index?)?;
        if *slot != usize::MAX {
            return None;
        }
        *slot = place;
    }
    Some(order)
}

/// How many texts the provider says it takes, if that is what the error is about. DashScope: "batch
/// size is invalid, it should not be larger than 10"; TEI: "batch size 64 > maximum allowed batch
/// size 32".
pub(super) fn stated_cap(error: &Error) -> Option<usize> {
    let ErrorKind::Status {
        status: 400 | 413 | 422,
        message,
        ..
    } = error.kind()
    else {
        return None;
    };
    let lower = message.to_lowercase();
    if !lower.contains("batch size") {
        return None;
    }
    let after = ["not be larger than ", "maximum allowed batch size "];
    let rest = after
        .iter()
        .find_map(|words| Some(lower.split_once(words)?.1))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|cap| *cap > 0)
}
