//! What a gRPC answer of xAI says about usage.
//!
//! `completion_tokens` leaves reasoning out. Cached tokens are a part of the prompt, except where a loop of tools at
//! the server counts them more than once: no more than the prompt is cached then. Every message of a stream has the
//! usage so far, and the last one's is final. Newer answers state the charge, tool calls included.

use crate::{
    money::Pico,
    usage::{
        BodyEnd, Call, Quality, Quantity, Reader, Reading, RequestFacts, ResultRef, Standing, Tools, Usage,
        estimate::Bounds, grpc::MessageReader, protobuf::Fields, read::Events,
    },
};

use super::{COMPACT, IMAGE, method};

/// Pico-dollars of a tick: ten billion ticks are a dollar.
const PICO_PER_TICK: u64 = 100;

/// The state of a deferred completion that is still being worked on.
const DEFERRED_PENDING: u64 = 3;

/// Where an answer's parts are: the numbers of their fields.
#[derive(Clone, Copy)]
struct Shape {
    outputs: u64,
    /// In an output, why it ended.
    finish: u64,
    model: u64,
    usage: u64,
    /// Each output is an image.
    images: bool,
}

const COMPLETION: Shape = Shape { outputs: 2, finish: 1, model: 6, usage: 9, images: false };
const CHUNK: Shape = Shape { outputs: 2, finish: 3, model: 4, usage: 6, images: false };
/// The ids of these parts are in no answer.
const NONE: u64 = 0;

impl Shape {
    fn of(call: &Call<'_>) -> Self {
        match (call.endpoint.name, method(call)) {
            (_, "GetCompletionChunk") => CHUNK,
            (IMAGE, _) => Self { outputs: 1, finish: NONE, model: 2, usage: 3, images: true },
            (COMPACT, _) => Self { outputs: NONE, finish: NONE, model: NONE, usage: 4, images: false },
            _ => COMPLETION,
        }
    }
}

