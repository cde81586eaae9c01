//! The usage object of Messages, and the lines it makes.

use serde::Deserialize;

use super::request::surcharge;
use crate::{
    money::Pico,
    usage::{
        Line, Quality, Reading, Tools, Usage,
        json::{Count, items, lenient, text},
        reported::Charged,
    },
};

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessageUsage {
    input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    #[serde(deserialize_with = "lenient")]
    cache_creation: Option<CacheCreation>,
    output_tokens: Count,
    #[serde(deserialize_with = "lenient")]
    output_tokens_details: Option<OutputDetails>,
    #[serde(deserialize_with = "lenient")]
    server_tool_use: Option<ServerTools>,
    #[serde(deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "text")]
    inference_geo: Option<String>,
    #[serde(deserialize_with = "text")]
    speed: Option<String>,
    #[serde(deserialize_with = "items")]
    iterations: Vec<Iteration>,
    /// What the gateway says that it charges.
    #[serde(skip)]
    charge: Option<Pico>,
}

impl From<Charged<Self>> for MessageUsage {
    fn from(said: Charged<Self>) -> Self {
        Self { charge: said.charge, ..said.usage }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Count,
    ephemeral_1h_input_tokens: Count,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Count,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Count,
    web_fetch_requests: Count,
}

/// One run of a model within the message.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Iteration {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    #[serde(deserialize_with = "lenient")]
    cache_creation: Option<CacheCreation>,
    output_tokens: Count,
}

impl MessageUsage {
    /// Whether it says anything of tokens; an empty object does not.
    pub(super) fn is_stated(&self) -> bool {
        self.input_tokens.0.is_some() || self.says_output() || !self.iterations.is_empty()
    }

    pub(super) fn says_output(&self) -> bool {
        self.output_tokens.0.is_some()
    }

    /// Takes what a later event says; what it does not say stays.
    pub(super) fn replace(&mut self, later: Self) {
        self.input_tokens.replace(later.input_tokens);
        self.cache_read_input_tokens.replace(later.cache_read_input_tokens);
        self.cache_creation_input_tokens.replace(later.cache_creation_input_tokens);
        self.output_tokens.replace(later.output_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
        self.server_tool_use = later.server_tool_use.or(self.server_tool_use);
        self.service_tier = later.service_tier.or(self.service_tier.take());
        self.inference_geo = later.inference_geo.or(self.inference_geo.take());
        self.speed = later.speed.or(self.speed.take());
        self.charge = later.charge.or(self.charge);
        if !later.iterations.is_empty() {
            self.iterations = later.iterations;
        }
    }

    pub(super) fn describe(self, model: Option<String>) -> Described {
        // After a fallback the message may still name the model that refused.
        let model = self.served_by().or(model);
        let surcharge_percent = surcharge(self.inference_geo.as_deref(), self.speed.as_deref());
        let mut lines = self.lines();
        for line in &mut lines {
            line.surcharge_percent = surcharge_percent;
        }
        let calls = self.server_tool_use.unwrap_or_default();
        let counted = [("web_search", calls.web_search_requests), ("web_fetch", calls.web_fetch_requests)];
        let server_tools =
            counted.into_iter().filter(|(_, n)| n.get() > 0).map(|(name, n)| (name.into(), n.get())).collect();
        Described { model, service_tier: self.service_tier, server_tools, lines, charge: self.charge }
    }

    /// The top level is one line, unless there are runs that it does not hold.
    fn lines(&self) -> Vec<Line> {
        let plain = |it: &Iteration| it.kind.as_deref() == Some("message");
        if self.iterations.iter().all(plain) {
            return vec![Line { usage: self.top(), ..Line::default() }];
        }
        // A fallback chain's attempt without output is not billed.
        let billed = |it: &&Iteration| it.output_tokens.get() > 0 || !self.has_fallback();
        self.iterations
            .iter()
            .filter(billed)
            .map(|it| Line { model: it.model.clone(), usage: it.usage(), ..Line::default() })
            .collect()
    }

    /// The model that answered in the place of another.
    fn served_by(&self) -> Option<String> {
        let last = self.iterations.iter().rev().find(|it| it.kind.as_deref() == Some("fallback_message"));
        last.and_then(|it| it.model.clone())
    }

    fn has_fallback(&self) -> bool {
        self.iterations.iter().any(|it| it.kind.as_deref() == Some("fallback_message"))
    }

    fn top(&self) -> Usage {
        let usage = buckets(
            self.input_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
            self.cache_creation,
            self.output_tokens,
        );
        Usage { reasoning_tokens: self.output_tokens_details.unwrap_or_default().thinking_tokens.get(), ..usage }
    }
}

impl Iteration {
    fn usage(&self) -> Usage {
        buckets(
            self.input_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
            self.cache_creation,
            self.output_tokens,
        )
    }
}

fn buckets(input: Count, read: Count, written: Count, split: Option<CacheCreation>, output: Count) -> Usage {
    let split = split.unwrap_or_default();
    let hour = split.ephemeral_1h_input_tokens.get();
    let stated = split.ephemeral_5m_input_tokens.get();
    // The remainder of the whole that the split does not name has the default time to live.
    let five = stated.max(written.get().saturating_sub(hour));
    let (uncached, read) = (input.get(), read.get());
    Usage {
        input_tokens: uncached.saturating_add(read).saturating_add(five).saturating_add(hour),
        input_uncached: uncached,
        cache_read: read,
        cache_write_5m: five,
        cache_write_1h: hour,
        output_tokens: output.get(),
        ..Usage::default()
    }
}

/// A message's usage as lines to price.
pub(super) struct Described {
    pub(super) model: Option<String>,
    service_tier: Option<String>,
    server_tools: Tools,
    lines: Vec<Line>,
    charge: Option<Pico>,
}

impl Described {
    /// Whether the input was said: gateways start a stream before they know it, with zeros.
    pub(super) fn has_input(&self) -> bool {
        self.lines.iter().any(|line| line.usage.input_tokens > 0)
    }

    /// Output is at least what was said, and at most `bound`.
    pub(super) fn raise_output(&mut self, bound: u64) {
        if let Some(line) = self.lines.last_mut() {
            line.usage.output_tokens = line.usage.output_tokens.max(bound);
        }
    }

    /// The output of all lines together is at least what was seen of it.
    pub(super) fn raise_whole_output(&mut self, seen: u64) {
        let said = self.lines.iter().fold(0_u64, |sum, line| sum.saturating_add(line.usage.output_tokens));
        if let Some(line) = self.lines.last_mut() {
            line.usage.output_tokens = line.usage.output_tokens.saturating_add(seen.saturating_sub(said));
        }
    }

    pub(super) fn reading(self, quality: Quality) -> Reading {
        let usage = self.lines.iter().fold(Usage::default(), |sum, line| sum.plus(line.usage));
        let plain = matches!(self.lines.as_slice(), [line] if line.is_plain());
        Reading {
            model: self.model,
            service_tier: self.service_tier,
            server_tools: self.server_tools,
            // What a cut stream said of its charge is not the whole of it.
            reported: self.charge.filter(|_| quality == Quality::Exact),
            lines: if plain { Vec::new() } else { self.lines },
            ..Reading::of(quality, usage)
        }
    }
}
