//! Customer service: frequent questions from a folder, orders from a tool, answers in the customer's
//! language, and a person for what neither knows.
//!
//! What was asked for is found first; the chat model only phrases what the documents say, and every
//! sentence of it is checked. Whether a tool runs is decided by which entry the customer's own words
//! find; its argument, too, comes from the customer's words. What documents say calls nothing.
//!
//! `cargo run --release -p wenyi --example 05_customer_service`

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use wenyi::chat::{DEFAULT_CHAT_MODEL, DecoderOptions, LocalChatModel, Message};
use wenyi::embed::{Embedder, EncoderOptions, LocalEmbedder};
use wenyi::hub::{DEFAULT_MODEL, Hub};
use wenyi::progress::Silent;
use wenyi::rag::{Answer, AnsweredBy, Language, Rag, RagQuestion};
use wenyi::retrieve::{ChunkOptions, IndexOptions, index, open_collection};

/// The entries; one of them stands for a tool.
const FAQ: &[(&str, &str)] = &[
    (
        "returns.md",
        "# Returning goods\n\nYou can return goods within 30 days of delivery. The goods must be unused. The \
         money is paid back within 5 working days.\n",
    ),
    (
        "payment.md",
        "# Payment\n\nYou can pay by credit card, by bank transfer or by Alipay. An invoice comes by \
         e-mail.\n",
    ),
    (
        "delivery.md",
        "# Delivery\n\nDelivery within the country takes 3 working days. Orders above 50 euros are \
         delivered free of charge.\n",
    ),
    (
        "warranty.md",
        "# Warranty\n\nAll devices have a warranty of two years. Damage by water is not covered.\n",
    ),
    (
        "order-status.md",
        "# Where is my order?\n\nThe status of an order, where it is and when it arrives can be looked up by \
         its number.\n",
    ),
    (
        "退货.md",
        "# 退货\n\n收货后 30 天内可以退货。商品必须未经使用。退款在 5 个工作日内到账。\n",
    ),
    (
        "付款.md",
        "# 付款\n\n可以用信用卡、银行转账或支付宝付款。发票通过电子邮件发送。\n",
    ),
    (
        "配送.md",
        "# 配送\n\n国内配送需要 3 个工作日。订单满 50 欧元免运费。\n",
    ),
    (
        "保修.md",
        "# 保修\n\n所有设备保修两年。进水造成的损坏不在保修范围内。\n",
    ),
    (
        "订单状态.md",
        "# 订单到哪里了\n\n凭订单号可以查询订单的状态、订单到了哪里以及何时送达。\n",
    ),
];

/// The tool: what the shop knows of an order, in the customer's language.
fn look_up_order(number: &str, language: Language) -> Option<&'static str> {
    match (number, language) {
        ("A1001", Language::English) => {
            Some("Order A1001 was sent on 24 November and arrives on 27 November.")
        }
        ("A1001", Language::Chinese) => {
            Some("订单 A1001 已于 11 月 24 日发货，预计 11 月 27 日送达。")
        }
        ("A1002", Language::English) => Some("Order A1002 is being packed."),
        ("A1002", Language::Chinese) => Some("订单 A1002 正在打包。"),
        _ => None,
    }
}

