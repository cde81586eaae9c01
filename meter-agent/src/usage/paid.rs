//! Paid APIs that are no model's: web search and the like, by the call or by units that the answer states.
//!
//! Owns how such a call is found, bounded and read. A row (`rows.rs`) names hosts, calls and prices; a config adds rows
//! of its own (`own.rs`). What a unit is stays with the provider (`searches`, `credits`, `tokens`); its price stands in
//! the same row, since no catalogue has it.

mod own;
mod rows;

use bytes::Bytes;
use serde_json::Value;

pub use self::{own::OwnCall, rows::APIS};
use super::{
    AnswerHead, BodyEnd, Call, Dialect, Endpoint, Problem, Quality, Quantity, Reader, Reading, Renamed, RequestFacts,
    Rewrite, Unreadable, Usage,
    dialect::Billing,
    json::parse,
    like::is_like,
    openai,
    read::{JsonReader, NothingReader, is_success},
};
use crate::money::Pico;

/// The category of searches and of what reads the web.
pub const WEB_SEARCH: &str = "web-search";

/// One paid API.
#[derive(Debug, PartialEq, Eq)]
pub struct Api {
    /// As in the ledger.
    pub id: &'static str,
    /// Host names, lower case; none for an API of the config, whose host is an entry of its own.
    pub hosts: &'static [&'static str],
    /// The limit category that it falls under.
    pub category: &'static str,
    /// The first whose path fits is the call.
    pub calls: &'static [ApiCall],
}

/// One priced call of an API.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiCall {
    /// As in the ledger.
    pub name: &'static str,
    /// A pattern of the path, without its query.
    pub path: &'static str,
    /// Whether a GET is charged too.
    pub by_get: bool,
    pub unit: &'static str,
    /// Of one unit.
    pub price: Pico,
    /// Units of a call whose answer does not state them.
    pub each: u64,
    /// Most units of a call.
    pub most: u64,
    /// Where the answer states its units.
    pub pointers: &'static [&'static str],
    /// Where the answer states the charge itself, in dollars.
    pub charge: Option<&'static str>,
    /// What the request says that makes it more units: where, what, how many.
    pub more: &'static [(&'static str, &'static str, u64)],
    /// Where the request states how many units it is for at most.
    pub limit: Option<&'static str>,
    /// Where the price was read.
    pub source: &'static str,
}

/// The API of that id.
pub fn api(id: &str) -> Option<&'static Api> {
    APIS.iter().find(|api| api.id == id)
}

impl Api {
    /// The call of a path.
    fn call(&self, method: &str, path: &str) -> Option<&'static ApiCall> {
        let calls = self.calls;
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let charged = |call: &&ApiCall| call.by_get || !super::dialect::only_reads(method);
        let like = |path: &str| calls.iter().filter(charged).find(|call| is_like(path, call.path));
        like(path).or_else(|| like(&plain(path)))
    }

    /// The price of a unit of the call of that name, or of the dearest call where none is named.
    pub fn price_of(&self, call: Option<&str>, unit: &str) -> Option<Pico> {
        let of_unit = self.calls.iter().filter(|c| c.unit == unit);
        of_unit.filter(|c| call.is_none_or(|name| c.name == name)).map(|c| c.price).max()
    }

    /// The most that any call costs.
    pub fn worst(&self) -> Pico {
        self.calls.iter().map(|call| call.price.saturating_mul(call.most)).max().unwrap_or(Pico::ZERO)
    }
}

/// The path as a lenient server reads it: decoded, without parameters, empty and dot segments. A call in another
/// spelling is not free.
fn plain(path: &str) -> String {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let (bytes, mut decoded, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let code = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))).filter(|_| byte == b'%');
        let known = code.and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        decoded.push(known.unwrap_or(byte));
        at += if known.is_some() { 3 } else { 1 };
    }
    let decoded = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').map(|segment| segment.split(';').next().unwrap_or("")) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