pub(super) fn reader(call: &Call<'_>, facts: &RequestFacts) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    let deferred = match method(call) {
        "StartDeferredCompletion" => Deferred::Start,
        "GetDeferredCompletion" => Deferred::Get,
        _ => Deferred::No,
    };
    Box::new(MessageReader::new(Answer {
        shape: Shape::of(call),
        deferred,
        id: facts.text.as_deref().map(|id| String::from_utf8_lossy(id).into_owned()),
        stream: facts.stream,
        server_tools: facts.server_tools,
        // One message shows nothing of its length before all of it is there.
        bounds: if facts.stream { bounds } else { bounds.of_document(BodyEnd::Cut) },
        requested: facts.model.clone(),
        state: 0,
        model: None,
        usage: None,
        images: 0,
        messages: 0,
        visible_bytes: 0,
        finished: false,
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deferred {
    No,
    Start,
    Get,
}

/// What the messages of one answer say.
struct Answer {
    shape: Shape,
    deferred: Deferred,
    /// Of a deferred completion.
    id: Option<String>,
    state: u64,
    stream: bool,
    server_tools: bool,
    bounds: Bounds,
    requested: Option<String>,
    model: Option<String>,
    usage: Option<SamplingUsage>,
    images: u64,
    messages: u64,
    visible_bytes: u64,
    finished: bool,
}

impl Events for Answer {
    fn event(&mut self, _: &str, data: &[u8]) {
        self.messages += 1;
        self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
        match self.deferred {
            Deferred::No => self.read(Fields::of(data)),
            Deferred::Start => self.id = Fields::of(data).text(1),
            Deferred::Get => {
                self.state = Fields::of(data).number(2);
                if let Some(answer) = Fields::of(data).bytes(1) {
                    self.read(Fields::of(answer));
                }
            }
        }
    }

    /// Every message of a stream says its usage so far.
    fn so_far(&self) -> Option<Reading> {
        let model = self.model.clone().or_else(|| self.requested.clone());
        let said = self.usage.as_ref().filter(|_| self.stream && self.deferred == Deferred::No)?;
        Some(Reading { model, ..Reading::of(Quality::Estimated, said.usage()) })
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take().or_else(|| self.requested.take());
        let reading = match self.deferred {
            Deferred::Start if self.id.is_some() => Reading::nothing(),
            Deferred::Get if self.state == DEFERRED_PENDING => Reading::nothing(),
            // It failed, or is there no more.
            Deferred::Get if self.usage.is_none() && self.messages > 0 => Reading::nothing(),
            Deferred::No | Deferred::Start | Deferred::Get => self.metered(end, dropped),
        };
        Reading { model, result: self.result(), ..reading }
    }
}

impl Answer {
    fn read(&mut self, fields: Fields<'_>) {
        self.model = fields.text(self.shape.model).or(self.model.take());
        self.usage = fields.bytes(self.shape.usage).map(SamplingUsage::read).or(self.usage.take());
        for output in fields.all(self.shape.outputs) {
            self.images += 1;
            self.finished |= Fields::of(output).number(self.shape.finish) > 0;
        }
    }

    fn result(&mut self) -> Option<ResultRef> {
        let standing = match self.deferred {
            Deferred::No => return None,
            Deferred::Start => Standing::Pending,
            Deferred::Get if self.state == DEFERRED_PENDING => Standing::Pending,
            Deferred::Get => Standing::Repeat,
        };
        self.id.take().map(|id| ResultRef { id, standing })
    }

    fn metered(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let whole = end == BodyEnd::Complete && dropped == 0 && (self.finished || !self.stream);
        let mut reading = match self.usage.take() {
            Some(usage) if whole => usage.reading(),
            // Every later round of tools adds to the input, and its usage did not come.
            Some(_) if self.server_tools => Reading::absent(),
            Some(usage) => {
                let mut usage = usage.usage();
                usage.output_tokens = self.bounds.output_after(usage.output_tokens);
                Reading::of(Quality::Estimated, usage)
            }
            None if dropped > 0 => Reading::absent(),
            // A call that failed has no message; why is in the trailers.
            None if self.messages == 0 && end == BodyEnd::Complete => Reading::nothing(),
            None => self.bounds.reading(None, self.visible_bytes, end),
        };
        if self.shape.images && self.images > 0 {
            reading.units.insert("images".into(), Quantity::whole(self.images));
        }
        reading
    }
}

/// `SamplingUsage`: what a completion took.
struct SamplingUsage {
    completion: u64,
    prompt: u64,
    prompt_images: u64,
    reasoning: u64,
    cached: u64,
    tools: Tools,
    ticks: Option<u64>,
}

impl SamplingUsage {
    fn read(message: &[u8]) -> Self {
        let fields = Fields::of(message);
        let mut tools = Tools::new();
        for name in fields.numbers(9).filter_map(tool) {
            *tools.entry(name.into()).or_default() += 1;
        }
        Self {
            completion: fields.number(1),
            prompt: fields.number(2),
            prompt_images: fields.number(5),
            reasoning: fields.number(6),
            cached: fields.number(7),
            tools,
            ticks: fields.has(11).then(|| fields.number(11)),
        }
    }

    fn usage(&self) -> Usage {
        let cache_read = self.cached.min(self.prompt);
        Usage {
            input_tokens: self.prompt,
            input_uncached: self.prompt - cache_read,
            cache_read,
            input_image: self.prompt_images.min(self.prompt),
            output_tokens: self.completion.saturating_add(self.reasoning),
            reasoning_tokens: self.reasoning,
            ..Usage::default()
        }
    }

    fn reading(self) -> Reading {
        let reported = self.ticks.and_then(|t| i64::try_from(t.checked_mul(PICO_PER_TICK)?).ok()).map(Pico::new);
        let usage = self.usage();
        Reading { server_tools: self.tools, reported, ..Reading::of(Quality::Exact, usage) }
    }
}

/// The billed tool of that number in `ServerSideTool`. Looking at images and videos costs tokens alone.
fn tool(number: u64) -> Option<&'static str> {
    match number {
        1 => Some("web_search"),
        2 => Some("x_search"),
        3 => Some("code_interpreter"),
        6 => Some("file_search"),
        7 => Some("mcp"),
        8 => Some("attachment_search"),
        _ => None,
    }
}