/// The number of an order, if the customer names one: a letter and four digits.
fn order_number(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let mut numbers = words.filter(|word| {
        let digits = word.strip_prefix(|c: char| c.is_ascii_alphabetic());
        digits.is_some_and(|rest| rest.len() == 4 && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    numbers.next().map(str::to_uppercase)
}

/// What the desk did with a question.
#[derive(Debug, PartialEq)]
enum Done {
    Answered(AnsweredBy),
    LookedUp,
    AskedForNumber,
    PassedOn,
}

/// A conversation with one customer.
struct Desk {
    /// Answers in the documents' own words.
    documents: Rag,
    /// The same, phrased by the chat model, which speaks English.
    phrased: Rag,
    history: Vec<Message>,
}

impl Desk {
    fn reply(&mut self, said: &str) -> Result<(Done, String), Box<dyn Error>> {
        let language = Language::of(said);
        let question = RagQuestion::from(said).after(self.history.clone());
        let evidence = self.documents.evidence(&question)?;
        let entry = evidence.quotes.first();
        let stem = entry.and_then(|quote| quote.path.file_stem()?.to_str());
        let (done, text) = match (stem, order_number(said)) {
            (Some("order-status" | "订单状态") | None, Some(number)) => {
                match look_up_order(&number, language) {
                    Some(status) => (Done::LookedUp, status.to_owned()),
                    None => (Done::PassedOn, pass_on(language)),
                }
            }
            (Some("order-status" | "订单状态"), None) => {
                let text = match language {
                    Language::English => "What is the number of your order?",
                    Language::Chinese => "请问您的订单号是多少？",
                };
                (Done::AskedForNumber, text.to_owned())
            }
            (None, None) => (Done::PassedOn, pass_on(language)),
            (Some(_), _) => {
                let rag = match language {
                    Language::English => &self.phrased,
                    Language::Chinese => &self.documents,
                };
                let goes_on = |_: wenyi::rag::RagEvent<'_>| std::ops::ControlFlow::Continue(());
                let answer = rag.answer(evidence, &mut { goes_on })?;
                (Done::Answered(answer.answered_by), with_sources(&answer))
            }
        };
        self.history.push(Message::user(said));
        self.history.push(Message::assistant(&*text));
        Ok((done, text))
    }
}

fn pass_on(language: Language) -> String {
    match language {
        Language::English => "I do not know that; a colleague will answer you.",
        Language::Chinese => "这个我不清楚，稍后由同事答复您。",
    }
    .to_owned()
}

fn with_sources(answer: &Answer) -> String {
    let mut text = answer.text.clone();
    for (number, passage) in (1..).zip(&answer.evidence.passages) {
        if answer
            .claims
            .iter()
            .any(|claim| claim.citations.contains(&number))
        {
            let name = passage.path.file_name().unwrap_or_default();
            text.push_str(&format!("\n    [{number}] {}", Path::new(name).display()));
        }
    }
    text
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let faq = folder.path().join("faq");
    fs::create_dir(&faq)?;
    for (name, text) in FAQ {
        fs::write(faq.join(name), text)?;
    }
    let hub = Hub::from_env()?;
    let model = hub.resolve(DEFAULT_MODEL, &Silent)?;
    let embedder: Arc<dyn Embedder> = Arc::new(LocalEmbedder::open(
        &model.path,
        &EncoderOptions::default(),
    )?);
    let path = folder.path().join("faq.db");
    let collection = open_collection(&path, embedder.as_ref(), &ChunkOptions::default())?;
    index(
        embedder.as_ref(),
        &collection,
        &[faq],
        &IndexOptions::default(),
        &Silent,
    )?;
    let model = hub.resolve(DEFAULT_CHAT_MODEL, &Silent)?;
    let chat = LocalChatModel::open(&model.path, &model.id, &DecoderOptions::default())?;
    let documents = Rag::over(embedder, Arc::new(collection));
    let mut desk = Desk {
        phrased: documents.clone().with_small_chat_model(Arc::new(chat)),
        documents,
        history: Vec::new(),
    };

    for (said, expected) in [
        ("How many days do I have to return goods?", "30 days"),
        ("Where is my order?", "number of your order"),
        ("Where is my order A1001?", "27 November"),
        ("How can I pay?", "credit card"),
        ("Which airports do you fly to from Tokyo?", "colleague"),
        ("多少天内可以退货？", "30 天"),
        ("我的订单到哪里了？", "订单号"),
        ("我的订单 A1002 到哪里了？", "正在打包"),
        ("可以用支付宝付款吗？", "支付宝"),
        ("你们有从东京出发的航班吗？", "同事"),
    ] {
        let (done, text) = desk.reply(said)?;
        println!("> {said}\n    {text}\n    ({done:?})\n");
        assert!(text.contains(expected), "`{said}` got `{text}`");
    }
    Ok(())
}
