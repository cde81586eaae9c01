//! OpenAI's background responses (<https://platform.openai.com/docs/guides/background>): ordered by a POST, worked on
//! for as long as one look at them takes, then there for good.

use std::{collections::HashMap, sync::LazyLock};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::turn::{Billed, Turn};

static ORDERS: LazyLock<Mutex<HashMap<String, Order>>> = LazyLock::new(Mutex::default);

struct Order {
    model: String,
    billed: Billed,
    answer: Value,
    looks: u32,
}

/// A response as it stands.
pub struct Found {
    pub model: String,
    /// Nothing while it is worked on.
    pub billed: Billed,
    pub body: Value,
    pub done: bool,
}

/// Takes an order; what it is told is that it waits.
pub fn order(turn: &Turn, answer: Value) -> Found {
    let order = Order { model: turn.model.clone(), billed: turn.billed, answer, looks: 0 };
    let queued = order.unfinished("queued");
    let id = order.answer["id"].as_str().unwrap_or_default().to_owned();
    ORDERS.lock().insert(id, order);
    queued
}

/// The response that a GET asks for. The first look finds it unfinished.
pub fn find(method: &Method, path: &str) -> Option<Found> {
    let id = path.strip_prefix("/v1/responses/").filter(|_| method == Method::GET)?;
    let mut orders = ORDERS.lock();
    let order = orders.get_mut(id)?;
    order.looks += 1;
    if order.looks == 1 {
        return Some(order.unfinished("in_progress"));
    }
    let mut body = order.answer.clone();
    body["background"] = json!(true);
    Some(Found { model: order.model.clone(), billed: order.billed, body, done: true })
}

impl Order {
    fn unfinished(&self, status: &str) -> Found {
        let mut body = self.answer.clone();
        body["status"] = json!(status);
        body["background"] = json!(true);
        body["output"] = json!([]);
        body["usage"] = Value::Null;
        Found { model: self.model.clone(), billed: Billed::default(), body, done: false }
    }
}
