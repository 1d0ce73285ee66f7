//! What the server counts, for Prometheus.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds, from a cached vector to the longest a request may take.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];
/// Sizes of batches, in windows and in tokens.
const SIZES: [f64; 10] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 16_384.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteAndModel {
    route: String,
    /// Empty where no model answered.
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cached {
    found: &'static str,
}

/// All counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Route, Counter>,
    durations: Family<RouteAndModel, Histogram>,
    problems: Family<Reason, Counter>,
    in_flight: Gauge,
    tokens: Family<Model, Counter>,
    batch_windows: Family<Model, Histogram>,
    batch_tokens: Family<Model, Histogram>,
    batch_seconds: Family<Model, Histogram>,
    waits: Family<Model, Histogram>,
    queued: Family<Model, Gauge>,
    cache: Family<Cached, Counter>,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn sizes() -> Histogram {
    Histogram::new(SIZES)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("wenyi"),
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            problems: Family::default(),
            in_flight: Gauge::default(),
            tokens: Family::default(),
            batch_windows: Family::new_with_constructor(sizes),
            batch_tokens: Family::new_with_constructor(sizes),
            batch_seconds: Family::new_with_constructor(seconds),
            waits: Family::new_with_constructor(seconds),
            queued: Family::default(),
            cache: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let seconds = || Unit::Seconds;
        registry.register("requests", "Answered requests", self.requests.clone());
        let help = "Time from a request's head to its answer's";
        registry.register_with_unit("request_duration", help, seconds(), self.durations.clone());
        registry.register("problems", "Failed requests", self.problems.clone());
        registry.register("in_flight", "Requests in work", self.in_flight.clone());
        registry.register("tokens", "Tokens of answered texts", self.tokens.clone());
        let help = "Windows of texts in a batch";
        registry.register("batch_windows", help, self.batch_windows.clone());
        registry.register(
            "batch_tokens",
            "Tokens in a batch",
            self.batch_tokens.clone(),
        );
        let help = "Time that a batch takes";
        registry.register_with_unit("batch", help, seconds(), self.batch_seconds.clone());
        let help = "Time that a window waits for its batch";
        registry.register_with_unit("queue_wait", help, seconds(), self.waits.clone());
        registry.register("queued_tokens", "Tokens that wait", self.queued.clone());
        registry.register("cache_lookups", "Texts looked up", self.cache.clone());
    }

    /// A request came in.
    pub(crate) fn arrived(&self) {
        self.in_flight.inc();
    }

    /// A request is over, answered or abandoned.
    pub(crate) fn left(&self) {
        self.in_flight.dec();
    }

    /// A request was answered, by `model` if by any.
    pub(crate) fn answered(&self, route: &str, model: &str, status: u16, took: Duration) {
        let (route, model) = (route.to_owned(), model.to_owned());
        let durations = RouteAndModel {
            route: route.clone(),
            model,
        };
        self.durations
            .get_or_create(&durations)
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&Route { route, status }).inc();
    }

    /// A request failed.
    pub(crate) fn problem(&self, reason: &'static str) {
        self.problems.get_or_create(&Reason { reason }).inc();
    }

    /// Texts were answered.
    pub(crate) fn tokens(&self, model: &str, tokens: usize) {
        self.tokens.get_or_create(&of(model)).inc_by(tokens as u64);
    }

    /// A conversation, or a text that goes on, was answered.
    pub(crate) fn chat(&self, model: &str, usage: &wenyi::chat::Usage) {
        let tokens = usize::try_from(usage.total_tokens).unwrap_or(usize::MAX);
        self.tokens(model, tokens);
    }

    /// A batch ran.
    pub(crate) fn batch(&self, model: &str, windows: usize, tokens: usize, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch's size")]
        let (windows, tokens) = (windows as f64, tokens as f64);
        let model = of(model);
        self.batch_windows.get_or_create(&model).observe(windows);
        self.batch_tokens.get_or_create(&model).observe(tokens);
        let took = took.as_secs_f64();
        self.batch_seconds.get_or_create(&model).observe(took);
    }

    /// The windows of a batch waited.
    pub(crate) fn waited(&self, model: &str, waits: impl Iterator<Item = Duration>) {
        let histogram = self.waits.get_or_create(&of(model));
        waits.for_each(|wait| histogram.observe(wait.as_secs_f64()));
    }

    /// Texts were looked up in the cache.
    pub(crate) fn cache(&self, found: usize, missing: usize) {
        for (name, count) in [("yes", found), ("no", missing)] {
            let counter = self.cache.get_or_create(&Cached { found: name });
            counter.inc_by(count as u64);
        }
    }

    /// Everything in Prometheus' text format, with `queued` tokens of each model.
    pub(crate) fn text(&self, queued: &[(String, usize)]) -> String {
        for (model, tokens) in queued {
            let tokens = i64::try_from(*tokens).unwrap_or(i64::MAX);
            self.queued.get_or_create(&of(model)).set(tokens);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn of(model: &str) -> Model {
    Model {
        model: model.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.answered("/v1/embeddings", "模型", 200, Duration::from_millis(3));
        metrics.batch("模型", 3, 51, Duration::from_millis(2));
        metrics.problem("busy");
        let text = metrics.text(&[("模型".into(), 7)]);
        for line in [
            r#"wenyi_requests_total{route="/v1/embeddings",status="200"} 1"#,
            r#"wenyi_request_duration_seconds_count{route="/v1/embeddings",model="模型"} 1"#,
            r#"wenyi_batch_tokens_sum{model="模型"} 51.0"#,
            r#"wenyi_problems_total{reason="busy"} 1"#,
            r#"wenyi_queued_tokens{model="模型"} 7"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
