//! A response object, and what is billed of it.
//!
//! A response that is still worked on has no usage yet: its id is what the charge waits for. A failed one states none
//! and costs nothing.

use memchr::memmem;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny},
};
use serde_json::value::RawValue;

use super::tools::{self, Item, Stated};
use crate::{
    money::Pico,
    usage::{
        BodyEnd, Line, Quality, Reading, ResultRef, Standing, Tools,
        estimate::Bounds,
        json::{Count, or_default, text},
        openai::tokens::{Tokens, lenient},
        reported,
    },
};

/// What an answer is in the life of its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// The answer to the request that made it.
    #[default]
    Made,
    /// The same, of a response that runs in the background.
    Background,
    /// A later look at the response of that id.
    Looked(String),
}

/// A response object.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    #[serde(deserialize_with = "text")]
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) model: Option<String>,
    #[serde(deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "text")]
    status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) background: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<ResponseUsage>,
    #[serde(deserialize_with = "lenient")]
    tool_usage: Option<ToolUsage>,
    error: Option<IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    output: Vec<Item>,
    #[serde(deserialize_with = "or_default")]
    tools: Vec<ToolOffered>,
}

/// The usage object: tokens, calls of tools and a charge stand side by side in it.
#[derive(Default)]
struct ResponseUsage {
    tokens: Tokens,
    tools: Stated,
    charge: Option<Pico>,
}

impl ResponseUsage {
    fn is_stated(&self) -> bool {
        self.tokens.is_stated() || self.charge.is_some()
    }
}

impl<'de> Deserialize<'de> for ResponseUsage {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        let tokens = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        let names_tools = memmem::find(raw.get().as_bytes(), b"\"server_").is_some();
        let tools = if names_tools { serde_json::from_str(raw.get()).unwrap_or_default() } else { Stated::default() };
        Ok(Self { tokens, tools, charge: reported::charge(raw.get().as_bytes()) })
    }
}

/// What tools used beside `usage`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct ToolUsage {
    #[serde(deserialize_with = "lenient")]
    image_gen: Option<Tokens>,
    #[serde(deserialize_with = "lenient")]
    web_search: Option<Searches>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Searches {
    num_requests: Count,
}

#[derive(Deserialize)]
struct ToolOffered {
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
}

/// What is known besides the response object.
#[derive(Clone, Default)]
pub(super) struct Context {
    pub(super) role: Role,
    pub(super) bounds: Bounds,
    /// The model that was asked for; `/responses/compact` names none in its answer.
    pub(super) asked_model: Option<String>,
    pub(super) visible_bytes: u64,
}

impl Answer {
    /// `counted`: calls of tools seen in a stream, whose last event may leave its output out.
    pub(super) fn reading(mut self, context: Context, counted: Tools, end: BodyEnd) -> Reading {
        // An empty object says as little as none.
        self.usage = self.usage.take().filter(ResponseUsage::is_stated);
        let is_waiting = self.is_waiting();
        let model = self.model.take().or(context.asked_model);
        let is_background = self.background == Some(true);
        let role = if is_background { context.role.in_background() } else { context.role };
        let mut reading = match &self.usage {
            Some(usage) => Reading { reported: usage.charge, ..Reading::of(Quality::Exact, usage.tokens.usage()) },
            None if is_waiting => role.waiting(),
            None if self.has_failed() => Reading::free("the response failed and states no usage"),
            None => role.unstated(context.bounds, context.visible_bytes, end),
        };
        reading.model = model;
        reading.server_tools = self.tool_calls(counted);
        self.add_images(&mut reading);
        reading.service_tier = self.service_tier;
        // What is still in the foreground is billed by its own answer, whoever looks at it meanwhile.
        let is_others = is_waiting && !is_background && matches!(role, Role::Looked(_));
        reading.result = if is_others { None } else { role.result(self.id, is_waiting) };
        reading
    }

    fn is_waiting(&self) -> bool {
        self.usage.is_none() && matches!(self.status.as_deref(), Some("queued" | "in_progress"))
    }

    fn has_failed(&self) -> bool {
        self.status.as_deref() == Some("failed") || self.error.is_some()
    }

    fn tool_calls(&self, counted: Tools) -> Tools {
        let mut calls = if self.output.is_empty() { counted } else { Tools::new() };
        tools::count(&self.output, &mut calls);
        if let Some(usage) = &self.usage {
            usage.tools.raise(&mut calls);
        }
        if let Some(searches) = self.tool_usage.and_then(|u| u.web_search) {
            tools::raise(&mut calls, "web_search", searches.num_requests.get());
        }
        calls
    }

    /// The image tool runs a model of its own, whose tokens are not in `usage`.
    fn add_images(&self, reading: &mut Reading) {
        const DEFAULT_MODEL: &str = "gpt-image-1";
        let Some(images) = self.tool_usage.and_then(|u| u.image_gen) else { return };
        let mut line = images.line();
        if line.is_plain() && line.usage == Line::default().usage {
            return;
        }
        if !images.splits_output() {
            line.usage.output_image = line.usage.output_tokens;
        }
        let tool = self.tools.iter().find(|tool| tool.kind.as_deref() == Some("image_generation"));
        let model = tool.and_then(|tool| tool.model.clone()).unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        let own = Line { usage: reading.usage, ..Line::default() };
        reading.usage = reading.usage.plus(line.usage);
        reading.lines = vec![own, Line { model: Some(model), ..line }];
    }
}

impl Role {
    pub(super) fn in_background(self) -> Self {
        match self {
            Self::Made | Self::Background => Self::Background,
            Self::Looked(id) => Self::Looked(id),
        }
    }

    /// Looking at what is still worked on costs nothing; making it will.
    fn waiting(&self) -> Reading {
        match self {
            Self::Made | Self::Background => Reading::absent(),
            Self::Looked(_) => Reading::free("the response is still worked on"),
        }
    }

    /// An answer without usage. A look says nothing of what was asked, so nothing bounds it.
    fn unstated(&self, bounds: Bounds, visible_bytes: u64, end: BodyEnd) -> Reading {
        match self {
            Self::Made | Self::Background => bounds.reading(None, visible_bytes, end),
            Self::Looked(_) => Reading::absent(),
        }
    }

    /// The response by which a later answer is known to be the same.
    pub(super) fn result(self, stated: Option<String>, is_waiting: bool) -> Option<ResultRef> {
        let (id, standing) = match self {
            Self::Looked(id) => (Some(id), if is_waiting { Standing::Pending } else { Standing::Repeat }),
            Self::Made | Self::Background if is_waiting => (stated, Standing::Pending),
            Self::Background => (stated, Standing::Final),
            Self::Made => return None,
        };
        id.map(|id| ResultRef { id, standing })
    }

    /// A stream that ended before it said what was used.
    pub(super) fn unfinished(self, id: Option<String>, bounds: Bounds, visible_bytes: u64, end: BodyEnd) -> Reading {
        match self {
            Self::Made => bounds.reading(None, visible_bytes, end),
            // It runs on without its stream, and a later look shows it.
            Self::Background => Reading { result: self.result(id, true), ..Reading::absent() },
            Self::Looked(_) => Reading::free("a look that was cut short"),
        }
    }
}
