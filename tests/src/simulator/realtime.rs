//! OpenAI Realtime (<https://platform.openai.com/docs/api-reference/realtime>): a WebSocket whose every
//! `response.create` is a turn, answered as the directive in the last text item says, and as often as its metadata's
//! `times` say. Where the query asks for `unnamed`, the session does not tell its model.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{
    body::Answer,
    directive::Directive,
    log::{End, Entry, Exchange, Log},
    turn::{Asked, Turn},
};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub fn is_asked(parts: &Parts) -> bool {
    parts.uri.path() == "/v1/realtime" && parts.headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

/// Answers the upgrade, and serves the socket once it is one.
pub fn upgrade(parts: &mut Parts, mut record: Exchange, log: Arc<Log>) -> Response<Answer> {
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let query = parts.uri.query().unwrap_or_default();
    let model = query.split('&').find_map(|pair| pair.strip_prefix("model="));
    let model = model.unwrap_or("gpt-realtime").to_owned();
    let says = (!query.contains("unnamed")).then(|| model.clone());
    record.status = 101;
    record.stream = true;
    record.usage_sent = true;
    record.requested_model.clone_from(&model);
    record.model.clone_from(&model);
    // A meter takes this away, so that it can read what passes.
    record.request = json!({"extensions": text(&parts.headers, header::SEC_WEBSOCKET_EXTENSIONS)});
    if let Some(upgraded) = parts.extensions.remove::<OnUpgrade>() {
        tokio::spawn(async move {
            let Ok(upgraded) = upgraded.await else { return };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            serve(socket, (model, says), record, log).await;
        });
    }
    let mut response = Response::new(Answer::nothing());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(accept) = key.and_then(|key| HeaderValue::from_str(&key).ok()) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// One socket: an error on it is its end. `says` is the model that it tells.
async fn serve(mut socket: Socket, (model, says): (String, Option<String>), record: Exchange, log: Arc<Log>) {
    let mut said = String::new();
    let created = json!({"type": "session.created", "event_id": "event_0", "session": session(says.as_deref())});
    if socket.send(Message::text(created.to_string())).await.is_err() {
        return;
    }
    let mut turns = 0;
    while let Some(Ok(message)) = socket.next().await {
        let Ok(event) = message.to_text().map(|text| serde_json::from_str::<Value>(text).unwrap_or_default()) else {
            continue;
        };
        match event["type"].as_str() {
            Some("conversation.item.create") => {
                let parts = event["item"]["content"].as_array().cloned().unwrap_or_default();
                said = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            }
            Some("response.create") => {
                let directive = Directive::find(&said).unwrap_or_default();
                let asked = Asked { model: model.clone(), characters: said.len(), stream: true, ..Asked::default() };
                let times = event["response"]["metadata"]["times"].as_str().and_then(|times| times.parse().ok());
                for _ in 0..times.unwrap_or(1) {
                    turns += 1;
                    let turn = Turn::new(&asked, &directive, turns, record.time_ms / 1000);
                    if say(&mut socket, &turn, &directive).await.is_err() {
                        return;
                    }
                    let exchange = Exchange { billed: turn.billed, end: End::Complete, ..record.clone() };
                    log.write(&Entry::Exchange(Box::new(exchange)));
                }
            }
            _ => {}
        }
    }
}

async fn say(
    socket: &mut Socket,
    turn: &Turn,
    directive: &Directive,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let id = format!("resp_rt{:04}", turn.id);
    let started = json!({"type": "response.created", "event_id": "e", "response": response(turn, &id, "in_progress")});
    socket.send(Message::text(started.to_string())).await?;
    tokio::time::sleep(Duration::from_millis(directive.ttfb_ms)).await;
    for piece in &turn.pieces {
        let delta = json!({"type": "response.output_text.delta", "event_id": "e", "response_id": id, "item_id": "i",
            "output_index": 0, "content_index": 0, "delta": piece});
        socket.send(Message::text(delta.to_string())).await?;
    }
    let mut done = response(turn, &id, "completed");
    let billed = &turn.billed;
    done["usage"] = json!({
        "total_tokens": billed.input_tokens + billed.output_tokens,
        "input_tokens": billed.input_tokens,
        "output_tokens": billed.output_tokens,
        "input_token_details": {"text_tokens": billed.input_tokens, "audio_tokens": 0, "image_tokens": 0,
            "cached_tokens": billed.cache_read,
            "cached_tokens_details": {"text_tokens": billed.cache_read, "audio_tokens": 0, "image_tokens": 0}},
        "output_token_details": {"text_tokens": billed.output_tokens, "audio_tokens": 0},
    });
    let done = json!({"type": "response.done", "event_id": "e", "response": done});
    socket.send(Message::text(done.to_string())).await
}

fn session(model: Option<&str>) -> Value {
    json!({"type": "realtime", "object": "realtime.session", "id": "sess_sim", "model": model})
}

fn response(turn: &Turn, id: &str, status: &str) -> Value {
    json!({"object": "realtime.response", "id": id, "status": status, "status_details": null, "output": [],
        "usage": null, "metadata": null, "model": turn.model})
}
