//! Services with an API of their own and few calls, one file each.
//!
//! Owns the list of them and what several of them need: an estimate from an answer that is text and says little else.
//! A service is found by the end of the path, so that it is found behind any host and prefix; where a host answers
//! the paths of OpenAI too, those are the `openai` dialect's.

mod aleph_alpha;
mod deepgram;
mod huggingface;
mod llama_cpp;
mod replicate;
mod sagemaker;
mod watsonx;
mod writer;

use bytes::Bytes;
use memchr::memmem;

use super::{
    AnswerHead, Billing, BodyEnd, Call, Dialect, Endpoint, Problem, Quality, Reader, Reading, RequestFacts, Rewrite,
    Unreadable, Usage,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, parse_prefix},
    openai,
    read::{AbsentReader, JsonReader, NothingReader, is_success},
};

/// The dialect.
pub struct Others;

/// One service.
trait Service: Sync {
    /// The names of its calls that are not free.
    fn names(&self) -> &'static [&'static str];
    /// By the path's segments, the last one first.
    fn endpoint(&self, method: &str, last: [&str; 3]) -> Option<Endpoint>;
    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable>;
    /// For services whose requests take no ceiling, or are signed: nothing changes.
    fn rewrite(&self, _: Endpoint, body: &[u8], _: Rewrite) -> Result<Vec<u8>, Unreadable> {
        Ok(body.to_vec())
    }
    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader>;
}

/// Adding one: a file with a unit struct that implements [`Service`], and a line here.
static SERVICES: &[&dyn Service] = &[
    &watsonx::Watsonx,
    &sagemaker::SageMaker,
    &replicate::Replicate,
    &deepgram::Deepgram,
    &aleph_alpha::AlephAlpha,
    &llama_cpp::LlamaCpp,
    &writer::Writer,
    &huggingface::HuggingFace,
];

impl Dialect for Others {
    fn name(&self) -> &'static str {
        "others"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
        let last = std::array::from_fn(|_| segments.next().unwrap_or(""));
        SERVICES.iter().find_map(|service| service.endpoint(method, last))
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        service(call.endpoint).map_or_else(|| openai::request(call, body), |service| service.request(call, body))
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        match service(endpoint) {
            Some(service) => service.rewrite(endpoint, body, rewrite),
            None => openai::rewrite_body(endpoint, body, rewrite),
        }
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if !is_success(head) || call.endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        service(call.endpoint)
            .map_or_else(|| Box::new(AbsentReader) as Box<dyn Reader>, |service| service.reader(call, facts, head))
    }

    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        openai::error_body(problem)
    }
}

fn service(endpoint: Endpoint) -> Option<&'static dyn Service> {
    SERVICES.iter().copied().find(|service| service.names().contains(&endpoint.name))
}

/// A call that costs.
const fn metered(name: &'static str) -> Endpoint {
    Endpoint { name, billing: Billing::Metered }
}

const fn free(name: &'static str) -> Endpoint {
    Endpoint { name, billing: Billing::Free }
}

/// The member as an object; empty where it is none.
fn object<'a>(of: &'a RawObject<'_>, name: &str) -> RawObject<'a> {
    of.get(name).and_then(|raw| RawObject::parse(raw.as_bytes()).ok()).unwrap_or_default()
}

/// Sets a ceiling within an object of the request.
fn nested_ceiling(body: &[u8], outer: &'static str, inner: &'static str, ceiling: u64) -> Result<Vec<u8>, Unreadable> {
    let mut request = RawObject::parse(body)?;
    let old = request.get(outer).filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
    let mut parameters = RawObject::parse(old.as_bytes())?;
    parameters.set(inner, ceiling.to_string());
    request.set(outer, parameters.write());
    Ok(request.write().into_bytes())
}

/// Reads an answer that is text alone, of any framing. Where it says under `counted` how many tokens it generated,
/// that is the output; the input is the request's bound.
fn estimate(facts: &RequestFacts, counted: &'static str) -> Box<dyn Reader> {
    let (bounds, model, stream) = (Bounds::of(facts), facts.model.clone(), facts.stream);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        let Some(body) = body else { return Reading { model, ..Reading::absent() } };
        let bounds = if stream { bounds } else { bounds.of_document(end) };
        let mut reading = bounds.reading(model, body.len() as u64, end);
        if let (Some(output), BodyEnd::Complete, Quality::Estimated) = (counts(body, counted), end, reading.quality) {
            reading.usage = Usage { output_tokens: output, ..reading.usage };
        }
        reading
    }))
}

/// The sum of every member of that name.
fn counts(body: &[u8], name: &str) -> Option<u64> {
    let key = format!("\"{name}\"");
    let values = memmem::find_iter(body, &key).filter_map(|at| {
        let rest = body[at + key.len()..].trim_ascii_start().strip_prefix(b":")?;
        parse_prefix::<Count>(rest)?.0
    });
    values.fold(None, |sum: Option<u64>, n| Some(sum.unwrap_or(0).saturating_add(n)))
}

#[cfg(test)]
#[path = "others_tests.rs"]
mod tests;
