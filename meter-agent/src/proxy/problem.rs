//! What the agent is told when its request is not forwarded: the provider's own error shape.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{answer::AnswerBody, http::media_type};
use crate::{
    accounts::State,
    cashier::Refused,
    ids::AccountPath,
    money::Pico,
    usage::{Dialect, Problem},
};

/// What the agent is told; `asked` are its request's headers.
pub(crate) fn response(dialect: &dyn Dialect, problem: &Problem, asked: &HeaderMap) -> Response<AnswerBody> {
    if is_grpc(asked) {
        return grpc_response(problem);
    }
    let body = dialect.error_body(problem);
    let mut response = Response::new(AnswerBody::whole(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The official SDKs retry some statuses by themselves; only what may be different the next time is worth it.
    if problem.status < 500 || problem.status == 501 {
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|t| t.get(..16).is_some_and(|t| t.eq_ignore_ascii_case("application/grpc")))
}

/// An answer of trailers alone: gRPC has no other place for an error, and its clients look at no other
/// (gRPC over HTTP/2, "Responses").
fn grpc_response(problem: &Problem) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::nothing());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.extend(grpc_trailers(problem));
    response
}

/// How a gRPC call ends that fails.
pub(crate) fn grpc_trailers(problem: &Problem) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(grpc_status(problem.status)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&problem.text())) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// The code that says the same (google.rpc.Code).
const fn grpc_status(http: u16) -> &'static str {
    match http {
        // INVALID_ARGUMENT
        400 | 421 => "3",
        // PERMISSION_DENIED
        403 => "7",
        // UNIMPLEMENTED
        501 => "12",
        // UNAVAILABLE
        502 | 503 => "14",
        // RESOURCE_EXHAUSTED
        _ => "8",
    }
}

/// All but printable ASCII, and the percent sign, as `%XX` (gRPC over HTTP/2, "Percent-Encoded").
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

fn problem(status: u16, code: &'static str, message: String) -> Problem {
    Problem { status, code, message, budget: None }
}

pub(crate) fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Budget { facts, status } | Refused::Degrade { facts, status, .. } => {
            let message = format!("meter: {}.", facts.advice());
            Problem { status, code: "budget_exceeded", message, budget: Some(facts) }
        }
        Refused::Model { account, model } => {
            let named =
                if model.is_empty() { "a model that is not named".to_owned() } else { format!("the model `{model}`") };
            let message = format!("meter: account {account} may not use {named}; `models` of its config says so.");
            problem(403, "model_not_allowed", message)
        }
        Refused::NotOpen { account, state, reason, budget, status } => {
            let why = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
            let message = format!("meter: account {account} is {state}{why}, so no request is admitted.");
            Problem { status, code: "budget_exceeded", message, budget }
        }
        Refused::Crowded => no_room(),
        Refused::Ledger(why) => problem(
            503,
            "ledger_unavailable",
            format!("meter: the ledger can't be written ({why}), so nothing is admitted until it can."),
        ),
    }
}

/// Of a turn that grew beyond its hold; the sentence says it all.
pub(crate) fn refused_turn(sentence: String) -> Problem {
    problem(402, "budget_exceeded", sentence)
}

/// An answer has become dearer than its request could be, and a limit has no room for the rest.
pub(crate) fn over_its_hold(account: &AccountPath, cost: Pico, held: Pico) -> Problem {
    let message = format!(
        "meter: this answer was cut: it has cost ${cost} so far, more than the ${held} held for it, and a limit of \
         account {account} has no room for more; add to it with `meter fund {account} USD`."
    );
    problem(402, "budget_exceeded", message)
}

/// People have shut an account while it was at work.
pub(crate) fn shut(account: &AccountPath, state: State, reason: Option<&str>) -> Problem {
    let because = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let code = match state {
        State::Revoked => "account_revoked",
        State::Closed => "account_closed",
        State::Open | State::Draining | State::Stopped => "account_stopped",
    };
    problem(
        402,
        code,
        format!("meter: account {account} is {}{because}, so what it had under way was cut.", state.as_str()),
    )
}

pub(crate) fn too_large() -> Problem {
    let mib = super::body::REQUEST_MAX / (1024 * 1024);
    problem(413, "request_too_large", format!("meter: the request's body is larger than {mib} MiB."))
}

pub(crate) fn no_room() -> Problem {
    problem(503, "overloaded", "meter: too many large requests are under way on this host; try again.".to_owned())
}

pub(crate) fn misdirected(host: &str, asked: &str) -> Problem {
    problem(
        421,
        "misdirected_request",
        format!(
            "meter: the connection was made to {host}, but the request is for {asked}; use one connection per host."
        ),
    )
}

pub(crate) fn unreadable_payment() -> Problem {
    let message = "meter: what this payment is worth can't be read, so it is not forwarded; pay in a dollar coin, by one header of one request.";
    problem(402, "payment_unreadable", message.to_owned())
}

pub(crate) fn no_price(why: &str) -> Problem {
    problem(402, "price_unknown", format!("meter: {why}"))
}

pub(crate) fn unreadable(why: &str) -> Problem {
    problem(400, "invalid_request", format!("meter: {why}"))
}

pub(crate) fn upgrade() -> Problem {
    problem(
        501,
        "upgrade_not_metered",
        "meter: this upgrade is not one to a WebSocket that can be metered, so it is refused.".to_owned(),
    )
}

pub(crate) fn unreachable(host: &str, why: &str) -> Problem {
    problem(502, "bad_gateway", format!("meter: {host} could not be reached: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_client_is_told_in_trailers() {
        let mut asked = HeaderMap::new();
        asked.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let dialect = crate::usage::dialect("xai").unwrap();
        let problem = problem(402, "budget_exceeded", "spent: 100 % \u{fc}\n".to_owned());
        let response = response(dialect, &problem, &asked);
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (StatusCode::OK, &HeaderValue::from_static("8"))
        );
        assert_eq!(response.headers()["grpc-message"], "spent: 100 %25 %C3%BC%0A");
        assert!(http_body::Body::is_end_stream(response.body()), "nothing but headers");
        asked.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert_eq!(super::response(dialect, &problem, &asked).status(), 402);
    }
}
