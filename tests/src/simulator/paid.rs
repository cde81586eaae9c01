//! What costs and is no model's. A resource behind x402, version 1 (github.com/x402-foundation/x402): it offers itself
//! for a cent of a dollar, and is there for whoever pays. And calls whose answers state what they bill.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{
    body::Answer,
    directive::Directive,
    log::{Exchange, Log},
};

/// Where it is.
pub const PATH: &str = "/paid";
/// Base64 of `{"success":true,"transaction":"0x1","network":"base","payer":"0x2"}`.
const SETTLED: &str = "eyJzdWNjZXNzIjp0cnVlLCJ0cmFuc2FjdGlvbiI6IjB4MSIsIm5ldHdvcmsiOiJiYXNlIiwicGF5ZXIiOiIweDIifQ==";

/// The answer of a search that bills a credit (as docs.tavily.com has it), or of a lookup that bills two records.
pub fn stated(path: &str) -> Option<Value> {
    match path {
        "/search" => Some(json!({"query": "q", "results": [], "response_time": 0.1, "usage": {"credits": 1}})),
        "/v1/lookup" => Some(json!({"found": ["a", "b"], "usage": {"records": 2}})),
        _ => None,
    }
}

pub fn answer(headers: &HeaderMap, mut record: Exchange, log: Arc<Log>) -> Response<Answer> {
    let paid = headers.contains_key("x-payment");
    let offer = json!({"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": [{
        "scheme": "exact", "network": "base", "maxAmountRequired": "10000", "resource": PATH,
        "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "payTo": "0x3", "maxTimeoutSeconds": 60,
    }]});
    record.status = if paid { 200 } else { 402 };
    let body = if paid { "\"worth a cent\"".to_owned() } else { offer.to_string() };
    let status = if paid { StatusCode::OK } else { StatusCode::PAYMENT_REQUIRED };
    let mut response = Response::new(Answer::start(vec![Bytes::from(body)], &Directive::default(), record, log));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if paid {
        response.headers_mut().insert("x-payment-response", HeaderValue::from_static(SETTLED));
    }
    response
}