impl Dialect for Api {
    fn name(&self) -> &'static str {
        self.id
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        self.call(method, path).map(|call| Endpoint { name: call.name, billing: Billing::Metered })
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let facts = RequestFacts { no_output: true, choices: 1, ..RequestFacts::default() };
        let Some(row) = self.row(call) else { return Ok(facts) };
        let most = if row.pointers.is_empty() { row.each } else { row.most.max(row.asked(body)) };
        let most = if row.charge.is_some() { row.most } else { most };
        Ok(RequestFacts {
            units: [(row.unit.into(), Quantity::whole(most))].into(),
            variant: Some(row.name.to_owned()),
            text: row.is_sized_by_request().then(|| body.clone()),
            ..facts
        })
    }

    fn rewrite(&self, _: Endpoint, body: &[u8], _: Rewrite) -> Result<Vec<u8>, Unreadable> {
        Ok(body.to_vec())
    }

    /// Not for these calls.
    fn renamed(&self, _: &Call<'_>, _: &[u8], _: &str) -> Result<Renamed, Unreadable> {
        Err(Unreadable("the model of this call can't be another one".to_owned()))
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        let Some(row) = self.row(call).filter(|_| is_success(head)) else { return Box::new(NothingReader) };
        let each = facts.text.as_ref().map_or(row.each, |body| row.asked(body));
        if row.pointers.is_empty() && row.charge.is_none() {
            return Box::new(JsonReader::new(move |_: Option<&[u8]>, _| row.reading(Quality::Exact, each)));
        }
        Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| row.read(body, each)))
    }

    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        openai::error_body(problem)
    }
}

impl Api {
    fn row(&self, call: &Call<'_>) -> Option<&'static ApiCall> {
        let calls = self.calls;
        calls.iter().find(|row| row.name == call.endpoint.name)
    }
}

impl ApiCall {
    fn is_sized_by_request(&self) -> bool {
        !self.more.is_empty() || self.limit.is_some()
    }

    /// Units of a call, as far as its request says.
    fn asked(&self, body: &[u8]) -> u64 {
        if !self.is_sized_by_request() {
            return self.each;
        }
        let Some(body) = parse::<Value>(body) else { return self.most };
        if let Some(limit) = self.limit.and_then(|at| body.pointer(at)).and_then(Value::as_u64) {
            return limit.clamp(1, self.most);
        }
        let says = |pointer: &str, value: &str| match body.pointer(pointer) {
            Some(Value::String(text)) => text == value,
            Some(Value::Bool(flag)) => flag.to_string() == value,
            _ => false,
        };
        let more = self.more.iter().filter(|(pointer, value, _)| says(pointer, value)).map(|(_, _, units)| *units);
        more.max().unwrap_or(self.each)
    }

    /// What the answer states, else what the request does. A row whose answers always state it is only estimated
    /// without.
    fn read(&self, body: Option<&[u8]>, each: u64) -> Reading {
        let document = body.and_then(parse::<Value>);
        let at = |pointer: &str| document.as_ref().and_then(|d| d.pointer(pointer));
        let number = |value: &Value| Quantity::from_f64(value.as_f64().or_else(|| value.as_str()?.parse().ok())?);
        let units = self.pointers.iter().find_map(|p| at(p).and_then(number));
        let charge = self.charge.and_then(at).and_then(dollars);
        let stated =
            units.map(|units| Reading { units: [(self.unit.into(), units)].into(), ..self.reading(Quality::Exact, 0) });
        let found = match (stated, &charge) {
            (Some(reading), _) => reading,
            (None, Some(_)) => self.reading(Quality::Exact, each),
            // What decides between a few units is in the request, which was read.
            (None, None) if !self.more.is_empty() => self.reading(Quality::Exact, each),
            (None, None) => Reading {
                reason: Some("the answer does not state its units"),
                ..self.reading(Quality::Estimated, each)
            },
        };
        Reading { reported: charge, ..found }
    }

    fn reading(&self, quality: Quality, units: u64) -> Reading {
        Reading {
            units: [(self.unit.into(), Quantity::whole(units))].into(),
            variant: Some(self.name.to_owned()),
            ..Reading::of(quality, Usage::default())
        }
    }
}

/// A charge in dollars; `None` for what can be none.
fn dollars(value: &Value) -> Option<Pico> {
    // In millionths of a micro-dollar a quantity is a pico-dollar.
    let micros = Quantity::from_f64(value.as_f64()? * 1e6)?;
    i64::try_from(micros.micros()).ok().map(Pico::new).filter(|p| *p <= Pico::CAP)
}

#[cfg(test)]
#[path = "paid_tests.rs"]
mod tests;
